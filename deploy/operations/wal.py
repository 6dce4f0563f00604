"""PostgreSQL's write-ahead log (WAL): its places (LSN), its files, and where a stopped server's ends."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

SEGMENT_BYTES = 16 * 2**20

SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
MISSING = re.compile(r'could not (?:find|open) file "(?:\S*/)?([0-9A-F]{24})"')
"""What pg_waldump says of a segment that is not there."""
ENDED = re.compile(r"(?: at|, LSN) ([0-9A-F]+/[0-9A-F]+)")
"""
What pg_waldump says of a record that is none, the place last: `error in WAL record at 0/330DAB8: invalid
record length at 0/330DAE8: …`, `… unexpected pageaddr 0/2000000 in WAL segment …, LSN 0/4000000, offset 0`.
"""
CONTROL = re.compile(r"^([^:\n]+): *(.*)$", re.M)


def position(text: str) -> int:
    """A place in the WAL (LSN), such as 0/3000148, as a number of bytes."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn(place: int) -> str:
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


class Segment(NamedTuple):
    """A file of WAL, by its name."""

    timeline: str
    """Eight hexadecimal digits."""
    start: int
    """The place where it begins."""
    whole: bool
    """Else it is still received, or its timeline was left in it."""


def segment(name: str) -> Segment | None:
    """None where a file has another name."""
    match = SEGMENT.fullmatch(name)
    if not match:
        return None
    return Segment(match[1], (int(match[2], 16) << 32) + int(match[3], 16) * SEGMENT_BYTES, not match[4])


def segment_name(timeline: str, place: int) -> str:
    """Of the file in which a place is."""
    return f"{timeline}{place >> 32:08X}{place % 2**32 // SEGMENT_BYTES:08X}"


def history_lines(text: str) -> list[tuple[str, int]]:
    """A timeline's ancestors, oldest first, and where each was left; some lines are blank."""
    lines = [line.split("\t") for line in text.splitlines()]
    return [(f"{int(line[0]):08X}", position(line[1])) for line in lines if len(line) >= 2]


@dataclass(frozen=True)
class Stopped:
    """What the data of a server that does not run say of its WAL."""

    cleanly: bool
    """Then its last record is the checkpoint."""
    timeline: str
    """The newest that it has written. For minutes after a promotion the checkpoint is on an older one."""
    start: int
    """Where to read that timeline from: the last checkpoint, or where the timeline's first segment begins."""
    ancestors: Mapping[str, int]
    """Where each timeline was left that led to it."""

    def shared(self, timeline: str, place: int) -> int:
        """Up to where another server that has WAL of a timeline to a place has the same as this one."""
        return min(place, self.ancestors.get(timeline, place))


LOOK = """
pg_controldata "$PGDATA" && cd "$PGDATA/pg_wal" && ls || exit
history=$(ls | grep -x '[0-9A-F]*[.]history' | tail -n 1)
[ -z "$history" ] || cat "$history"
"""
"""The shell commands that print what `stopped` reads."""


def stopped(text: str) -> Stopped:
    """The same from what these commands print."""
    control = dict(CONTROL.findall(text))
    checkpoint = position(control["Latest checkpoint location"])
    timeline = format(int(control["Latest checkpoint's TimeLineID"]), "08X")
    cleanly = control["Database cluster state"].startswith("shut down")
    segments = [found for found in map(segment, text.splitlines()) if found and found.whole]
    ancestors = dict(history_lines(text))
    newest = max((found.timeline for found in segments), default=timeline)
    if cleanly or newest == timeline:
        return Stopped(cleanly, timeline, checkpoint, ancestors)
    first = min(found.start for found in segments if found.timeline == newest)
    return Stopped(cleanly, newest, max(first, checkpoint), ancestors)


def end(words: str) -> int | None:
    """Where WAL ends, from the last words of pg_waldump that has read it; None where they do not tell."""
    if missing := MISSING.search(words):
        after = segment(missing[1])
        return after.start if after else None
    found = ENDED.findall(words)
    return position(found[-1]) if found else None
