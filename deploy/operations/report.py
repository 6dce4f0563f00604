"""What a command tells: progress for people, one JSON object for programs, failures with the next step."""

import json
import sys
import time
from typing import Any


class Failure(Exception):
    """
    A command that could not do its work: the reason, what was changed, and the next step.

    The exit status: 1 failed; 2 the command line was wrong; 3 another command is at work.
    """

    def __init__(self, reason: str, next_step: str = "", status: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.next_step = next_step
        self.status = status

    def __str__(self) -> str:
        return f"{self.reason}. Next: {self.next_step}" if self.next_step else self.reason


class Report:
    """Progress goes to stdout as it comes; with `--json` to stderr, and stdout gets the result alone."""

    def __init__(self, command: str, as_json: bool = False) -> None:
        self.command = command
        self.as_json = as_json
        self.began = time.monotonic()
        self.steps: list[str] = []
        self.data: dict[str, Any] = {}

    def say(self, line: str = "") -> None:
        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(f"{line}\n")
        stream.flush()

    def step(self, line: str) -> None:
        """A part of the work begins."""
        self.steps.append(line)
        self.say(line)

    def warn(self, line: str) -> None:
        self.data.setdefault("warnings", []).append(line)
        sys.stderr.write(f"{self.command}: {line}\n")
        sys.stderr.flush()

    def show(self, text: str) -> None:
        """The words of another program that explain a failure."""
        if text.strip():
            sys.stderr.write(text.rstrip() + "\n")
            sys.stderr.flush()

    def finish(self, status: int, failure: Failure | None = None) -> None:
        """The last words: with `--json` the result."""
        if failure is not None:
            sys.stderr.write(f"{self.command}: {failure}\n")
        if self.as_json:
            result: dict[str, Any] = {"command": self.command, "ok": status == 0, "status": status}
            result |= {"seconds": round(time.monotonic() - self.began, 1), "steps": self.steps}
            if failure is not None:
                result |= {"error": failure.reason, "next": failure.next_step}
            sys.stdout.write(json.dumps(result | self.data) + "\n")
