"""Round values for rooms that fail an expectation, wherever they still fail it in the same way."""

from collections.abc import Iterator
from typing import Any

from rentomatic_site.lab.bench import Bench, Fields
from rooms.columns import COLUMNS

ROUNDED_ONE_BY_ONE = 20
"""Rooms up to which the values of each are made round by themselves."""

PLAIN: Fields = {"price": 100, "size": 20, "latitude": 51.5, "longitude": -0.1}
"""The values of a room that does not matter."""


def make_round(bench: Bench) -> None:
    """Leave out what `room()` fills in, and make values round, wherever the rooms fail in the same way."""
    result = bench.result
    assert result.rooms is not None

    def attempt(rooms: list[Fields]) -> bool:
        if rooms == result.rooms or not bench.fails_with(rooms):
            return False
        result.rooms = rooms
        return True

    given = ("code", *[name for name in COLUMNS if name != "code"])
    if not attempt([{name: room[name] for name in given} for room in result.rooms]):
        for name in [name for name in bench.columns if name not in given]:
            attempt([{key: value for key, value in room.items() if key != name} for room in result.rooms])
    attempt([room | {"code": plain_code(number)} for number, room in enumerate(result.rooms, 1)])
    for name in [name for name in given if name in PLAIN]:
        attempt([room | {name: PLAIN[name]} for room in result.rooms])
    if len(result.rooms) > ROUNDED_ONE_BY_ONE:
        return
    for number in range(len(result.rooms)):
        for name in given:
            for value in rounder(name, number + 1, result.rooms[number][name]):
                rooms = list(result.rooms)
                rooms[number] = rooms[number] | {name: value}
                if value == result.rooms[number][name] or attempt(rooms):
                    break


def rounder(name: str, number: int, value: Any) -> Iterator[Any]:
    """Values for a column that are rounder than this one, the roundest first."""
    if name == "code":
        yield plain_code(number)
    elif isinstance(value, int):
        yield PLAIN.get(name, value)
        for digits in range(len(str(abs(value))) - 1, 0, -1):
            yield round(value, -digits)
    elif isinstance(value, float):
        yield PLAIN.get(name, value)
        for decimals in range(6):
            yield round(value, decimals)
    else:
        yield value


def plain_code(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"
