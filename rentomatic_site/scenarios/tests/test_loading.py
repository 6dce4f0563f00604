"""load_scenario, as a developer uses it: fill, keep, reset, expect, and look at what failed."""

import re

import pytest

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases, names
from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.rig import wait_until

THREE = """
    '''Three rooms.'''
    from rooms.seeding import room

    def run():
        for price in (30, 60, 90):
            room(price=price)
"""


def test_a_scenario_is_a_database_of_its_own_with_its_rooms(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    done = workshop.load("t_three")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Scenario t_three: filled in \d+\.\d\d s; 3 rooms, .* seed 1\.", done.stdout)
    assert workshop.prices("t_three") == [30, 60, 90]


def test_the_lines_that_it_prints_work_as_they_are(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    lines = workshop.load("t_three").stdout.splitlines()
    assert "  rooms      SCENARIO=t_three ./manage.py rooms" in lines
    listed = workshop.manage("rooms", "--format", "csv", SCENARIO="t_three")
    assert len(listed.stdout.splitlines()) == 1 + 3
    assert "  SQL shell  SCENARIO=t_three ./manage.py dbshell" in lines
    shell = workshop.run_manage(
        "dbshell", "--", "-Atc", "SELECT sum(price) FROM room", env={"SCENARIO": "t_three"}
    )
    assert shell.stdout == "180\n"


def test_loading_again_keeps_the_rooms_and_reset_restores_them(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.load("t_three")
    first = workshop.sql("t_three", "SELECT code, size, price, latitude, longitude FROM room ORDER BY id")
    workshop.sql("t_three", "DELETE FROM room WHERE price = 30")

    assert "kept as it is" in workshop.load("t_three").stdout
    assert workshop.prices("t_three") == [60, 90]

    assert "loaded from its template" in workshop.load("t_three", "--reset").stdout
    again = workshop.sql("t_three", "SELECT code, size, price, latitude, longitude FROM room ORDER BY id")
    assert again == first


def test_a_reset_ends_the_connections_to_the_database(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.load("t_three")
    with postgres.session("scenario_t_three") as other:
        other.execute("BEGIN; DELETE FROM room")
        assert workshop.load("t_three", "--reset").returncode == 0
    assert workshop.prices("t_three") == [30, 60, 90]


@pytest.fixture
def spare(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> str:
    """The copy that a reset of t_three has begun to make for the next one, as it does of large scenarios."""
    monkeypatch.setattr(databases, "FILE_COPY_FROM", 0)
    workshop.write("t_three", THREE)
    workshop.load("t_three")
    workshop.load("t_three", "--reset")
    template = next(name for name, metadata in workshop.databases().items() if metadata.kind == "template")
    name = names.spare_name(template, "t_three")
    wait_until(lambda: name in workshop.databases(), "the spare")
    return name


def oid(name: str) -> list[tuple[int]]:
    with postgres.session() as server:
        server.execute("SELECT oid FROM pg_database WHERE datname = %s", [name])
        return server.fetchall()


def test_a_reset_takes_the_copy_that_the_reset_before_has_made(workshop: Workshop, spare: str) -> None:
    workshop.sql("t_three", "DELETE FROM room")
    copy = oid(spare)
    assert "loaded from its template" in workshop.load("t_three", "--reset").stdout
    assert oid("scenario_t_three") == copy
    assert workshop.prices("t_three") == [30, 60, 90]


def test_a_changed_scenario_takes_no_copy_of_its_former_state(workshop: Workshop, spare: str) -> None:
    workshop.write("t_three", THREE.replace("90", "91"))
    assert "filled" in workshop.load("t_three", "--reset").stdout
    assert workshop.prices("t_three") == [30, 60, 91]
    assert spare not in workshop.databases()


def test_a_rebuilt_scenario_takes_no_copy_of_its_former_state(workshop: Workshop, spare: str) -> None:
    workshop.load("t_three", "--rebuild")
    assert oid(spare) == []


@pytest.mark.parametrize("arguments", [("t_three",), ("--all",)], ids=" ".join)
def test_a_dropped_scenario_leaves_no_copy(workshop: Workshop, spare: str, arguments: tuple[str]) -> None:
    assert workshop.call("drop_scenario", *arguments).returncode == 0
    assert workshop.databases() == {}


def test_everything_follows_from_the_seed(workshop: Workshop) -> None:
    workshop.write(
        "t_chance",
        """
        import random
        from rooms.seeding import many_rooms, room

        def run():
            many_rooms(20)
            room()
            room(price=random.randint(0, 10**6))
        """,
    )
    query = "SELECT code, size, price, latitude, longitude, updated_at < '2026-06-01' FROM room ORDER BY id"
    workshop.load("t_chance")
    first = workshop.sql("t_chance", query)
    workshop.load("t_chance", "--rebuild")
    assert workshop.sql("t_chance", query) == first
    other = workshop.load("t_chance", "--reset", "--seed", "2")
    assert "seed 2" in other.stdout
    assert not {row[0] for row in workshop.sql("t_chance", query)} & {row[0] for row in first}


def test_another_seed_for_a_kept_database_is_pointed_out(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.load("t_three")
    done = workshop.load("t_three", "--seed", "2")
    assert (
        "It is stale: it was made with seed 1. Next: ./manage.py load_scenario t_three --reset" in done.stdout
    )


def test_what_run_printed_is_printed_at_each_load(workshop: Workshop) -> None:
    workshop.write(
        "t_talk",
        """
        import secrets

        def run():
            print("The password is", secrets.token_hex(8))
        """,
    )
    first = workshop.load("t_talk").stdout.splitlines()[0]
    assert re.fullmatch("The password is [0-9a-f]{16}", first)
    assert workshop.load("t_talk").stdout.splitlines()[0] == first
    assert workshop.load("t_talk", "--reset").stdout.splitlines()[0] == first
    assert workshop.load("t_talk", "--rebuild").stdout.splitlines()[0] != first


def test_ids_that_a_scenario_states_do_not_stop_later_rooms(workshop: Workshop) -> None:
    workshop.write("t_ids", "from rooms.seeding import room\ndef run():\n    room(id=1)\n    room(id=500)\n")
    workshop.load("t_ids")
    workshop.sql("t_ids", "INSERT INTO room (code, price, latitude, longitude) VALUES (uuidv4(), 1, 2, 3)")
    assert workshop.sql("t_ids", "SELECT max(id) FROM room") == [(501,)]


def test_the_planner_knows_the_rooms(workshop: Workshop) -> None:
    workshop.write("t_many", "from rooms.seeding import many_rooms\ndef run():\n    many_rooms(500)\n")
    workshop.load("t_many")
    assert workshop.sql("t_many", "SELECT reltuples FROM pg_class WHERE relname = 'room'") == [(500,)]


# --- Stale or not


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        ("", "", False),
        ("room(price=30)", "room(price=31)", True),
        ("room(price=30)", "room(price=30)  # a comment", True),
        ('{"": 1}', '{"": 1, "filter_price__eq=30": 1}', True),
    ],
)
def test_a_changed_file_makes_a_scenario_stale(
    workshop: Workshop, before: str, after: str, stale: bool
) -> None:
    source = '''
        """One room."""
        from rooms.seeding import room

        EXPECT = {"": 1}

        def run():
            room(price=30)

        def check(client):
            assert client.get("/rooms").status_code == 200
    '''
    workshop.write("t_one", source)
    workshop.load("t_one")
    workshop.write("t_one", source.replace(before, after))
    done = workshop.load("t_one")
    assert ("It is stale: the scenario or the migrations have changed since" in done.stdout) == stale
    assert ("stale" in workshop.call("list_scenarios").stdout) == stale


@pytest.mark.parametrize(
    "statement",
    [
        "from scenarios import t_base",
        "from scenarios import (\n    t_base,\n)",
        "from . import t_base",
        "import scenarios.t_base as t_base",
    ],
)
def test_a_change_in_an_imported_scenario_makes_it_stale(workshop: Workshop, statement: str) -> None:
    workshop.write("t_base", THREE)
    workshop.write("t_more", f"{statement}\ndef run():\n    t_base.run()\n")
    workshop.load("t_more")
    assert workshop.prices("t_more") == [30, 60, 90]
    workshop.write("t_base", THREE.replace("90", "99"))
    assert "It is stale" in workshop.load("t_more").stdout
    workshop.load("t_more", "--reset")
    assert workshop.prices("t_more") == [30, 60, 99]
    # The template of the old state has gone with it.
    assert sorted(metadata.kind for metadata in workshop.settled().values()) == ["scenario", "template"]


def test_a_change_in_an_indirect_import_or_a_data_file_makes_it_stale(workshop: Workshop) -> None:
    (workshop.folder / "_prices").mkdir()
    data = workshop.folder / "_prices" / "prices.txt"
    data.write_text("30 60")
    workshop.write(
        "_prices",
        """
        from pathlib import Path

        FILE = Path(__file__).parent / "_prices" / "prices.txt"
        PRICES = [int(price) for price in FILE.read_text().split()]
        """,
    )
    workshop.write("_rooms", "from scenarios._prices import PRICES\n")
    workshop.write(
        "t_data",
        """
        from rooms.seeding import room
        from scenarios import _rooms

        def run():
            for price in _rooms.PRICES:
                room(price=price)
        """,
    )
    workshop.load("t_data")
    data.write_text("30 60 90")
    assert "It is stale" in workshop.load("t_data").stdout
    workshop.load("t_data", "--reset")
    assert workshop.prices("t_data") == [30, 60, 90]
    workshop.write("_prices", "PRICES = [1]")
    assert "It is stale" in workshop.load("t_data").stdout


def test_a_kept_database_gets_the_migrations_that_came_since(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.load("t_three")
    assert workshop.manage("migrate", "sessions", "zero", SCENARIO="t_three").returncode == 0
    workshop.sql("t_three", "DELETE FROM room WHERE price = 30")
    from dataclasses import replace

    from rentomatic_site import postgres
    from rentomatic_site.scenarios import databases

    with postgres.session() as server:
        metadata = databases.find(server, "scenario_t_three").metadata
        databases.write_metadata(server, "scenario_t_three", replace(metadata, migrations="an earlier state"))
    workshop.load("t_three")
    assert workshop.sql("t_three", "SELECT count(*) FROM django_session") == [(0,)]
    assert workshop.prices("t_three") == [60, 90]


# --- Scenarios that assert

EXPECTING = """
    from rooms.seeding import room

    A, B = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
    EXPECT = {expect}

    def run():
        room(code=A, price=30)
        room(code=B, price=60)
"""


@pytest.mark.parametrize(
    "expect",
    [
        '{"": 2}',
        '{"filter_price__lt=60": 1}',
        '{"filter_price__gt=1000": 0}',
        '{"filter_price__gt=1000": []}',
        '{"order=-price": [B, A]}',
        '{"order=-price": {A, B}}',
        '{"limit=1": 1}',
    ],
)
def test_an_expectation_that_is_met_is_shown_as_passed(workshop: Workshop, expect: str) -> None:
    workshop.write("t_expect", EXPECTING.format(expect=expect))
    done = workshop.load("t_expect")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("✓" in done.stdout, "✗" in done.stdout) == (True, False)


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ('{"": 3}', "✗ all → 3 rooms: found 2 rooms"),
        ('{"filter_price__lt=60": 0}', "✗ filter_price__lt=60 → 0 rooms: found 1 room"),
        ('{"": [A]}', "not expected: 00000000-0000-4000-8000-00000000000b"),
        ('{"filter_price__lt=60": [A, B]}', "missing: 00000000-0000-4000-8000-00000000000b"),
        ('{"order=-price": [A, B]}', "in another order: 00000000-0000-4000-8000-00000000000b"),
        ('{"filter_prize__lt=60": 1}', "400 filters: Key prize__lt cannot be used"),
    ],
)
def test_a_failed_expectation_is_shown_and_the_database_stays(
    workshop: Workshop, expect: str, problem: str
) -> None:
    workshop.write("t_expect", EXPECTING.format(expect=expect))
    done = workshop.load("t_expect")
    assert done.returncode == 1
    assert problem in done.stdout
    assert "1 of what scenario t_expect expects is not so" in done.stderr
    assert "SCENARIO=t_expect ./manage.py dbshell" in done.stdout
    assert workshop.prices("t_expect") == [30, 60]


def test_check_may_assert_anything(workshop: Workshop) -> None:
    source = EXPECTING.format(expect="{}") + (
        "\n    def check(client):\n"
        "        prices = [room['price'] for room in client.get('/rooms?order=-price').json()]\n"
        "        assert prices == [60, 30], prices\n"
    )
    workshop.write("t_expect", source)
    assert "✓ check(client)" in workshop.load("t_expect").stdout
    workshop.write("t_expect", source.replace("[60, 30]", "[30, 60]"))
    done = workshop.load("t_expect")
    assert done.returncode == 1
    assert "AssertionError: [60, 30]" in done.stdout
    assert "site-packages" not in done.stdout


@pytest.mark.parametrize("expect", ["[3]", '{"": "three"}', '{"": True}'])
def test_an_expectation_of_the_wrong_form_is_named(workshop: Workshop, expect: str) -> None:
    workshop.write("t_expect", EXPECTING.format(expect=expect))
    done = workshop.load("t_expect")
    assert done.returncode == 1
    assert "t_expect.py: EXPECT" in done.stderr
    assert "Traceback" not in done.stderr


# --- Scenarios that fail


def test_a_failing_scenario_shows_its_traceback_and_keeps_its_rooms(workshop: Workshop) -> None:
    workshop.write(
        "t_fails",
        """
        from rooms.seeding import room

        def run():
            room(price=30)
            room(price=-5)
        """,
    )
    done = workshop.load("t_fails")
    assert done.returncode == 1
    assert 't_fails.py", line 5, in run\n    room(price=-5)' in done.stderr
    assert "room_price_range" in done.stderr
    assert "loading.py" not in done.stderr
    assert "site-packages" not in done.stderr
    assert "SCENARIO=t_fails ./manage.py dbshell" in done.stdout
    assert "SCENARIO=t_fails ./manage.py runserver" in done.stdout
    assert workshop.prices("t_fails") == [30]
    assert "Its database stays, with 1 room, marked incomplete" in done.stderr
    listed = workshop.call("list_scenarios").stdout
    assert re.search(r"^t_fails +incomplete +1 .* failed: .*room_price_range", listed, re.MULTILINE)


def test_a_statement_that_postgresql_refuses_takes_the_transaction_back(workshop: Workshop) -> None:
    workshop.write(
        "t_fails",
        """
        from django.db import connection
        from rooms.seeding import room

        def run():
            room(price=30)
            connection.cursor().execute("SELECT 1 / 0")
        """,
    )
    assert "Its database stays, with 0 rooms, marked incomplete" in workshop.load("t_fails").stderr


def test_the_next_load_replaces_a_failed_one(workshop: Workshop) -> None:
    workshop.write("t_fails", THREE + "            1 / (price - 60)\n")
    assert "ZeroDivisionError" in workshop.load("t_fails").stderr
    workshop.write("t_fails", THREE)
    assert "filled" in workshop.load("t_fails").stdout
    assert workshop.prices("t_fails") == [30, 60, 90]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def run(:\n", "SyntaxError"),
        ("import nothing_of_that_name\ndef run():\n    pass\n", "ModuleNotFoundError"),
        ("def run():\n    raise SystemExit(0)\n", "SystemExit"),
        ("def start():\n    pass\n", "has no function run()"),
    ],
)
def test_other_errors_name_the_scenarios_own_code(workshop: Workshop, source: str, message: str) -> None:
    workshop.write("t_fails", source)
    done = workshop.load("t_fails")
    assert done.returncode == 1
    assert message in done.stderr
    assert "rentomatic_site" not in done.stderr


# --- Names and lists


@pytest.mark.parametrize("name", ["Three", "3d", "../etc", "a-b", "x" * 41, "three;drop", "", "é"])
def test_what_cannot_be_a_name_is_refused(workshop: Workshop, name: str) -> None:
    done = workshop.load(name)
    assert done.returncode == 1
    assert "cannot be a scenario's name" in done.stderr


def test_an_unknown_name_gets_the_nearest_known_one(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    assert "Did you mean t_three?" in workshop.load("t_tree").stderr
    assert "Next: ./manage.py load_scenario" in workshop.load("quite_different").stderr


def test_without_a_name_it_lists_what_there_is(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.write("t_broken", "def run(:\n")
    workshop.write("_shared", "")
    assert re.search(r"^t_three +not loaded +Three rooms\.$", workshop.load().stdout, re.MULTILINE)
    workshop.load("t_three")
    listed = workshop.load().stdout
    assert re.search(r"^t_three +loaded +3 +\d\.\d.MB +\d+s +Three rooms\.$", listed, re.MULTILINE)
    assert re.search(r"^t_broken +not loaded +\(line 1: ", listed, re.MULTILINE)
    assert "_shared" not in listed


def test_a_file_name_as_a_shell_completes_it_is_a_name(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    assert workshop.load(str(workshop.folder / "t_three.py")).returncode == 0
    assert workshop.prices("t_three") == [30, 60, 90]
    assert workshop.load("/elsewhere/t_three.py").returncode == 1


def test_a_scenario_that_is_not_loaded_is_an_error_with_the_command(workshop: Workshop) -> None:
    for command in (["rooms"], ["showmigrations"]):
        done = workshop.manage(*command, SCENARIO="t_absent")
        assert done.returncode == 1
        assert "t_absent is not loaded. Next: ./manage.py load_scenario t_absent" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_second_database_of_one_scenario_has_a_name_of_its_own(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.load("t_three")
    assert workshop.load("t_three", "--as", "t_other", "--seed", "2").returncode == 0
    workshop.sql("t_other", "DELETE FROM room")
    assert workshop.prices("t_three") == [30, 60, 90]
    assert re.search(r"^t_other +loaded +0 .* Three rooms\.$", workshop.load().stdout, re.MULTILINE)


def test_a_name_that_another_scenario_has_taken_is_not_taken_from_it(workshop: Workshop) -> None:
    workshop.write("t_three", THREE)
    workshop.write("t_other", "def run():\n    pass\n")
    workshop.load("t_three", "--as", "t_other")
    done = workshop.load("t_other", "--reset")
    assert done.returncode == 1
    assert "scenario_t_other holds scenario t_three. Next: ./manage.py drop_scenario t_other" in done.stderr
    assert workshop.prices("t_other") == [30, 60, 90]
