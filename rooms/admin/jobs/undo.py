"""
Undoing a job: exactly its rooms get the values back that they had, where nobody has changed them since.

A room fits where its version is the one that the job left; a deleted one, where it is still gone and no other
room has its code. An undo is a job too, of the same records, so that it can be undone.
"""

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils.translation import gettext, ngettext_lazy

from rooms.admin import history
from rooms.admin.actions import large
from rooms.admin.jobs.record import TITLE_LENGTH, set_job
from rooms.admin.locks import StaleVersionError
from rooms.admin.numbers import grouped
from rooms.admin.recorded import column_label, show_value
from rooms.columns import COLUMNS
from rooms.models import Job, Room
from rooms.naming import room_name

COUNT_TIMEOUT = "12s"
"""Of the statement that looks at all rooms of a job; REQUEST_TIMEOUT is 15 s."""

NAMES = ", ".join(COLUMNS)

# Of `noted`, a row of room_job_room, beside its `room`, where there is one. A later row of a deleted room has
# a higher version: it was restored, and deleted again.
FITS = """
CASE WHEN noted.gone THEN
    room.id IS NULL
    AND NOT EXISTS (
        SELECT FROM room_job_room AS later
        WHERE later.room_id = noted.room_id AND later.version > noted.version
    )
    AND NOT EXISTS (SELECT FROM room AS other WHERE other.code = noted.code)
ELSE
    coalesce(room.version = noted.version, false)
    AND (
        noted.before IS NULL
        OR (noted.before->>'code')::uuid = noted.code
        OR NOT EXISTS (SELECT FROM room AS other WHERE other.code = (noted.before->>'code')::uuid)
    )
END
"""

COUNT = f"""
SELECT
    count(*) FILTER (WHERE fits AND gone),
    count(*) FILTER (WHERE fits AND before IS NULL AND NOT gone),
    count(*) FILTER (WHERE fits AND before IS NOT NULL AND NOT gone),
    count(*) FILTER (WHERE NOT fits),
    coalesce(bit_xor(hashint8extended(room_id, version)) FILTER (WHERE fits), 0)
FROM (
    SELECT noted.room_id, noted.version, noted.gone, noted.before, {FITS} AS fits
    FROM room_job_room AS noted LEFT JOIN room ON room.id = noted.room_id
    WHERE noted.job_id = %s
    OFFSET 0  -- so that `fits` is computed once a room, and not in each of the counts
) AS looked_at
"""  # noqa: S608, of our own parts

SHOWN = f"""
SELECT noted.room_id, noted.code::text, noted.before, to_jsonb(room), (
    SELECT max(later.job_id) FROM room_job_room AS later
    WHERE later.room_id = noted.room_id AND later.job_id > noted.job_id
)
FROM room_job_room AS noted LEFT JOIN room ON room.id = noted.room_id
WHERE noted.job_id = %s AND ({FITS}) = %s ORDER BY noted.room_id LIMIT %s
"""  # noqa: S608, of our own parts

LOCK = """
SELECT FROM room JOIN room_job_room AS noted ON noted.room_id = room.id
WHERE noted.job_id = %s AND noted.room_id > %s AND noted.room_id <= %s ORDER BY room.id FOR UPDATE OF room
"""

BATCH_END = """
SELECT max(room_id), count(*) FROM (
    SELECT room_id FROM room_job_room WHERE job_id = %s AND room_id > %s ORDER BY room_id LIMIT %s
) AS batch
"""

CHANGES = ", ".join(
    f"CASE WHEN old.{name} IS DISTINCT FROM new.{name} THEN concat('{name} ',"
    f" coalesce(old.{name}::text, 'unknown'), ' → ', coalesce(new.{name}::text, 'unknown')) END"
    for name in COLUMNS
)
"""The parts of `history.format_changes` as SQL."""

