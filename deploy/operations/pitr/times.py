"""The time to go back to, as people write it."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from deploy.operations.report import Failure

EXAMPLE = '--at "2026-11-21 10:00:05", "… +01:00" or "… Europe/Madrid"; or --at latest'
LATEST = "latest"
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?) ?(Z|[+-]\d\d(?::?\d\d)?|[A-Za-z][\w+/-]+)?"
)


def parse_at(text: str) -> datetime | None:
    """A time in UTC, None for the latest; Failure where it is none, or a clock shows it twice or never."""
    if text.strip() == LATEST:
        return None
    found = TIME.fullmatch(text.strip())
    if not found:
        raise refusal(f"{text!r} is no time")
    day, clock, zone = found[1], found[2], found[3] or "Z"
    try:
        if zone[0] in "Z+-" and zone != "Zulu":
            offset = zone if zone == "Z" or len(zone) > 3 else f"{zone}:00"
            return datetime.fromisoformat(f"{day}T{clock}{offset}").astimezone(UTC)
        return in_zone(datetime.fromisoformat(f"{day}T{clock}"), ZoneInfo(zone))
    except (ValueError, KeyError, OSError, OverflowError):
        raise refusal(f"{text!r} is no time, or its zone is not known") from None


def in_zone(naive: datetime, zone: ZoneInfo) -> datetime:
    first, second = (naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first != second:
        what = "comes twice" if first < second else "does not exist"
        raise refusal(f"{naive} {what} in {zone.key}, where clocks are changed then; give the offset")
    return first


def refusal(reason: str) -> Failure:
    return Failure(f"{reason}; nothing was changed", f"./deploy/rentomatic restore {EXAMPLE}", status=2)


def shown(time: datetime) -> str:
    """To the second, or as exact as it is."""
    return time.astimezone(UTC).isoformat(" ").replace("+00:00", " UTC")
