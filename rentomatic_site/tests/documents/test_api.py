"""docs/api.md: its responses are real, and its tables have all that the API has."""

import html
import re
from typing import Any

import pytest

from rentomatic_site import postgres
from rentomatic_site.testing.database import wait_for_other_databases
from rentomatic_site.testing.documents import Command, Document
from rentomatic_site.tests.documents.conftest import Run
from rooms.api import changes
from rooms.api.formats import BY_MEDIA_TYPE, FORMATS
from rooms.api.operators import FILTERS, OPERATORS
from rooms.api.parameters import PARAMETERS, PARSERS
from rooms.columns import COLUMNS

API = Document("docs/api.md")


def code(cell: str) -> list[str]:
    """The words of a cell that are marked as code."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.needs("curl")
@pytest.mark.parametrize("command", API.commands, ids=str)
def test_response_is_the_one_that_is_shown(command: Command, on_book_rooms: Run) -> None:
    output = on_book_rooms(command)
    assert command.matches(output), output


def test_examples_are_there() -> None:
    assert len(API.commands) >= 10


def test_every_column_is_there_with_its_limits() -> None:
    limits = {code(row[0])[0]: row[3].replace("−", "-") for row in API.rows("## A list")}
    assert list(limits) == [*COLUMNS, "distance"]
    for column in COLUMNS.values():
        if column.limits:
            assert limits[column.name].startswith("{:,} to {:,}".format(*column.limits))


def test_every_filter_is_there() -> None:
    rows = [row for row in API.rows("## Filters") if code(row[0])[0] in COLUMNS]
    written = {f"filter_{code(row[0])[0]}__{operator}" for row in rows for operator in code(row[1])}
    assert written == set(FILTERS)


def test_every_operator_is_explained() -> None:
    rows = [row for row in API.rows("## Filters") if code(row[0])[0] not in COLUMNS]
    assert [key for row in rows for key in code(row[0])] == list(OPERATORS)


def test_every_parameter_is_there() -> None:
    rows = [row for row in API.rows("## Parameters") if len(row) == 3]
    assert [code(row[0])[0] for row in rows] == list(PARAMETERS)
    rows = [row for row in API.rows("## Changes") if len(row) == 3]
    assert [code(row[0])[0] for row in rows] == list(changes.PARAMETERS)


def test_the_mirror_that_is_shown_follows_the_rooms(live_site) -> None:
    (block,) = API.blocks("python")
    shown: dict[str, Any] = {}
    exec(block.replace("http://localhost:8000", live_site.url), shown)  # noqa: S102 - docs/api.md's own code
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:

        def followed(statement: str) -> bool:
            nonlocal position
            cursor.execute(statement)
            wait_for_other_databases(cursor)
            position = shown["update"](rooms, position)
            cursor.execute("SELECT code::text, price FROM room")
            return {key: room["price"] for key, room in rooms.items()} == dict(cursor.fetchall())

        rooms: dict[str, Any] = {}
        position = ""
        insert = "INSERT INTO room (code, price, latitude, longitude) SELECT gen_random_uuid(), 1, 0, 0"
        assert followed(f"{insert} FROM generate_series(1, 3)")
        assert followed(f"{insert}; UPDATE room SET price = 2 WHERE id = (SELECT min(id) FROM room)")
        assert followed("DELETE FROM room WHERE price = 2")
        assert len(rooms) == 3
        assert followed("TRUNCATE room")
        assert (rooms, position != "") == ({}, True)


def test_every_format_is_there() -> None:
    rows = API.rows("## Formats")
    assert sorted(word for row in rows for word in code(row[0])) == sorted(
        f"/rooms.{name}" for name in FORMATS
    )
    assert {code(row[1])[0] for row in rows} == set(BY_MEDIA_TYPE)


@pytest.mark.needs("curl")
def test_every_example_of_the_page_finds_rooms_of_the_demo(on_demo: Run) -> None:
    page = on_demo(Command("curl -s http://localhost:8000/docs", ""))
    commands = [html.unescape(found) for found in re.findall(r"<code>(curl [^<]*)</code>", page)]
    assert len(commands) > len(PARSERS)
    found = {command: on_demo(Command(command.replace("curl ", "curl -s "), "")) for command in commands}
    codes = re.compile(r'[0-9a-f]{8}-[0-9a-f-]{27}|"count": ?[1-9]|"try": |rel="next"|"price":[0-9]')
    assert [command for command, answer in found.items() if not codes.search(answer)] == []


@pytest.mark.needs("curl")
def test_headers_of_a_list_are_explained(on_book_rooms: Run) -> None:
    head = on_book_rooms(Command("curl -sI 'http://localhost:8000/rooms?count=exact'", ""))
    # What every HTTP server sends, and what tells browsers how to treat a page.
    usual = {"Server", "Date", "Connection", "Content-Type", "Content-Length", "Vary"}
    usual |= {"X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy"}
    sent = set(re.findall(r"^([\w-]+):", head, re.MULTILINE)) - usual
    assert sent <= {name for row in API.rows("## Headers") for name in code(row[0])}
