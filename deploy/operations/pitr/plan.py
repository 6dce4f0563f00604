"""How a point in time can be reached: from which base backup, along which WAL. Nothing is touched."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.operations import pitr, process
from deploy.operations.backup import free_bytes, megabytes
from deploy.operations.database import Database
from deploy.operations.docker import Docker
from deploy.operations.pitr.archive import Archive, Base, Part, Served
from deploy.operations.pitr.times import shown
from deploy.operations.pitr.volumes import DATA, Volumes
from deploy.operations.report import Failure, Report
from deploy.operations.wal import MISSING, SEGMENT_BYTES, end, lsn

LONGEST_RECORD = 2**16
"""Bytes, of nearly all: one that was cut off in a segment may have begun so far before it."""


@dataclass(frozen=True)
class Plan:
    """A recovery that can be made."""

    archive: Archive
    served: Served
    base: Base
    target: datetime | None
    """None: to the end of the WAL of that timeline."""
    wanted: datetime | None
    last: datetime | None
    """Of the last transaction in the WAL; None where there is none since the base backup."""
    bytes: int

    def __str__(self) -> str:
        where = (
            shown(self.wanted)
            if self.wanted
            else f"the latest that is kept, {shown(self.last or self.base.time)}"
        )
        return (
            f"To {where}: from the base backup of {shown(self.base.time)} ({megabytes(self.base.bytes)}), "
            f"then {megabytes(self.bytes)} of WAL."
        )

    def facts(self) -> dict[str, str]:
        return {
            "restored_to": (self.wanted or self.last or self.base.time).isoformat(),
            "base": self.base.folder.name,
            "wal_bytes": str(self.bytes),
        }


@dataclass(frozen=True)
class Scanned:
    """WAL as a recovery would read it."""

    last: datetime | None
    damage: str
    """What ends it before its end, in words; empty where nothing does."""


def ended_early(part: Part, newest: int, words: str) -> str:
    """
    Why the WAL of a part ended before its end, from pg_waldump's words; empty where it did not.

    `newest` is where the last segment of the timeline begins. What was cut off in that one is the end: the
    server was killed while it was sent.
    """
    if "error" not in words:
        return ""
    place = end(words) or 0
    if missing := MISSING.search(words):
        if part.end is None and place > newest:
            return ""
        return f"the WAL segment {missing[1]} is missing"
    if part.end is None and place >= newest - LONGEST_RECORD:
        return ""
    return f"the WAL is damaged ({words.removeprefix('pg_waldump: ')})"


class Planner:
    """Looks at what is kept, and changes nothing."""

    def __init__(self, docker: Docker, report: Report, database: Database | None) -> None:
        self.docker = docker
        self.report = report
        self.database = database
        self.project = docker.project
        self.archive = Archive(self.project)
        self.volumes = Volumes(docker)
        self.version = self.project.setting("POSTGRES_VERSION", "18")

    def plan(self, wanted: datetime | None) -> Plan:
        all_served = self.archive.served
        if not all_served:
            raise Failure(
                f"no WAL is kept in {self.archive.folder}; nothing was changed",
                "PITR=on in .env, then ./deploy/rentomatic apply; to go back to a backup, "
                "./deploy/rentomatic restore deploy/backups/rentomatic-DATE.dump",
            )
        now = datetime.now(UTC)
        is_current = self.mark()
        served = all_served[-1]
        for one in all_served if wanted else []:
            if wanted and one.time <= wanted:
                served = one
        # A base backup is named a second after its end: the latest time is behind it all the same.
        base = self.sound_base(served, wanted or now + timedelta(seconds=1))
        way = self.archive.way(base, served.timeline)
        scanned = self.scan(base.system, way)
        newest = self.archive.newest(served.system, served.timeline)
        written = newest[1] if newest else base.time
        target = wanted
        if wanted and (scanned.last is None or wanted >= scanned.last):
            # No transaction is behind that time: where the WAL is known to reach it, its end is the place.
            reaches = served.until is not None or is_current or wanted <= written
            if scanned.damage or not reaches:
                until = scanned.last or base.time
                why = f"; {scanned.damage}" if scanned.damage else ""
                raise Failure(
                    f"{shown(wanted)} is after the last transaction that is kept, of {shown(until)}{why}. "
                    f"{self.ranges()}; nothing was changed",
                    f'./deploy/rentomatic restore --at "{until:%Y-%m-%d %H:%M:%S}"'
                    + ("" if scanned.damage else ", or --at latest"),
                )
            target = None
        if wanted is None and scanned.damage:
            until = scanned.last or base.time
            raise Failure(
                f"{scanned.damage}: the WAL ends at {shown(until)}. {self.ranges()}; nothing was changed",
                f'./deploy/rentomatic restore --at "{until:%Y-%m-%d %H:%M:%S}"',
            )
        plan = Plan(
            self.archive, served, base, target, wanted, scanned.last, self.wal_bytes(base.system, way)
        )
        self.expect_room(plan)
        return plan

    def mark(self) -> bool:
        """
        Let a transaction of this moment reach the archive, so that every time before it can be recognised.

        False where the server is away or its WAL does not come: what is in the archive is all there is.
        """
        if self.database is None:
            return False
        try:
            self.database.execute("SELECT pg_logical_emit_message(true, 'rentomatic', 'restore')", timeout=10)
            (row,) = self.database.rows("SELECT pg_current_wal_flush_lsn()::text AS place", timeout=10)
        except (Failure, ValueError):
            return False
        query = (
            f"SELECT 1 FROM pg_stat_replication WHERE application_name = '{pitr.SLOT}' "
            f"AND flush_lsn >= '{row['place']}'"
        )
        arrived = process.wait_for(lambda: bool(self.database and self.database.rows(query)), 10, 0.2)
        if not arrived:
            self.report.warn("the newest WAL of the running server does not come to the archive")
        return arrived

    def sound_base(self, served: Served, before: datetime) -> Base:
        """The newest base backup that leads there and is what was saved."""
        bases = [
            base for base in self.archive.bases(served.system)
            if base.time <= before and self.archive.way(base, served.timeline)
        ]  # fmt: skip
        if bases:
            self.expect_version(bases[-1])  # whose tools alone can read it
        for base in reversed(bases):
            folder = str(base.folder.relative_to(self.archive.folder))
            done = self.tool("verify", f"/archive/{folder}")
            if done:
                return base
            self.report.warn(f"the base backup {base.folder.name} is damaged: {done.text[-300:]}")
        raise Failure(
            f"no base backup {'that is sound ' if bases else ''}leads to {shown(before)}. {self.ranges()}; "
            "nothing was changed",
            "./deploy/rentomatic restore --at a time of that; or restore a backup of deploy/backups",
        )

    def ranges(self) -> str:
        """What can be reached, in words."""
        found: list[tuple[datetime, datetime]] = []
        for served in self.archive.served:
            newest = self.archive.newest(served.system, served.timeline)
            end = served.until or (newest[1] if newest else served.time)
            bases = [base for base in self.archive.bases(served.system) if base.version == self.version]
            base = next((base for base in bases if self.archive.way(base, served.timeline)), None)
            if base and base.time <= end:
                begin = max(base.time, served.time)
                if found and begin <= found[-1][1]:
                    found[-1] = (found[-1][0], end)
                else:
                    found.append((begin, end))
        ranges = [f"from {begin:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}" for begin, end in found]
        return f"Can be reached: {' and '.join(ranges)} (UTC)" if ranges else "Nothing can be reached yet"

    def expect_version(self, base: Base) -> None:
        if base.version != self.version:
            raise Failure(
                f"the base backup of {shown(base.time)} is of PostgreSQL {base.version}, and {self.version} "
                f"serves. {self.ranges()}; nothing was changed",
                f"a time of that; or, where PostgreSQL {base.version} served then, "
                "./deploy/rentomatic upgrade --back first",
            )

    def scan(self, system: str, way: list[Part]) -> Scanned:
        """Read the WAL of a way; Failure where its tool cannot."""
        words = [
            word for part in way
            for word in (part.timeline, lsn(part.start), lsn(part.end) if part.end else "-")
        ]  # fmt: skip
        done = self.tool("scan", system, *words)
        lines = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
        if len(lines) != len(way):
            raise Failure(f"the WAL cannot be read: {done.text[-1000:]}; nothing was changed")
        last = None
        for part, (_, time, ended) in zip(way, lines, strict=True):
            if time:
                last = datetime.fromisoformat(time.replace(" UTC", "+00:00"))
            newest = self.archive.newest(system, part.timeline)
            if damage := ended_early(part, newest[0] if newest else 0, ended):
                return Scanned(last, damage)
        return Scanned(last, "")

    def wal_bytes(self, system: str, way: list[Part]) -> int:
        return sum(
            path.stat().st_size
            for path, timeline, start, _ in self.archive.segments(system)
            for part in way
            if timeline == part.timeline and start + SEGMENT_BYTES > part.start
            and (part.end is None or start <= part.end)
        )  # fmt: skip

    def expect_room(self, plan: Plan) -> None:
        """The files of the cluster, the WAL that a server keeps, and what it writes while it recovers."""
        needed = plan.base.bytes + min(plan.bytes, 1_100_000_000) + 200_000_000
        if self.volumes.is_folder:
            free = int(
                self.volumes.shell(self.volumes.first, f"df -P -B1 {DATA} | tail -n 1").stdout.split()[3]
            )
        else:
            root = self.docker("info", "--format", "{{.DockerRootDir}}").stdout.strip()
            try:
                free = free_bytes(Path(root))
            except OSError:  # an engine in a machine of its own
                return
        if free < needed:
            raise Failure(
                f"the disk of the database has {megabytes(free)} free, and the restore needs "
                f"{megabytes(needed)}; nothing was changed",
                "docker system df, docker volume ls; ./deploy/rentomatic doctor leftovers",
            )

    def tool(self, *words: str) -> process.Done:
        """A function of deploy/postgres/archive, in a container of its own."""
        mounts = [
            f"{self.archive.folder}:/archive:ro",
            f"{self.project.deploy}/postgres/archive:/archive.sh:ro",
        ]
        volumes = [word for one in mounts for word in ("--volume", one)]
        command = [
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            self.project.setting("RUN_AS", "10001:10001"),
        ]
        command += [*volumes, "--entrypoint", "sh", self.volumes.image, "/archive.sh", *words]
        return self.docker(*command, check=False)
