"""A mirror of the rooms: the client that docs/api.md describes."""

import json
from collections.abc import Callable
from typing import Any


class Mirror:
    """
    The rooms by their codes, kept equal to the table's by `update`.

    `ask` requests a path and returns the status and the lines of the response.
    """

    def __init__(self, ask: Callable[[str], tuple[int, list[str]]]) -> None:
        self.ask = ask
        self.cursor = ""
        self.rooms: dict[str, dict[str, Any]] = {}
        self.copies = 0
        self.complete_to: str | None = None

    def update(self) -> None:
        """Read all changes; all rooms the first time, and where the changes are not kept any more."""
        status, lines = self.ask(f"/rooms/changes?after={self.cursor}" if self.cursor else "/rooms/changes")
        if status == 410:
            self.cursor = ""
            self.update()
            return
        if status in {429, 503}:
            return
        assert status == 200, (status, lines)
        if not self.cursor:
            self.rooms = {}
            self.copies += 1
        for line in lines:
            self.apply(json.loads(line))

    def apply(self, line: dict[str, Any]) -> None:
        if "cursor" in line:
            self.cursor = line["cursor"]
            self.complete_to = line.get("complete_to", self.complete_to)
        elif line.get("deleted"):
            self.rooms.pop(line["code"], None)
        else:
            self.rooms[line["code"]] = line
