"""What the service `archive` has kept: base backups, WAL, and which cluster and timeline served when."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from deploy.operations.project import Project, parse_time
from deploy.operations.wal import SEGMENT_BYTES, history_lines, position, segment, segment_name

BASE = re.compile(r"(\d{8}T\d{6}Z)-([0-9A-F]{8})-(\d+)")


@dataclass(frozen=True, order=True)
class Base:
    """A base backup."""

    time: datetime
    """From which on it can be used."""
    timeline: str
    version: str
    folder: Path

    @property
    def system(self) -> str:
        return self.folder.parent.parent.name

    @cached_property
    def manifest(self) -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = json.loads((self.folder / "backup_manifest").read_text())
        return found

    @property
    def start(self) -> int:
        return position(self.manifest["WAL-Ranges"][0]["Start-LSN"])

    @property
    def bytes(self) -> int:
        """Of the files that it unpacks to."""
        return sum(int(file["Size"]) for file in self.manifest["Files"])


@dataclass(frozen=True)
class Part:
    """A part of the way of a recovery: WAL of one timeline, from a position to another or to its end."""

    timeline: str
    start: int
    end: int | None


@dataclass(frozen=True)
class Served:
    """That a timeline of a cluster served from a time on, until the next one did."""

    time: datetime
    system: str
    timeline: str
    until: datetime | None


class Archive:
    """The folder of the service `archive`."""

    def __init__(self, project: Project) -> None:
        self.folder = (project.folder / project.setting("PITR_FOLDER", "deploy/archive")).resolve()

    @property
    def served(self) -> list[Served]:
        """Oldest first; lines that a full disk has cut are left out."""
        try:
            text = (self.folder / "served").read_text()
        except FileNotFoundError:
            return []
        lines = [line.split() for line in text.splitlines() if re.fullmatch(r"\S{16} \d+ [0-9A-F]{8}", line)]
        times = [parse_time(line[0]) for line in lines]
        ends: list[datetime | None] = [*times[1:], None]
        return [
            Served(time, line[1], line[2], until)
            for time, line, until in zip(times, lines, ends, strict=False)
        ]

    def bases(self, system: str) -> list[Base]:
        """The base backups of a cluster, oldest first."""
        found = []
        for folder in (self.folder / system / "base").glob("*"):
            match = BASE.fullmatch(folder.name)
            if match and (folder / "backup_manifest").exists():
                found.append(Base(parse_time(match[1]), match[2], match[3], folder))
        return sorted(found)

    def runs(self, system: str) -> list[Path]:
        """The folders of WAL, by timeline and time; segments of one follow each other without a gap."""
        return sorted((self.folder / system / "wal").glob("????????-*"))

    def segments(self, system: str) -> Iterator[tuple[Path, str, int, bool]]:
        """Each file of WAL, with its timeline, the position where it begins, and whether it is whole."""
        for run in self.runs(system):
            for path in sorted(run.iterdir()):
                if found := segment(path.name):
                    yield path, *found

    def newest(self, system: str, timeline: str) -> tuple[int, datetime] | None:
        """Where the newest segment of a timeline begins, and when it was last written to."""
        found = [
            (start, path.stat().st_mtime)
            for path, of, start, whole in self.segments(system)
            if of == timeline and (whole or path.stat().st_size)
        ]
        if not found:
            return None
        return max(found)[0], datetime.fromtimestamp(max(time for _, time in found), UTC)

    def missing(self, system: str, part: Part) -> str:
        """
        The first segment of a part that is missing or cut off; empty where none is.

        That in which a timeline was left is read from the next one, and looked for there.
        """
        found = {
            place: path.stat().st_size
            for path, of, place, whole in self.segments(system)
            if of == part.timeline and (whole or path.stat().st_size)
        }
        first = part.start - part.start % SEGMENT_BYTES
        end = max(found, default=first) + 1 if part.end is None else part.end - part.end % SEGMENT_BYTES
        for place in range(first, end, SEGMENT_BYTES):
            if found.get(place) != SEGMENT_BYTES:
                return segment_name(part.timeline, place)
        return ""

    def ancestors(self, system: str, timeline: str) -> list[tuple[str, int]]:
        """The timelines that led to one, oldest first, each with the position at which it was left."""
        for path in (self.folder / system / "wal").glob(f"*/{timeline}.history"):
            return history_lines(path.read_text())
        return []

    def way(self, base: Base, timeline: str) -> list[Part]:
        """The WAL that leads from a base backup to the end of a timeline; empty where none does."""
        parts: list[Part] = []
        start = base.start
        for name, left in [*self.ancestors(base.system, timeline), (timeline, None)]:
            if not parts and name != base.timeline:
                continue
            if left is not None and left <= start:
                return []
            parts.append(Part(name, start, left))
            start = left or start
        return parts

    def oldest(self) -> datetime | None:
        """The earliest time to which the one that served last can go back without a missing segment."""
        if not self.served:
            return None
        last = self.served[-1]
        for base in self.bases(last.system):
            way = self.way(base, last.timeline)
            if way and not any(self.missing(last.system, part) for part in way):
                return base.time
        return None