# A column that is younger than the job keeps its present value: it is not in the noted row.
# A room that another transaction adds with the same key or code meanwhile is left to it.
WRITE = f"""
WITH batch AS MATERIALIZED (
    SELECT noted.room_id, noted.gone, noted.before IS NULL AS added, noted.version AS left_version, former.*
    FROM room_job_room AS noted
    LEFT JOIN room ON room.id = noted.room_id
    CROSS JOIN LATERAL jsonb_populate_record(room, noted.before) AS former
    WHERE noted.job_id = %(undone)s AND noted.room_id > %(after)s AND noted.room_id <= %(last)s AND {FITS}
), changed AS (
    UPDATE room SET {", ".join(f"{name} = batch.{name}" for name in COLUMNS)}
    FROM batch WHERE room.id = batch.room_id AND NOT batch.gone AND NOT batch.added
    RETURNING room.id, room.code, concat_ws(', ', {CHANGES}) AS message
), deleted AS (
    DELETE FROM room USING batch WHERE room.id = batch.room_id AND batch.added AND NOT batch.gone
    RETURNING room.id, room.code, concat_ws(', ', {history.ROOM_SQL}) AS message
), restored AS (
    INSERT INTO room (id, created_at, version, {NAMES})
    SELECT room_id, created_at, left_version + 1, {NAMES} FROM batch WHERE gone ORDER BY room_id
    ON CONFLICT DO NOTHING RETURNING id, code, 'restored' AS message
), written AS (
    SELECT id, code, message, {CHANGE} AS flag FROM changed
    UNION ALL SELECT id, code, message, {DELETION} FROM deleted
    UNION ALL SELECT id, code, message, {ADDITION} FROM restored
), logged AS (
    {history.LOG_INTO}
    SELECT clock_timestamp(), %(user)s, %(type)s, id::text, code::text, flag,
        concat(message, ' (undo of job ', %(undone)s::text, ')')
    FROM written
)
SELECT count(*) FROM written
"""  # noqa: S608, of our own parts

# The state before the undone job is there again: earlier jobs that left it can be undone next.
RENUMBER = """
UPDATE room_job_room AS earlier SET
    version = CASE WHEN earlier.version = undone.was THEN undoing.version ELSE earlier.version END,
    was = CASE WHEN earlier.was = undone.was THEN undoing.version ELSE earlier.was END
FROM room_job_room AS undone JOIN room_job_room AS undoing ON undoing.room_id = undone.room_id
WHERE undone.job_id = %(undone)s AND undone.room_id > %(after)s AND undone.room_id <= %(last)s
    AND undoing.job_id = %(undoing)s AND NOT undoing.gone
    AND earlier.room_id = undone.room_id AND earlier.job_id <> undoing.job_id
    AND (earlier.version = undone.was OR earlier.was = undone.was)
"""


@dataclass(frozen=True)
class Preview:
    """How many rooms an undo would add again, delete again, change back and leave alone."""

    restored: int
    deleted: int
    changed: int
    refused: int
    fingerprint: str
    """Differs where the rooms that fit differ."""

    @property
    def total(self) -> int:
        return self.restored + self.deleted + self.changed

    @property
    def permissions(self) -> list[str]:
        """What an undo takes."""
        needed = {"add": self.restored, "delete": self.deleted, "change": self.changed}
        return [name for name, number in needed.items() if number]

    @property
    def summary(self) -> str:
        """As in "3 rooms get their old values back, 1 room is deleted again"."""
        parts = (
            (
                self.changed,
                ngettext_lazy(
                    "%(number)s room gets its old values back",
                    "%(number)s rooms get their old values back",
                    "n",
                ),
            ),
            (
                self.restored,
                ngettext_lazy(
                    "%(number)s deleted room is added again", "%(number)s deleted rooms are added again", "n"
                ),
            ),
            (
                self.deleted,
                ngettext_lazy(
                    "%(number)s added room is deleted again", "%(number)s added rooms are deleted again", "n"
                ),
            ),
        )
        return ", ".join(text % {"n": number, "number": grouped(number)} for number, text in parts if number)


