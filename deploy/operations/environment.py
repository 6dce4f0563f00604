"""The file `.env`: read as Compose reads it, changed in one step."""

import os
import re
from pathlib import Path

LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*(.*)")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def parse(text: str) -> dict[str, str]:
    """The variables of a .env; of two with one name the last counts."""
    found = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line.strip())
        if match:
            found[match[1]] = value(match[2])
    return found


def value(written: str) -> str:
    """A value without its quotes, or without the comment behind it."""
    if written.startswith("'"):
        return written[1:].partition("'")[0]
    if written.startswith('"'):
        inside = re.match(r'"((?:[^"\\]|\\.)*)', written)
        assert inside is not None
        return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[0]), inside[1])
    return re.sub(r"(^|\s+)#.*", "", written).strip()


def changed(text: str, name: str, new: str | None) -> str:
    """The text with another value of a variable, at the place of the old one; None takes it out."""
    line = f"{name}={new}"
    lines, done = [], new is None
    for old in text.splitlines():
        match = LINE.fullmatch(old.strip())
        if match is None or match[1] != name:
            lines.append(old)
        elif not done:
            lines.append(line)
            done = True
    if not done:
        lines.append(line)
    return "\n".join([*lines, ""])


def replace(path: Path, text: str, mode: int | None = None) -> None:
    """Write a file in one step: a reader finds the old text or the new one, also after a power cut."""
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    before = path.stat() if path.exists() else None
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if before is not None and os.getuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        if mode is None:
            mode = before.st_mode & 0o777 if before else 0o644
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
