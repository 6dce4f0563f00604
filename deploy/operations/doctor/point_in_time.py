"""Whether the database can go back to any second: the receiver of its WAL, and what it has kept."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from deploy.operations.doctor.files import hours
from deploy.operations.doctor.finding import Finding, error, ok, warning
from deploy.operations.doctor.server import Ask
from deploy.operations.pitr import copying
from deploy.operations.pitr.archive import Archive

LAG = 64 * 2**20
"""Bytes of WAL: more than four segments behind is no hiccup."""

RESTART = "docker compose up -d archive; docker compose logs --tail 20 archive"
BASE = "./deploy/rentomatic basebackup"
COPY = "./deploy/rentomatic archive --copy"


def receiver(ask: Ask) -> Finding:
    """The replication slot and the connection that reads it."""
    (row,) = ask(
        "SELECT slot_name AS slot, wal_status AS status, state, "
        "coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn), 0)::bigint AS kept, "
        "coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn), 0)::bigint AS lag "
        "FROM (VALUES ('archive')) AS ours (name) "
        "LEFT JOIN pg_replication_slots ON slot_name = name "
        "LEFT JOIN pg_stat_replication ON pid = active_pid AND state = 'streaming'"
    )
    if row["slot"] is None:
        return error("the server keeps no WAL for the archive", f"./deploy/rentomatic apply; {RESTART}")
    if row["status"] == "lost":
        return error("the archive was away for too long: WAL is lost, and it begins anew", RESTART)
    if row["state"] is None:
        return error(f"nobody receives WAL; {row['kept'] / 10**6:.0f} MB wait in the server", RESTART)
    text = f"WAL is received as it is written, {row['lag']} bytes behind"
    return ok(text) if row["lag"] < LAG else warning(text, RESTART)


def kept(archive: Archive, base_hours: int, now: datetime) -> Finding:
    """The base backups, the WAL since then, and the room for more."""
    if not archive.served:
        return error(f"nothing is kept in {archive.folder}", RESTART)
    last = archive.served[-1]
    bases = [base for base in archive.bases(last.system) if archive.way(base, last.timeline)]
    if not bases:
        return error("there is no base backup of what serves", BASE)
    for part in archive.way(bases[0], last.timeline):
        if missing := archive.missing(last.system, part):
            since = archive.oldest()
            text = f"the WAL segment {missing} is missing or cut off"
            if since is None:
                return error(f"{text}: no time of now can be reached", BASE)
            return warning(f"{text}: only times since {since:%Y-%m-%d %H:%M:%S} UTC can be reached", BASE)
    age = now - bases[-1].time
    if age > timedelta(hours=2 * base_hours + 1):
        return warning(f"the newest base backup is {hours(age)} old, and a restore takes long", BASE)
    size = sum(path.stat().st_size for path in bases[-1].folder.iterdir())
    status = os.statvfs(archive.folder)
    free = status.f_bavail * status.f_frsize
    if free < 2 * size + 200_000_000:
        return warning(
            f"{free / 10**9:.1f} GB free in {archive.folder}, and a base backup has {size / 10**9:.1f}",
            f"du -sh {shown(archive.folder)}/*/*; a smaller PITR_KEEP, then ./deploy/rentomatic apply",
        )
    return ok(f"can go back to any second since {bases[0].time:%Y-%m-%d %H:%M:%S} UTC")


def copied(place: str, every: timedelta | None, last: datetime | None, now: datetime) -> Finding:
    """When the archive was last whole in the other place."""
    if not place or every is None:
        return ok("the WAL stays on this host (BACKUP_TO and ARCHIVE_COPY_EVERY bring it to another place)")
    if last is None:
        return warning(f"the archive was never copied to {place}", f"{COPY}; ./deploy/rentomatic schedule")
    text = f"the archive was in {place} {hours(now - last)} ago"
    return ok(text) if now < copying.due(last, every) else error(text, COPY)


def shown(folder: Path) -> str:
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
