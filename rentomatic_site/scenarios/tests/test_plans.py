"""What a scenario expects beyond its rooms: plans, the same rooms twice; and results for programs."""

import json

import pytest

from rentomatic_site.scenarios.tests.workshop import Workshop

PLANNED = """
    from rooms.seeding import many_rooms, plan

    EXPECT_PLAN = {{"order=price,-size": "room_price", {more}}}

    def run():
        many_rooms(3000)
"""


def test_an_index_that_a_migration_loses_fails_with_both_plans(workshop: Workshop) -> None:
    workshop.write("t_plans", PLANNED.format(more=""))
    done = workshop.load("t_plans", "--record-plans")
    assert "✓ plan of order=price,-size → room_price" in done.stdout
    recorded = json.loads((workshop.folder / "t_plans.plans.json").read_text())
    assert "Index Scan using room_price" in recorded["order=price,-size"]
    assert "stale" not in workshop.load("t_plans", "--check").stdout

    workshop.sql("t_plans", "DROP INDEX room_price")
    done = workshop.load("t_plans", "--check")
    assert done.returncode == 1
    expected, was, now = done.stdout.partition("✗ plan of")[2].replace("now:", "recorded:").split("recorded:")
    assert "does not use room_price, but no index; it reads the whole table; it sorts" in expected
    assert "expected: room_price, no sort, no sequential scan, at most 0 rows discarded" in expected
    assert "Index Scan using room_price" in was
    assert "Seq Scan on room" in now
    assert "SQL shell" in done.stdout  # what opens the database, since it failed


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('"filter_price__gt=50&order=size": "room_size"', "it discards "),
        ('"filter_price__gt=50&order=size": plan("room_size", discarded=1500)', ""),
        ('"order=size": "room_price"', "it does not use room_price, but room_size"),
    ],
)
def test_a_plan_may_discard_so_many_rows(workshop: Workshop, more: str, problem: str) -> None:
    workshop.write("t_plans", PLANNED.format(more=more))
    done = workshop.load("t_plans", "--check")
    assert done.returncode == bool(problem), done.stdout
    assert problem in done.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('"order=size": 3', "EXPECT_PLAN['order=size'] is 3, neither the name of an index nor a plan("),
        ('"order=prize": "room_price"', "and its query is none: order: must name fields out of code"),
    ],
)
def test_an_expected_plan_of_the_wrong_form_is_named(workshop: Workshop, more: str, message: str) -> None:
    workshop.write("t_plans", PLANNED.format(more=more))
    done = workshop.load("t_plans")
    assert done.returncode == 1
    assert message in done.stderr


# --- Twice

CLOCK = """
    import secrets
    from rooms.seeding import many_rooms, room, staff_user

    def run():
        many_rooms(20)
        room({price})
        staff_user("ann")
"""


def test_two_runs_that_follow_from_the_seed_are_the_same(workshop: Workshop) -> None:
    workshop.write("t_twice", CLOCK.format(price=""))
    done = workshop.load("t_twice", "--twice")
    assert "Two runs of t_twice with one seed are the same." in done.stdout, done.stdout
    assert {metadata.kind for metadata in workshop.databases().values()} <= {"template"}


def test_what_does_not_follow_from_the_seed_is_shown(workshop: Workshop) -> None:
    workshop.write("t_twice", CLOCK.format(price="price=secrets.randbelow(10**6)"))
    done = workshop.load("t_twice", "--twice")
    assert done.returncode == 1
    assert "room: 21 and 21 rows; price differ" in done.stdout
    assert done.stdout.count("  - id=21, ") == done.stdout.count("  + id=21, ") == 1
    assert "auth_user" not in done.stdout
    assert {metadata.kind for metadata in workshop.databases().values()} <= {"template"}


# --- Results for programs


def test_the_result_of_a_load_is_json_for_a_program(workshop: Workshop) -> None:
    workshop.write(
        "t_one",
        """
        from rooms.seeding import room
        EXPECT = {"": 2}
        def run():
            print("printed")
            room()
        """,
    )
    done = workshop.load("t_one", "--json", "--seed", "7")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["rows"], found["how"], found["seed"], found["stale"]) == (1, "filled", 7, "")
    assert found["expected"] == [{"label": "all → 2 rooms", "problem": "found 1 room"}]
    assert "printed" in done.stderr
    listed = json.loads(workshop.call("list_scenarios", "--json").stdout)
    assert [(row["scenario"], row["state"], row["rows"]) for row in listed] == [("t_one", "loaded", 1)]
