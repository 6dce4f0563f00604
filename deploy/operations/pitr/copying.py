"""When the archive was last brought to BACKUP_TO, and when it has to be again."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

from deploy.operations import environment
from deploy.operations.project import Project
from deploy.operations.report import Failure

NOTE = ".archive-copied"
"""The file in deploy with what is known of the last copy."""

PATIENCE = timedelta(minutes=5)
"""How long a copy may take, besides the interval: that of a base backup takes longest."""


def copied(project: Project) -> dict[str, Any]:
    """Of the copies to BACKUP_TO their folder, and of the last its time and head; empty where none began."""
    try:
        found: dict[str, Any] = json.loads((project.deploy / NOTE).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if found.get("place") == project.backup_to else {}


def last(project: Project) -> datetime | None:
    """Since when, or later, the place has all that was kept here; None where it never had."""
    at = copied(project).get("at")
    return datetime.fromisoformat(at) if at else None


def note(project: Project, **facts: Any) -> None:
    environment.replace(project.deploy / NOTE, json.dumps(facts) + "\n", 0o644)


def interval(project: Project) -> timedelta | None:
    """ARCHIVE_COPY_EVERY; None where it is empty."""
    text = project.setting("ARCHIVE_COPY_EVERY")
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,3})(s|min|h)", text, re.ASCII)
    if not found:
        raise Failure(
            f"ARCHIVE_COPY_EVERY={text} is no interval; nothing was changed",
            "in .env ARCHIVE_COPY_EVERY=1min, or 30s, or 1h",
            status=2,
        )
    return int(found[1]) * timedelta(seconds={"s": 1, "min": 60, "h": 3600}[found[2]])


def due(last: datetime, every: timedelta) -> datetime:
    """When the next copy has to be there."""
    return last + 2 * every + PATIENCE
