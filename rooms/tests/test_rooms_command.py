"""`./manage.py rooms`: the API's list on the terminal."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from rentomatic_site import postgres
from rooms.api.parameters import LISTED
from rooms.factories import RoomFactory
from rooms.models import Room

pytestmark = pytest.mark.django_db

committed = pytest.mark.django_db(transaction=True)
"""For tests in which another process sees the rooms."""


def ask(*arguments):
    """The stdout of the command, run in this process; raises CommandError."""
    written = io.StringIO()
    call_command("rooms", *arguments, stdout=written)
    return written.getvalue()


@pytest.fixture
def rooms():
    return [
        RoomFactory(
            code=f"f853578c-fc0f-4e65-81b8-566c5dffa35{digit}",
            price=price,
            size=size,
            latitude=51.5,
            longitude=-0.1,
        )
        for digit, (price, size) in enumerate([(39, 215), (66, 405), (60, None), (48, 93)])
    ]


def prices(table):
    return [int(line.split()[-3]) for line in table.splitlines() if line.startswith("f853578c")]


def test_arguments_query_strings_and_urls_are_equivalent(rooms):
    for arguments in (
        ["price__lt=66", "size__gte=50", "order=-price"],
        ["price__lt=66&size__gte=50&order=-price"],
        ["filter_price__lt=66&filter_size__gte=50&order=-price"],
        ["?filter_price__lt=66&filter_size__gte=50", "order=-price"],
        ["http://localhost:8000/rooms?filter_price__lt=66&filter_size__gte=50&order=-price"],
        ["/rooms.csv?filter_price__lt=66&filter_size__gte=50&order=-price"],
    ):
        assert prices(ask(*arguments)) == [48, 39], arguments


def shown(arguments, capsys):
    """What the command writes to stdout and to stderr."""
    call_command("rooms", *arguments)
    return capsys.readouterr()


@pytest.mark.parametrize("name", ["json", "csv", "ndjson", "geojson"])
def test_stderr_says_that_more_rooms_follow_a_page(rooms, capsys, name):
    out, error = shown(["order=price", "limit=3", "--format", name], capsys)
    assert out.count("f853578c") == (3 if name != "geojson" else 6)
    command = shlex.split(error.removeprefix("More: "))
    assert command[:2] == ["./manage.py", "rooms"]
    out, error = shown([command[2], "--format", name], capsys)
    assert out.count("f853578c") == (1 if name != "geojson" else 2)
    assert error == ""


def test_stderr_says_that_json_has_a_hundred_rooms_at_most(capsys):
    Room.objects.bulk_create(RoomFactory.build_batch(101))
    out, error = shown(["--format", "json"], capsys)
    assert len(json.loads(out)) == 100
    assert error.startswith('More: ./manage.py rooms "after=')
    out, error = shown(["--format", "geojson"], capsys)
    assert len(json.loads(out)["features"]) == 101
    assert out.endswith("]}\n")
    assert error == ""


def test_fields_are_the_columns_of_the_table(rooms):
    heading, *lines = ask("fields=price,code", "order=price", "limit=2").splitlines()
    assert heading.split() == ["price", "(euros", "per", "day)", "code"]
    assert [line.split()[0] for line in lines[:2]] == ["39", "48"]


def test_options_may_stand_between_arguments(rooms):
    for arguments in (
        ["price__lt=66", "--format", "csv", "order=price"],
        ["--format=csv", "price__lt=66", "order=price"],
        ["price__lt=66", "order=price", "--format=csv", "-v1"],
    ):
        assert [line.split(",")[2] for line in ask(*arguments).splitlines()[1:]] == ["39", "48", "60"], (
            arguments
        )


def test_the_table_has_units_and_a_count(rooms):
    heading, *lines, total = ask("price__lte=60", "order=price").splitlines()
    assert re.split(r"  +", heading) == [
        "code",
        "size (m²)",
        "price (euros per day)",
        "latitude (degrees)",
        "longitude (degrees)",
    ]
    assert len({len(line) for line in lines}) == 1
    assert total == "3 rooms"
    assert ask("price__lt=40").splitlines()[-1] == "1 room"
    assert ask("price__lt=4").splitlines()[-1] == "0 rooms"
    assert ask("price__lt=4", "count=exact").splitlines()[-1] == "0 rooms of 0 (exact)"
    assert ask("limit=1", "count=exact").splitlines()[-2] == "1 room of 4 (exact)"
    assert "distance" in ask("near=-0.1,51.5").splitlines()[0]


@committed
def test_the_hint_for_more_works_when_it_is_pasted(manage, rooms):
    written, seen = manage("rooms", "limit=2", "order=price").stdout, []
    while True:
        seen += prices(written)
        more = re.search(r"^More: \./manage\.py (.*)$", written, re.MULTILINE)
        if not more:
            break
        written = manage(*shlex.split(more[1])).stdout
    assert seen == [39, 48, 60, 66]


READ = {
    "json": json.loads,
    "ndjson": lambda text: [json.loads(line) for line in text.splitlines()],
    "csv": lambda text: list(csv.DictReader(io.StringIO(text))),
    "geojson": lambda text: [feature["properties"] for feature in json.loads(text)["features"]],
}


@pytest.mark.parametrize("output_format", READ)
@pytest.mark.parametrize("limit", [4, 2])
def test_every_format_is_that_of_the_api(client, rooms, output_format, limit):
    arguments = ["order=price"] if limit == 4 else ["order=price", f"limit={limit}"]
    written = ask(*arguments, "--format", output_format)
    assert [int(room["price"]) for room in READ[output_format](written)] == [39, 48, 60, 66][:limit]
    served = b"".join(client.get(f"/rooms.{output_format}?{'&'.join(arguments)}")).decode()
    assert written.rstrip("\n") == served.rstrip("\n")


def test_a_stream_writes_all_rooms_and_a_table_a_hundred():
    Room.objects.bulk_create(RoomFactory.build_batch(2_100))
    assert len(ask("--format=csv").splitlines()) == 2_101
    assert len(ask("--format=ndjson").splitlines()) == 2_100
    assert len(json.loads(ask("--format=json"))) == 100
    assert "100 rooms\nMore: " in ask()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prize__lt=66"], "prize__lt: unknown parameter (did you mean price__lt?)"),
        (["price__lt=x"], "price__lt: must be a whole number"),
        (["price__lt=1", "price__lt=2"], "price__lt: is given twice"),
        (["price__lt=1", "filter_price__lt=2"], "price__lt: is given twice"),
        (["price"], "price: unknown parameter"),
        (["limit=0"], "limit: must be from 1 to 1000"),
        (["after=x"], "after: is no cursor of this search"),
        (["price__lt=66 size__gte=50"], "price__lt: must be a whole number"),
        (["order=prize"], "order: must name fields out of"),
        (["near=0,0&within=x"], "within: must be a whole number"),
        (["price__lt=%00"], "price__lt: must be a whole number"),
    ],
)
def test_an_error_is_reported_with_a_command_that_works(rooms, arguments, message):
    with pytest.raises(CommandError) as reported:
        ask(*arguments)
    assert message in str(reported.value)
    following = re.search(r"^Next: \./manage\.py rooms (.*)$", str(reported.value), re.MULTILINE)
    ask(*shlex.split(following[1]))


@committed
def test_all_mistakes_come_at_once_on_stderr(manage):
    result = manage("rooms", "prize__lt=66", "limit=0", "near=x")
    assert (result.returncode, result.stdout) == (1, "")
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
        "CommandError",
        "limit",
        "near",
        "Next",
    ]
    assert "prize__lt" in result.stderr


def test_explain_shows_the_statement_and_the_plan(rooms):
    statement, plan = ask("price__lt=66", "order=-size", "--explain").split("\n\n", 1)
    assert "room.price < 66" in statement
    assert "LIMIT 101" in statement
    assert "%s" not in statement
    assert "actual time" in plan
    assert "Buffers" in plan


def test_help_lists_all_filters_and_parameters_and_says_read_only(manage):
    arguments = " ".join(manage("rooms", "--help").stdout.split())
    assert "nothing is changed" in arguments
    for name in LISTED:
        assert name.removeprefix("filter_") in arguments
    assert "zoom" not in arguments  # of the map


@committed
@pytest.mark.parametrize("output_format", ["csv", "ndjson", "table"])
def test_a_pipe_closed_by_head_is_no_error(site_env, output_format):
    Room.objects.bulk_create(RoomFactory.build_batch(5_000))
    command = (
        f"set -o pipefail; {shlex.quote(sys.executable)} manage.py rooms --format={output_format} | head -n 1"
    )
    done = subprocess.run(["bash", "-c", command], env=site_env, capture_output=True, text=True, timeout=60)
    assert (len(done.stdout.splitlines()), done.stderr, done.returncode) == (1, "", 0)


def test_a_database_that_is_away_is_named_with_the_next_step(manage):
    result = manage("rooms", env={"DATABASE_URL": "postgres://postgres:secret-word@127.0.0.1:1/rooms"})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "CommandError: The database cannot be reached at the moment. Next: ./manage.py wait_for_db\n"
    )


def test_a_database_without_tables_is_named_with_the_next_step(manage, site_env):
    name = f"test_empty_{os.getpid()}"
    with postgres.session() as server:
        postgres.create_database(server, name)
        try:
            result = manage("rooms", env={"DATABASE_URL": postgres.url(name)})
        finally:
            postgres.drop_database(server, name)
    assert (result.returncode, result.stdout) == (1, "")
    assert "Next: ./manage.py migrate" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_format_that_is_not_there_is_named(manage):
    result = manage("rooms", "--format=xml")
    assert result.returncode != 0
    assert "invalid choice: 'xml'" in result.stderr
