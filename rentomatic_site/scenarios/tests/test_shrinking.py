"""shrink_scenario: the fewest rooms with which an expectation fails, written as a scenario."""

import json
import re
import signal
from typing import Any

import pytest

from rentomatic_site.lab import shrinking
from rentomatic_site.lab.failures import kind
from rentomatic_site.lab.shrinking import reduced
from rentomatic_site.scenarios import expectations
from rentomatic_site.scenarios.tests.workshop import Workshop, role_with_createdb
from rentomatic_site.testing.rig import wait_until

MANY = """
    from django.db.models import F
    from rooms.models import Room
    from rooms.seeding import many_rooms, room

    EXPECT = {expect}

    def run():
        many_rooms({before})
        room(price=12347, size=77, longitude=0.12345)
        many_rooms({rooms} - {before})
"""
CHECK = """
    def check(client):
        {check}
"""
DEAREST = 'assert client.get("/rooms?order=-price&limit=1").json()[0]["price"] < 12000'
HIDDEN = "assert not Room.objects.filter(longitude=0.12345).exists()"
"""Nothing of the requests, and no extreme value, leads to the room."""


def load(
    workshop: Workshop, *, rooms: int = 300, before: int = 150, expect: str = "{}", check: str = ""
) -> str:
    """Load the failing scenario t_many, one room after `before` others; return the lines of what fails."""
    source = MANY.format(expect=expect, rooms=rooms, before=before) + (
        CHECK.format(check=check) if check else ""
    )
    workshop.write("t_many", source)
    return failures(workshop, "t_many")


def failures(workshop: Workshop, name: str) -> str:
    done = workshop.load(name)
    assert "expects is not so" in done.stderr, done.stdout + done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if "✗" in line or "Error" in line)


