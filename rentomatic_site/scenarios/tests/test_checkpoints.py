"""scenario save, back, undo, list, diff and drop, as a developer uses them."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rentomatic_site import postgres
from rentomatic_site.scenarios import checkpoints, databases, locks
from rentomatic_site.scenarios.tests.workshop import Workshop, role_with_createdb
from rentomatic_site.testing.rig import wait_until

THREE = """
    '''Three rooms.'''
    from rooms.seeding import room

    def run():
        for price in (30, 60, 90):
            room(price=price)
"""
NEW = "INSERT INTO room (code, price, latitude, longitude) VALUES (uuidv4(), 70, 51.5, -0.1)"


@pytest.fixture
def three(workshop: Workshop) -> Workshop:
    """A workshop where the scenario t_three is loaded."""
    workshop.write("t_three", THREE)
    assert workshop.load("t_three").returncode == 0
    return workshop


def scenario(workshop: Workshop, *arguments: str) -> str:
    """The output of a command about t_three that succeeds."""
    done = workshop.call("scenario", *arguments, "--on", "t_three")
    assert done.returncode == 0, done.stderr
    return done.stdout


def kinds(workshop: Workshop) -> list[str]:
    return sorted(metadata.kind for metadata in workshop.settled().values())


def names(workshop: Workshop) -> list[str]:
    listed = json.loads(scenario(workshop, "list", "--json"))
    return [row["checkpoint"] for row in listed["checkpoints"]]


def test_back_brings_the_edited_state_and_undo_what_was_before(three: Workshop) -> None:
    three.sql("t_three", "DELETE FROM room WHERE price = 30")
    saved = scenario(three, "save", "edited")
    assert re.search(r"Saved t_three as edited: 2 rooms, \d", saved)
    three.sql("t_three", "UPDATE room SET price = 99 WHERE price = 90")

    assert "t_three is at edited again: 2 rooms" in scenario(three, "back", "edited")
    assert three.prices("t_three") == [60, 90]
    scenario(three, "undo")
    assert three.prices("t_three") == [60, 99]
    scenario(three, "undo")
    assert three.prices("t_three") == [60, 90]
    assert kinds(three) == ["checkpoint", "checkpoint", "scenario", "template"]


def test_back_without_a_name_takes_the_checkpoint_saved_last(three: Workshop) -> None:
    scenario(three, "save", "zebra")
    three.sql("t_three", "DELETE FROM room WHERE price = 30")
    with postgres.session() as server:  # times are of seconds
        (first,) = checkpoints.of(server, "scenario_t_three")
        databases.write_metadata(
            server, first.name, replace(first.metadata, created="2026-01-01T00:00:00+00:00")
        )
    scenario(three, "save", "apple")
    three.sql("t_three", "DELETE FROM room")
    assert "t_three is at apple again" in scenario(three, "back")
    assert three.prices("t_three") == [60, 90]


def test_only_one_state_before_back_is_kept(three: Workshop) -> None:
    scenario(three, "save", "first")
    for price in (61, 62, 63):
        three.sql("t_three", f"UPDATE room SET price = {price} WHERE price = 60")
        scenario(three, "back", "first")
    assert kinds(three) == ["checkpoint", "checkpoint", "scenario", "template"]
    scenario(three, "undo")
    assert three.prices("t_three") == [30, 63, 90]


def test_a_server_on_the_scenario_keeps_going(three: Workshop) -> None:
    scenario(three, "save", "first")
    three.sql("t_three", "DELETE FROM room")
    with postgres.session("scenario_t_three") as open_session:
        open_session.execute("SELECT count(*) FROM room")
        scenario(three, "back", "first")
        assert three.prices("t_three") == [30, 60, 90]  # a new connection leads to the state that is back


def test_reset_and_checkpoints_are_independent(three: Workshop) -> None:
    three.sql("t_three", "DELETE FROM room WHERE price = 30")
    scenario(three, "save", "edited")
    assert three.load("t_three", "--reset").returncode == 0
    assert three.prices("t_three") == [30, 60, 90]
    three.write("t_three", THREE.replace("90", "91"))
    assert three.load("t_three", "--reset").returncode == 0
    scenario(three, "back", "edited")
    assert three.prices("t_three") == [60, 90]
    assert "It is stale" in three.load("t_three").stdout


def test_a_checkpoint_gets_the_migrations_that_came_since(three: Workshop) -> None:
    assert three.manage("migrate", "sessions", "zero", SCENARIO="t_three").returncode == 0
    scenario(three, "save", "before")
    with postgres.session() as server:
        (checkpoint,) = checkpoints.of(server, "scenario_t_three")
        metadata = replace(checkpoint.metadata, migrations="an earlier state")
        databases.write_metadata(server, checkpoint.name, metadata)
    scenario(three, "back", "before")
    assert three.sql("t_three", "SELECT count(*) FROM django_session") == [(0,)]


def test_list_shows_rooms_and_disk(three: Workshop) -> None:
    assert "t_three has no checkpoint. Next: ./manage.py scenario save NAME" in scenario(three, "list")
    scenario(three, "save", "one")
    three.sql("t_three", "DELETE FROM room")
    scenario(three, "back", "one")
    output = scenario(three, "list")
    assert re.search(r"^one +3 +\d[^ ]+ +\d+s$", output.replace("\xa0", ""), re.MULTILINE)
    assert re.search(r"^before_back +0 .* what undo brings back$", output, re.MULTILINE)
    assert re.search(r"t_three: 1 of at most 20 checkpoints, \d.* of disk", output)
    assert re.search(r"^Checkpoints: 2, \d", three.call("list_scenarios").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["save", "First"], "cannot be a checkpoint's name"),
        (["save", "../etc"], "cannot be a checkpoint's name"),
        (["save", "x" * 41], "cannot be a checkpoint's name"),
        (["save", "before_back"], "is the name of a state that is always there"),
        (["save", "one"], "has a checkpoint one already. Next: ./manage.py scenario save one --replace"),
        (["back", "two"], "has no checkpoint two; it has: one. Next: ./manage.py scenario list --on t_three"),
        (["drop", "two"], "has no checkpoint two"),
        (["diff", "two"], "has no checkpoint two"),
        (["diff", "one", "--url", "rooms"], 'is no path of the site. Example: --url "/rooms?order=price"'),
        (["undo"], "There is nothing to undo"),
        (["list", "--on", "t_absent"], "t_absent is not loaded. Next: ./manage.py load_scenario"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_next_step(
    three: Workshop, arguments: list[str], message: str
) -> None:
    scenario(three, "save", "one")
    on = [] if "--on" in arguments else ["--on", "t_three"]
    done = three.call("scenario", *arguments, *on)
    assert done.returncode == 1
    assert message in done.stderr
    assert three.prices("t_three") == [30, 60, 90]


def test_the_number_of_checkpoints_has_a_limit(three: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MOST", 1)
    scenario(three, "save", "one")
    done = three.call("scenario", "save", "two", "--on", "t_three")
    assert "Next: ./manage.py scenario drop one --on t_three" in done.stderr
    scenario(three, "save", "one", "--replace")
    scenario(three, "drop", "one")
    scenario(three, "save", "two")
    assert names(three) == ["two"]


def test_dropping_a_scenario_drops_its_checkpoints(three: Workshop) -> None:
    scenario(three, "save", "one")
    planned = three.call("drop_scenario", "t_three", "--dry-run").stdout
    assert "Would drop checkpoint one of t_three" in planned
    assert "Dropped checkpoint one of t_three" in three.call("drop_scenario", "t_three").stdout
    assert three.databases() == {}


def test_checkpoints_of_a_second_database_are_its_own(three: Workshop) -> None:
    three.load("t_three", "--as", "t_other")
    scenario(three, "save", "one")
    assert three.call("scenario", "save", "one", "--on", "t_other").returncode == 0
    three.call("drop_scenario", "t_other")
    assert names(three) == ["one"]


def test_a_second_command_waits_for_the_first(three: Workshop) -> None:
    done: list[int] = []
    save = threading.Thread(
        target=lambda: done.append(three.manage("scenario", "save", "one", SCENARIO="t_three").returncode)
    )
    with locks.lock_target("scenario_t_three") as holder:
        save.start()
        wait_until(lambda: waits_for_lock(holder), "the second command")
        assert names_on_server() == []
    save.join()
    assert done == [0]
    assert names_on_server() == ["one"]


def waits_for_lock(holder: object) -> bool:
    holder.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%'"
        " AND pid <> pg_backend_pid()"
    )
    return holder.fetchone() != (0,)


def names_on_server() -> list[str]:
    with postgres.session() as server:
        return [one.metadata.checkpoint for one in checkpoints.of(server, "scenario_t_three")]


@pytest.mark.parametrize("action", ["save", "back"])
def test_a_killed_command_leaves_the_states_as_they_were(three: Workshop, action: str) -> None:
    scenario(three, "save", "one")
    three.sql("t_three", "DELETE FROM room WHERE price = 30")
    name = "two" if action == "save" else "one"
    process = three.start("scenario", action, name, "--on", "t_three")
    # It holds the locks, and is somewhere between the copy and the renaming.
    wait_until(lambda: "building" in kinds_now(three) or process.poll() is not None, "the copy", seconds=60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert three.prices("t_three") in ([60, 90], [30, 60, 90])
    assert "one" in names(three)
    assert set(kinds(three)) == {"checkpoint", "scenario", "template"}


def kinds_now(workshop: Workshop) -> list[str]:
    return [metadata.kind for metadata in workshop.databases().values()]


def test_a_checkpoint_that_a_killed_comparison_opened_is_closed_again(three: Workshop) -> None:
    scenario(three, "save", "one")
    with postgres.session() as server:
        (checkpoint,) = checkpoints.of(server, "scenario_t_three")
        postgres.allow_connections(server, checkpoint.name, True)
        scenario(three, "list")
        server.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [checkpoint.name])
        assert server.fetchone() == (False,)


# --- Differences


@pytest.fixture
def changed(three: Workshop) -> Workshop:
    scenario(three, "save", "one")
    three.sql("t_three", "UPDATE room SET price = 31 WHERE price = 30")
    three.sql("t_three", "DELETE FROM room WHERE price = 60")
    three.sql("t_three", NEW)
    return three


def test_diff_shows_rows_that_were_added_are_gone_and_changed(changed: Workshop) -> None:
    output = scenario(changed, "diff", "one")
    assert "room: 1 added, 1 gone, 1 changed" in output
    assert re.search(r"^  \+ .* price=70 ", output, re.MULTILINE)
    assert re.search(r"^  - .* price=60 ", output, re.MULTILINE)
    assert re.search(
        r"^  ~ id=\d+ code=\S+: price 30 → 31; updated_at .*; version 1 → 2$", output, re.MULTILINE
    )


def test_diff_goes_both_ways_and_knows_the_first_state(changed: Workshop) -> None:
    assert "one and loaded of t_three have the same rows" in scenario(changed, "diff", "one", "loaded")
    assert "price 31 → 30" in scenario(changed, "diff", "now", "one")
    with postgres.session() as server:
        server.execute(
            "SELECT count(*) FROM pg_database WHERE datname LIKE 'tpl\\_t\\_three%' AND datallowconn"
        )
        assert server.fetchone() == (0,)


def test_diff_is_json_for_programs_with_an_exit_status(changed: Workshop) -> None:
    done = changed.call("scenario", "diff", "one", "--json", "--exit-code", "--on", "t_three")
    assert done.returncode == 1
    (room,) = [table for table in json.loads(done.stdout)["tables"] if table["table"] == "room"]
    assert (room["added"], room["gone"], room["changed"]) == (1, 1, 1)
    (change,) = [row for row in room["rows"] if row["kind"] == "changed"]
    assert (change["before"]["price"], change["after"]["price"]) == (30, 31)
    assert changed.call("scenario", "diff", "one", "one", "--exit-code", "--on", "t_three").returncode == 0


def test_diff_of_a_url_shows_the_pages_that_differ(changed: Workshop) -> None:
    done = changed.call(
        "scenario",
        "diff",
        "one",
        "--url",
        "/rooms?order=price&limit=1&fields=price",
        "--json",
        "--on",
        "t_three",
    )
    pages = json.loads(done.stdout)["pages"]
    assert [(page["number"], page["lines"]) for page in pages] == [
        (1, ['- {"price": 30}', '+ {"price": 31}']),
        (2, ['- {"price": 60}', '+ {"price": 70}']),
    ]
    same = scenario(changed, "diff", "one", "--url", "/rooms?filter_price__gt=80")
    assert "/rooms?filter_price__gt=80: the pages are the same." in same


def test_diff_compares_what_two_schemas_have_in_common(three: Workshop) -> None:
    scenario(three, "save", "one")
    three.sql("t_three", "ALTER TABLE room ADD COLUMN floor int; CREATE TABLE pairs (a int, b text)")
    three.sql("t_three", "INSERT INTO pairs VALUES (1, 'x'), (1, 'x'), (2, NULL)")
    output = scenario(three, "diff", "one")
    assert "room: the same rows\n  columns added: floor" in output
    assert "pairs: 3 added" in output
    scenario(three, "save", "two")
    three.sql("t_three", "DELETE FROM pairs WHERE b IS NULL; INSERT INTO pairs VALUES (1, 'x')")
    output = scenario(three, "diff", "two")  # a table without a key
    assert "pairs: 1 added, 1 gone" in output


def test_diff_of_many_changes_counts_all_and_shows_some(workshop: Workshop) -> None:
    workshop.write("t_three", "from rooms.seeding import many_rooms\ndef run():\n    many_rooms(3000)\n")
    workshop.load("t_three")
    scenario(workshop, "save", "one")
    workshop.sql("t_three", "UPDATE room SET price = price + 1 WHERE id % 2 = 0")
    output = scenario(workshop, "diff", "one", "--limit", "3")
    assert "room: 1,500 changed" in output
    assert output.count("  ~ id=") == 3
    assert "  ~ … 1,497 more" in output


# --- Roles


@pytest.fixture
def creator(workshop: Workshop) -> Iterator[dict[str, str | None]]:
    """The variables of a role that has CREATEDB and no other power."""
    with role_with_createdb("t_saver") as variables:
        yield variables | {"SCENARIO": "t_three"}


def test_a_role_that_has_createdb_saves_compares_and_goes_back(
    workshop: Workshop, creator: dict[str, str | None]
) -> None:
    workshop.write("t_three", THREE)
    done = workshop.manage("load_scenario", "t_three", **creator | {"SCENARIO": None})
    assert done.returncode == 0, done.stderr
    for action in (["save", "one"], ["diff", "one"], ["back", "one"], ["undo"], ["list"], ["drop", "one"]):
        if action[0] == "diff":
            workshop.sql("t_three", "DELETE FROM room WHERE price = 30")
        done = workshop.manage("scenario", *action, **creator)
        assert done.returncode == 0, done.stderr
    assert workshop.prices("t_three") == [60, 90]