def preview(job: Job) -> Preview:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [COUNT_TIMEOUT])
        cursor.execute(COUNT, [job.pk])
        restored, deleted, changed, refused, rooms = cursor.fetchone()
        cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    return Preview(restored, deleted, changed, refused, f"{job.pk}:{restored + deleted + changed}:{rooms}")


@dataclass(frozen=True)
class NotedRoom:
    """One room of a job: what it was, what it is, and the last job that changed it later."""

    room_id: int
    code: str
    name: str
    exists: bool
    was: str
    now: str
    later_job: int | None


def noted_rooms(job: Job, *, fitting: bool, limit: int) -> list[NotedRoom]:
    """Some rooms of a job that fit, or that don't, in the order of their keys."""
    with connection.cursor() as cursor:
        cursor.execute(SHOWN, [job.pk, fitting, limit])
        return [noted_room(*row) for row in cursor.fetchall()]


def noted_room(
    room_id: int, code: str, before_json: str | None, now_json: str | None, later_job: int | None
) -> NotedRoom:
    """With the values that differ, or all of a room that wasn't there, or isn't."""
    before, now = (json.loads(row) if row else {} for row in (before_json, now_json))
    if before and now:
        names = [name for name in COLUMNS if name in before and before[name] != now[name]]
    else:
        names = [name for name in COLUMNS if name != "code"]
    place = {name: (now or before)[name] for name in ("size", "latitude", "longitude")}
    return NotedRoom(
        room_id,
        code,
        room_name(Room(**place)),
        bool(now),
        describe(before, names) or gettext("not there"),
        describe(now, names) or gettext("deleted"),
        later_job,
    )


def describe(row: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{column_label(name)} {show_value(row[name])}" for name in names if name in row)


def lock_rooms_of(job: Job) -> None:
    """Lock all rooms of a small job."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [job.pk, 0, 2**63 - 1])


@transaction.atomic
def undo_at_once(job: Job, user: Any, shown: str) -> Job:
    """
    Undo a job of few rooms in one transaction. StaleVersionError where the rooms that fit are not those of
    the preview with this fingerprint.
    """
    lock_rooms_of(job)
    now = preview(job)
    if now.fingerprint != shown:
        raise StaleVersionError
    undoing = begin(job, user, now)
    while undoing.state == Job.State.RUNNING:
        undoing = undo_batch(undoing.pk)
    if undoing.changed != now.total:
        raise StaleVersionError
    return undoing


def begin(job: Job, user: Any, now: Preview) -> Job:
    """The job of an undo, of which nothing is done yet."""
    title = f"Undo job {job.pk}" if job.undoes_id else f"Undo job {job.pk}: {job.title}"
    return Job.objects.create(
        user_id=user.pk,
        title=title[:TITLE_LENGTH],
        undoes=job,
        operation="undo",
        parameters={"permissions": now.permissions},
        total=now.total,
    )


@transaction.atomic
def undo_batch(pk: int) -> Job:
    """Bring the next rooms back; rooms and history are written by one statement."""
    job = Job.objects.select_for_update().get(pk=pk)
    if job.state != Job.State.RUNNING:
        return job
    if large.is_expired(job):
        return large.finish(job, Job.State.CANCELLED)
    size = large.size_of_batch(job)
    with connection.cursor() as cursor:
        cursor.execute(BATCH_END, [job.undoes_id, job.last_id, size])
        last, number = cursor.fetchone()
        if number:
            write(cursor, job, last)
        if number < size:
            job.state = Job.State.DONE
    job.save()
    return job


def write(cursor: CursorWrapper, job: Job, last: int) -> None:
    values = {
        "undone": job.undoes_id,
        "undoing": job.pk,
        "after": job.last_id,
        "last": last,
        "user": job.user_id,
        "type": ContentType.objects.get_for_model(Room).pk,
    }
    cursor.execute(LOCK, [job.undoes_id, job.last_id, last])
    set_job(str(job.pk))
    cursor.execute(WRITE, values)
    (written,) = cursor.fetchone()
    set_job("")
    cursor.execute(RENUMBER, values)
    job.changed += written
    job.last_id = last