def shrink(workshop: Workshop, *arguments: str) -> dict[str, Any]:
    """What `shrink_scenario --json` found for t_many; it leaves no database."""
    before = workshop.databases()
    done = workshop.call("shrink_scenario", "t_many", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert workshop.databases() == before
    return json.loads(done.stdout)


def test_a_number_is_shrunk_to_the_rooms_that_are_too_many(workshop: Workshop) -> None:
    load(workshop, expect='{"": 301, "filter_price__lt=66": 3}')
    found = shrink(workshop)
    assert (found["before"], len(found["rooms"])) == (301, 4)
    assert found["expectation"] == "filter_price__lt=66 → 3 rooms"
    assert failures(workshop, "t_many_small") == "  ✗ filter_price__lt=66 → 3 rooms: found 4 rooms"
    assert workshop.sql("t_many_small", "SELECT DISTINCT size, latitude, longitude FROM room") == [
        (20, 51.5, -0.1)
    ]
    assert all(price % 10 == 0 for price in workshop.prices("t_many_small"))


def test_a_check_is_shrunk_to_the_room_that_it_fails_for(workshop: Workshop) -> None:
    load(workshop, check=DEAREST)
    (room,) = shrink(workshop)["rooms"]
    assert room == {
        "code": "00000000-0000-4000-8000-000000000001",
        "size": 20,
        "price": 12000,
        "latitude": 51.5,
        "longitude": -0.1,
    }
    assert "AssertionError" in failures(workshop, "t_many_small")
    assert "from scenarios.t_many import check" in (workshop.folder / "t_many_small.py").read_text()


def test_values_stay_as_exact_as_the_failure_needs_them(workshop: Workshop) -> None:
    load(workshop, check=HIDDEN)
    (room,) = shrink(workshop)["rooms"]
    assert (room["price"], room["longitude"]) == (100, 0.12345)


def test_codes_that_are_expected_stay(workshop: Workshop) -> None:
    wanted = "00000000-0000-4000-8000-00000000000a"
    workshop.write(
        "t_many",
        f"""
        from rooms.seeding import many_rooms, room

        EXPECT = {{"filter_price__gte=0": ["{wanted}"]}}

        def run():
            many_rooms(50)
            room(code="{wanted}")
        """,
    )
    failures(workshop, "t_many")
    found = shrink(workshop)
    assert len(found["rooms"]) == 2
    assert wanted in {room["code"] for room in found["rooms"]}
    assert "missing" not in failures(workshop, "t_many_small")


def test_one_in_many_is_found_by_ranges_of_keys(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrinking, "SMALL", 64)
    load(workshop, rooms=2000, before=1000, check=HIDDEN)
    assert len(shrink(workshop)["rooms"]) == 1


def test_rooms_that_are_far_apart_are_found_by_halving_copies(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "SMALL", 600)
    load(workshop, rooms=1000, check="assert Room.objects.filter(price__lt=66).count() <= 20")
    monkeypatch.setattr(shrinking, "few", lambda *arguments: None)
    monkeypatch.setattr(shrinking, "ranges", lambda *arguments: None)
    assert len(shrink(workshop)["rooms"]) == 21


def test_a_million_rooms_are_shrunk_to_one(workshop: Workshop) -> None:
    load(workshop, rooms=1_000_000, before=5, check=HIDDEN)
    found = shrink(workshop)
    assert (found["before"], len(found["rooms"])) == (1_000_001, 1)
    assert found["tries"] < 150
    assert "AssertionError" in failures(workshop, "t_many_small")


def test_a_chosen_expectation_is_shrunk(workshop: Workshop) -> None:
    load(workshop, expect='{"": 5, "filter_price__lt=66": 3}')
    assert shrink(workshop, "--expect", "price__lt=66", "--as", "t_lt")["rooms"]
    assert failures(workshop, "t_lt") == "  ✗ filter_price__lt=66 → 3 rooms: found 4 rooms"


def test_a_failure_that_comes_and_goes_is_told_and_not_chased(workshop: Workshop) -> None:
    load(workshop, check="counter.append(1); assert len(counter) % 2 == 0\n    counter = []")
    done = workshop.call("shrink_scenario", "t_many")
    assert done.returncode == 1
    assert "check(client) fails only sometimes, or each time in another way" in done.stderr
    assert not (workshop.folder / "t_many_small.py").exists()


def test_what_cannot_be_shrunk_is_told_with_the_next_step(workshop: Workshop) -> None:
    load(workshop, check="from django.contrib.auth.models import User; assert User.objects.exists()")
    shrunk = workshop.call("shrink_scenario", "t_many")
    assert "Wrote" in shrunk.stdout  # no room is needed
    assert "    pass" in (workshop.folder / "t_many_small.py").read_text()
    again = workshop.call("shrink_scenario", "t_many")
    assert "exists. Next: --force overwrites it" in again.stderr
    assert workshop.call("shrink_scenario", "t_many", "--force").returncode == 0
    assert "t_absent is not loaded" in workshop.call("shrink_scenario", "t_absent").stderr
    assert "cannot be a name" in workshop.call("shrink_scenario", "t_many", "--as", "No").stderr
    none = workshop.call("shrink_scenario", "t_many", "--force", "--expect", "price")
    assert "Nothing fails that scenario t_many expects of price" in none.stderr


def test_a_failure_by_other_tables_is_told(workshop: Workshop) -> None:
    workshop.write(
        "t_many",
        """
        from django.contrib.auth.models import User
        from rooms.seeding import room, staff_user

        def run():
            room()
            staff_user("ann", password="x")

        def check(client):
            assert not User.objects.exists()
        """,
    )
    failures(workshop, "t_many")
    done = workshop.call("shrink_scenario", "t_many")
    assert "It fails only together with something else than rooms" in done.stderr
    assert not (workshop.folder / "t_many_small.py").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_search_that_is_stopped_leaves_no_database(workshop: Workshop, stop: signal.Signals) -> None:
    load(
        workshop, check="import time; time.sleep(0.05); assert Room.objects.filter(price__lt=66).count() <= 5"
    )
    before = set(workshop.databases())
    process = workshop.start("shrink_scenario", "t_many")
    wait_until(lambda: set(workshop.databases()) - before, "the small database", seconds=60)
    process.send_signal(stop)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    written = (workshop.folder / "t_many_small.py").exists()
    if stop == signal.SIGINT:
        assert "Interrupted" in output
        assert written == ("the smallest so far is written" in output)
    else:  # the next command on the scenario removes what it left
        workshop.call("scenario", "list", "--on", "t_many")
    wait_until(lambda: set(workshop.databases()) == before, "the end of the small database")


def test_ctrl_c_writes_the_smallest_so_far(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(bench: object) -> None:
        raise KeyboardInterrupt

    load(workshop, expect='{"filter_price__lt=66": 3}')
    monkeypatch.setattr(shrinking, "make_round", interrupt)
    before = workshop.databases()
    done = workshop.call("shrink_scenario", "t_many")
    assert done.returncode == 1
    assert "Interrupted; the smallest so far is written, 4 rooms." in done.stderr
    assert workshop.databases() == before
    assert failures(workshop, "t_many_small") == "  ✗ filter_price__lt=66 → 3 rooms: found 4 rooms"


def test_a_role_that_has_createdb_shrinks(workshop: Workshop) -> None:
    workshop.write("t_many", MANY.format(expect='{"": 3}', rooms=30, before=15))
    with role_with_createdb("t_shrinker") as role:
        workshop.manage("load_scenario", "t_many", **role)
        done = workshop.manage("shrink_scenario", "t_many", **role)
        assert re.search(r"31 rooms → 4 rooms in .* Wrote .*t_many_small\.py\. Next: ", done.stdout)


# --- One way of failing, and the reduction


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("found 5 rooms", "found 1,000 rooms", True),
        ("found 5 rooms", "found 2 rooms", False),
        ("found 2 rooms", "found 0 rooms", False),
        ("missing: a", "missing: a; not expected: b", False),
        ("missing: a", "missing: c", False),
        ("not expected: a", "not expected: b, c", True),
        ("400 filters: Key x", "500 Internal error", False),
        ("found 5 rooms", "", False),
    ],
)
def test_ways_of_failing(one: str, other: str, same: bool) -> None:
    label = "filter_price__lt=66 → 3 rooms"
    assert (kind(label, one) == kind(label, other)) == same


@pytest.mark.parametrize(
    ("line", "error", "same"),
    [(9, "AssertionError: 5", True), (8, "AssertionError: 4", False), (9, "KeyError: 'x'", False)],
)
def test_a_check_fails_in_the_same_way_at_the_same_line_with_the_same_error(
    line: int, error: str, same: bool
) -> None:
    def problem(line: int, error: str) -> str:
        return (
            f'Traceback (most recent call last):\n  File "t.py", line {line}, in check\n    assert x\n{error}'
        )

    label = expectations.CHECK
    assert (kind(label, problem(9, "AssertionError: 4")) == kind(label, problem(line, error))) == same


@pytest.mark.parametrize("needed", [{7}, {0, 99}, {1, 50, 51, 98}, set(range(40, 60))])
def test_the_reduction_ends_with_what_is_needed(needed: set[int]) -> None:
    *_, smallest = reduced(list(range(100)), lambda ids: needed <= set(ids))
    assert set(smallest) == needed
