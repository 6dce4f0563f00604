"""What a check of `doctor` finds."""

from dataclasses import dataclass

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"


@dataclass(frozen=True)
class Finding:
    """How it is, in words; where it is not well, the command that mends it or shows more."""

    level: str
    text: str
    command: str = ""


def ok(text: str) -> Finding:
    return Finding(OK, text)


def warning(text: str, command: str) -> Finding:
    return Finding(WARNING, text, command)


def error(text: str, command: str) -> Finding:
    return Finding(ERROR, text, command)


def skipped(text: str) -> Finding:
    return Finding(SKIPPED, text)
