"""
Bulk changes of more rooms than one transaction takes: batches of BATCH rooms, in the order of their keys,
each one transaction with its history. Readers never wait, and other writers for one batch at most.

A preview's form has the database's snapshot, signed. A batch takes the rooms of the list whose rows that
snapshot had: a room that somebody changed or added since is left as it is, and so is one that an earlier
batch has changed. A batch that is repeated, or run twice at the same time, therefore changes nothing twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import CHANGE
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.db import OperationalError, connection, transaction
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest, HttpResponseRedirect, QueryDict
from django.utils import timezone

from rooms.admin.history import LOG_INTO
from rooms.admin.jobs.record import set_job
from rooms.admin.list_filters import selection_time
from rooms.api.errors import STATEMENT_TIMEOUT
from rooms.models import Job, Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

BATCH = 5_000
"""Rooms of one transaction, which locks them for about 0.3 s. Halved where a statement may not take long."""
LIFETIME = timedelta(days=1)
"""How long after its preview a change may go on: transaction ids are compared, which begin again one day."""
SALT = "rooms.admin.actions.large"

# A row's xmin has the last 32 bits of the transaction id that wrote it. The rest follows from the
# transactions that begin within this request, fewer than 2^24; a row of more than 4 billion transactions ago
# is frozen, and at worst is taken for changed.
IN_SNAPSHOT = """
pg_visible_in_snapshot(
    greatest(%s - ((%s - room.xmin::text::bigint) & 4294967295), 3)::text::xid8, %s::pg_snapshot
)
"""
HORIZON = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + (1 << 24)"

LOGGED = f"""
{LOG_INTO}
SELECT clock_timestamp(), %s, %s, id::text, code::text, %s, message FROM written
"""  # noqa: S608, of our own parts


@dataclass(frozen=True)
class Operation:
    """What a bulk change does with each room."""

    permission: str
    rooms: Callable[[QuerySet, dict[str, Any]], QuerySet]
    """Those of the rooms that are to change, with what `write` reads of them; without order."""
    write: str
    """SQL: changes the rooms of `batch`, returning `id`, `code` and the `message` of the history."""
    message: Callable[[dict[str, Any]], list[Any]] = lambda parameters: []
    """The values of the placeholders in `write`."""
    flag: int = CHANGE


def in_snapshot(rooms: QuerySet, snapshot: str) -> QuerySet:
    """The rooms whose rows are as the snapshot saw them."""
    with connection.cursor() as cursor:
        cursor.execute(HORIZON)
        (horizon,) = cursor.fetchone()
    return rooms.filter(RawSQL(IN_SNAPSHOT, [horizon, horizon, snapshot], BooleanField()))  # noqa: S611 - a constant


def current_snapshot() -> str:
    """The snapshot of the preview, to be taken before its rooms are read."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        (snapshot,) = cursor.fetchone()
    return str(snapshot)


def sign(request: HttpRequest, operation: str, parameters: dict[str, Any], snapshot: str, total: int) -> str:
    """What a preview showed, for its confirmation."""
    shown = {
        "user": request.user.pk,
        "operation": operation,
        "parameters": parameters,
        "query": request.GET.urlencode(),
        "seen_at": selection_time(request).isoformat(),
        "snapshot": snapshot,
        "total": total,
    }
    return signing.dumps(shown, salt=SALT)


def confirmed(request: HttpRequest, operation: str, parameters: dict[str, Any], title: str) -> Job | None:
    """The change that the request confirms; None where it confirms none, or another one."""
    if "confirm" not in request.POST:
        return None
    try:
        shown = signing.loads(request.POST.get("fingerprint", ""), salt=SALT, max_age=LIFETIME)
    except signing.BadSignature:
        return None
    sent = [request.user.pk, operation, parameters, request.GET.urlencode()]
    if [shown.pop("user"), shown["operation"], shown["parameters"], shown["query"]] != sent:
        return None
    shown["seen_at"] = datetime.fromisoformat(shown["seen_at"])
    return Job(user_id=request.user.pk, title=title, **shown)


def start(change: Job) -> HttpResponseRedirect:
    """Store the change, and redirect to its page, which begins it."""
    change.save()
    return HttpResponseRedirect(f"{change.get_absolute_url()}?start=yes")


def selection(model_admin: "RoomAdmin", request: HttpRequest, change: Job) -> QuerySet:
    """The rooms of the list that the change was begun from; filters on time count from the preview."""
    request.GET = QueryDict(change.query)
    request.selection_time = change.seen_at  # type: ignore[attr-defined]  # for list_filters.py
    rooms: QuerySet = model_admin.get_export_queryset(request)
    return rooms


def size_of_batch(change: Job) -> int:
    return change.batch_size or BATCH


def run(pk: int, run_next: Callable[[], Job], seconds: float) -> Job:
    """Run batches for so long, at least one; returns how far it came."""
    stop = time.monotonic() + seconds
    while True:
        try:
            change = run_next()
        except OperationalError as error:
            if getattr(error.__cause__, "pgcode", None) not in STATEMENT_TIMEOUT:
                raise
            change = halve_batches(pk, error)
        if change.state != Job.State.RUNNING or time.monotonic() >= stop:
            return change


@transaction.atomic
def halve_batches(pk: int, error: OperationalError) -> Job:
    """What a slow machine can finish is found by halves; the error, where even one room takes too long."""
    change = Job.objects.select_for_update().get(pk=pk)
    size = size_of_batch(change)
    if size == 1:
        raise error
    change.batch_size = size // 2
    change.save()
    return change


@transaction.atomic
def run_batch(pk: int, operation: Operation, rooms: QuerySet) -> Job:
    """Change the next rooms; rooms and history are written by one statement."""
    change = Job.objects.select_for_update().get(pk=pk)
    if change.state != Job.State.RUNNING:
        return change
    if is_expired(change):
        return finish(change, Job.State.CANCELLED)
    size = size_of_batch(change)
    batch = operation.rooms(in_snapshot(rooms, change.snapshot), change.parameters)
    batch = batch.filter(pk__gt=change.last_id).order_by("pk")[:size].select_for_update()
    batch_sql, values = batch.query.sql_with_params()
    room_type = ContentType.objects.get_for_model(Room).pk
    set_job(str(change.pk))
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH batch AS MATERIALIZED ({batch_sql}), written AS ({operation.write}), "  # noqa: S608, of our own parts
            f"logged AS ({LOGGED}) SELECT count(*), max(id) FROM written",
            [*values, *operation.message(change.parameters), change.user_id, room_type, operation.flag],
        )
        number, last = cursor.fetchone()
    set_job("")
    change.changed += number
    change.last_id = last or change.last_id
    return finish(change, Job.State.RUNNING if number == size else Job.State.DONE)


def is_expired(change: Job) -> bool:
    """Whether it was not finished in its time, and is not continued."""
    return (change.seen_at or change.created_at) < timezone.now() - LIFETIME


def finish(change: Job, state: str) -> Job:
    change.state = state
    change.save()
    return change


@transaction.atomic
def cancel(change: Job) -> Job:
    """Stop after the batch that is under way."""
    change = Job.objects.select_for_update().get(pk=change.pk)
    return finish(change, Job.State.CANCELLED) if change.state == change.State.RUNNING else change
