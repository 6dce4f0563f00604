"""What must not happen: others' databases touched, something half done, loads in each other's way."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from django.conf import settings
from django.test import override_settings
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases, locks, names
from rentomatic_site.scenarios.tests.workshop import Workshop, role_with_createdb
from rentomatic_site.testing.rig import wait_until

ONE = "from rooms.seeding import room\ndef run():\n    room(price=30)\n"
SLOW = """
    import pathlib, time
    from rooms.seeding import room

    def run():
        room(price=31)
        pathlib.Path({flag!r}).touch()
        time.sleep(30)
"""

WAITING = """
    import pathlib, time
    from rooms.seeding import room

    def run():
        while not pathlib.Path({flag!r}).exists():
            time.sleep(0.02)
        room(price=30)
"""


@pytest.fixture
def foreign(workshop: Workshop) -> Iterator[str]:
    """A database that bears a scenario's name and is nobody's scenario."""
    name = "scenario_t_mine"
    with postgres.session() as server:
        postgres.create_database(server, name)
        postgres.comment_on_database(server, name, "my precious")
        with postgres.session(name) as session:
            session.execute("CREATE TABLE precious (id int)")
        yield name
        postgres.drop_database(server, name)


def test_a_database_without_metadata_is_left_alone(workshop: Workshop, foreign: str) -> None:
    workshop.write("t_mine", ONE)
    for arguments in (["t_mine"], ["t_mine", "--reset"], ["t_mine", "--rebuild"]):
        done = workshop.load(*arguments)
        assert done.returncode == 1
        assert "was not made by load_scenario" in done.stderr
    assert workshop.call("drop_scenario", "t_mine").returncode == 1
    workshop.call("drop_scenario", "--older-than", "0s", "--dry-run")
    assert workshop.sql("t_mine", "SELECT count(*) FROM precious") == [(0,)]
    assert not any(metadata.kind == databases.TARGET for metadata in workshop.databases().values())


def test_the_applications_database_is_never_touched(workshop: Workshop, foreign: str) -> None:
    workshop.write("t_mine", ONE)
    with postgres.session() as server:  # somebody copied a comment
        databases.write_metadata(
            server, foreign, databases.stamped(databases.Metadata(databases.TARGET, "t_mine"))
        )
    with override_settings(APPLICATION_DB=foreign):
        for arguments in (["t_mine"], ["t_mine", "--reset"]):
            done = workshop.load(*arguments)
            assert done.returncode == 1
            assert "scenarios never touch" in done.stderr
        assert workshop.call("drop_scenario", "t_mine").returncode == 1
        assert foreign not in workshop.call("drop_scenario", "--all", "--dry-run").stdout
    assert workshop.sql("t_mine", "SELECT count(*) FROM precious") == [(0,)]


def test_templates_refuse_connections(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    with postgres.session() as server:
        server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tpl\\_%' AND datallowconn")
        assert server.fetchall() == []


# --- Half done

STOPS = [(signal.SIGINT, "Interrupted; nothing is left half done."), (signal.SIGKILL, "")]


@pytest.mark.parametrize(("stop", "message"), STOPS)
def test_a_load_that_is_stopped_leaves_the_old_state(
    workshop: Workshop, stop: signal.Signals, message: str
) -> None:
    workshop.write("t_slow", ONE)
    workshop.load("t_slow")
    before = set(workshop.databases())
    flag = workshop.folder / "running"
    workshop.write("t_slow", SLOW.format(flag=str(flag)))

    process = workshop.start("load_scenario", "t_slow", "--reset")
    wait_until(flag.exists, "run() is called", seconds=60)
    process.send_signal(stop)
    output, _ = process.communicate(timeout=60)

    assert process.returncode != 0
    assert message in output
    assert "Traceback" not in output
    assert workshop.prices("t_slow") == [30]
    left = [metadata for name, metadata in workshop.databases().items() if name not in before]
    assert all(metadata.kind == databases.BUILDING and not metadata.complete for metadata in left)
    assert len(left) == (stop == signal.SIGKILL)

    workshop.write("t_slow", ONE.replace("30", "32"))
    assert workshop.load("t_slow", "--reset").returncode == 0
    assert workshop.prices("t_slow") == [32]
    kinds = sorted(metadata.kind for metadata in workshop.settled().values())
    assert kinds == [databases.TARGET, databases.TEMPLATE]


def test_a_database_is_dropped_after_its_client_has_gone(workshop: Workshop) -> None:
    name = names.building_name("t_one")
    with postgres.session() as server:
        postgres.create_database(server, name)
        with postgres.session(name):  # a DROP DATABASE waits for its end
            postgres.begin_to_drop(name)
            assert postgres.database_exists(server, name)
        wait_until(lambda: not postgres.database_exists(server, name), "the end of the database")


def test_a_replaced_database_that_stayed_is_dropped_by_the_next_load(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    with postgres.session() as server:
        with monkeypatch.context() as interrupted:
            interrupted.setattr(postgres, "begin_to_drop", lambda name: None)
            workshop.load("t_one", "--reset")
        (stayed,) = [
            name for name, metadata in workshop.databases().items() if metadata.kind == databases.BUILDING
        ]
        workshop.load("t_one", "--reset")
        assert not postgres.database_exists(server, stayed)


def test_two_loads_of_one_name_at_once_are_one_database(workshop: Workshop) -> None:
    go = workshop.folder / "go"
    workshop.write("t_twice", WAITING.format(flag=str(go)))
    loads = [workshop.start("load_scenario", "t_twice") for _ in range(3)]
    with ThreadPoolExecutor(3) as readers:
        first_lines = [readers.submit(process.stdout.readline) for process in loads]
        try:
            wait_until(lambda: sum(line.done() for line in first_lines) >= 2, "two loads wait", seconds=60)
        finally:
            go.touch()
        begun = [line.result() for line in first_lines]
    outputs = [line + process.communicate(timeout=60)[0] for line, process in zip(begun, loads, strict=True)]
    assert [process.returncode for process in loads] == [0, 0, 0], outputs
    assert sorted("filled" in output for output in outputs) == [False, False, True]
    waiting = "Waiting for another command that works on scenario t_twice …\n"
    assert begun.count(waiting) == 2
    assert workshop.prices("t_twice") == [30]
    assert len(workshop.databases()) == 2


def test_who_waits_for_another_load_can_be_interrupted(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    with postgres.advisory_lock("rentomatic scenario t_one"):
        process = workshop.start("load_scenario", "t_one")
        assert process.stdout
        assert process.stdout.readline().startswith("Waiting for another command")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


def test_resets_of_one_name_at_once_all_succeed(workshop: Workshop) -> None:
    workshop.write("t_twice", ONE)
    workshop.load("t_twice")
    loads = [workshop.start("load_scenario", "t_twice", "--reset") for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in loads]
    assert [process.returncode for process in loads] == [0, 0, 0], outputs
    assert workshop.prices("t_twice") == [30]


# --- Where scenarios are not allowed

PRODUCTION = {
    "DEBUG": "off",
    "SECRET_KEY": "only-for-this-test-" * 3,
    "ALLOWED_HOSTS": "rooms.example.com",
    "LOG_LEVEL": "ERROR",
}


@pytest.mark.parametrize("command", [["load_scenario", "t_one"], ["drop_scenario", "--all"]])
def test_without_debug_scenarios_are_refused(workshop: Workshop, command: list[str]) -> None:
    workshop.write("t_one", ONE)
    done = workshop.manage(*command, **PRODUCTION)
    assert done.returncode == 1
    assert "SCENARIOS_ALLOWED=on" in done.stderr
    assert workshop.databases() == {}


def test_without_debug_no_command_runs_on_a_scenario(workshop: Workshop) -> None:
    done = workshop.manage("rooms", SCENARIO="t_one", **PRODUCTION)
    assert done.returncode == 1
    assert "SCENARIO=t_one is set, but scenarios are for development" in done.stderr


def test_an_operator_may_allow_scenarios(workshop: Workshop) -> None:
    workshop.write("t_one", "EXPECT = {'': 1}\n" + ONE)
    done = workshop.manage("load_scenario", "t_one", SCENARIOS_ALLOWED="on", **PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "✓ all → 1 room" in done.stdout


# --- Dropping


def test_a_dropped_scenario_takes_its_template_along_and_no_other(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    workshop.write("t_two", ONE)
    workshop.load("t_one")
    workshop.load("t_two")
    with postgres.session("scenario_t_one"):  # its session is ended
        done = workshop.call("drop_scenario", "t_one")
    assert done.stdout.count("Dropped ") == 2
    assert {metadata.scenario for metadata in workshop.databases().values()} == {"t_two"}
    assert (
        "No scenario t_one is loaded, nothing was dropped" in workshop.call("drop_scenario", "t_one").stderr
    )


def test_older_ones_are_dropped_and_younger_ones_stay(workshop: Workshop) -> None:
    workshop.write("t_old", ONE)
    workshop.write("t_new", ONE)
    workshop.load("t_old")
    workshop.load("t_new")
    three_days_ago = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    with postgres.session() as server:
        for name, metadata in workshop.databases().items():
            if metadata.scenario == "t_old":
                databases.write_metadata(server, name, replace(metadata, created=three_days_ago))
    assert "3d" in workshop.call("list_scenarios").stdout
    tried = workshop.call("drop_scenario", "--older-than", "2d", "--dry-run")
    assert tried.stdout.count("Would drop ") == 2
    assert workshop.call("drop_scenario", "--older-than", "2d").stdout.count("Dropped ") == 2
    assert {metadata.scenario for metadata in workshop.databases().values()} == {"t_new"}


def test_a_template_is_as_old_as_its_last_use(workshop: Workshop) -> None:
    workshop.write("t_old", ONE)
    workshop.load("t_old")
    with postgres.session() as server:
        for name, metadata in workshop.databases().items():
            databases.write_metadata(server, name, replace(metadata, created="2020-01-01T00:00:00+00:00"))
    workshop.load("t_old", "--reset")
    assert all(metadata.age < timedelta(hours=1) for metadata in workshop.settled().values())


def test_all_drops_every_database_of_ours_and_no_other(workshop: Workshop, foreign: str) -> None:
    if not settings.EMBEDDED_POSTGRES:
        pytest.skip("needs a server that nobody else has scenarios on")
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    assert workshop.call("drop_scenario", "--all").returncode == 0
    with postgres.session() as server:
        assert databases.databases(server) == []
        assert postgres.database_exists(server, foreign)
    # The server may hold what other tests made, which is named as theirs.
    assert workshop.call("drop_scenario", "--all").stdout.startswith("There is nothing to drop.\n")


@pytest.mark.parametrize("arguments", [[], ["t_one", "--all"], ["--all", "--older-than", "2d"]])
def test_what_to_drop_must_be_said_in_one_way(workshop: Workshop, arguments: list[str]) -> None:
    assert "Say which" in workshop.call("drop_scenario", *arguments).stderr


def test_an_age_that_cannot_be_read_is_refused(workshop: Workshop) -> None:
    done = workshop.manage("drop_scenario", "--older-than", "yesterday")
    assert (done.returncode, "invalid age value" in done.stderr) == (2, True)


# --- Roles


@pytest.fixture
def roles() -> Iterator[None]:
    """A login role of the application, and one that may do nothing."""
    with postgres.session() as server:
        server.execute("CREATE ROLE t_application LOGIN; CREATE ROLE t_powerless LOGIN")
        yield
        server.execute("DROP ROLE t_application; DROP ROLE t_powerless")


@pytest.fixture
def server_env() -> dict[str, str | None]:
    """The tests' server in the variables that can name two roles."""
    host, port = str(settings.POSTGRES["host"]), str(settings.POSTGRES["port"])
    return {"DATABASE_URL": None, "POSTGRES_HOSTNAME": host, "POSTGRES_PORT": port}


def test_the_applications_role_owns_what_a_scenario_has(
    roles: None, workshop: Workshop, server_env: dict[str, str | None]
) -> None:
    workshop.write("t_one", ONE)
    assert workshop.manage("load_scenario", "t_one").returncode == 0
    env = server_env | {"APPLICATION_USER": "t_application"}
    assert workshop.manage("load_scenario", "t_one", "--reset", **env).returncode == 0
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'room'"
    assert workshop.sql("t_one", owner) == [("t_application",)]
    assert workshop.manage("drop_scenario", "t_one", **env).returncode == 0
    with postgres.session() as server:
        for database in databases.databases(server):  # the migrated template
            server.execute(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [database.name]
            )
            if server.fetchone() == ("t_application",):
                databases.drop(server, database.name)


def test_a_role_that_may_create_no_database_is_told_so(
    roles: None, workshop: Workshop, server_env: dict[str, str | None]
) -> None:
    workshop.write("t_one", ONE)
    done = workshop.manage("load_scenario", "t_one", **server_env, POSTGRES_USER="t_powerless")
    assert done.returncode == 1
    assert "PostgreSQL refuses: permission denied to create database" in done.stderr
    assert "Next, as a superuser: ALTER ROLE t_powerless CREATEDB" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("comment", "ours"),
    [
        (None, False),
        ("", False),
        ("my precious", False),
        ('{"rentomatic": 1}', False),
        ('{"another": {"kind": "scenario"}}', False),
        ("[1]", False),
        ('{"rentomatic": {"kind": "scenario", "scenario": "x"}}', True),
        ('{"rentomatic": {"kind": "scenario", "of_a_later_version": 1}}', True),
    ],
)
def test_only_a_comment_of_the_project_is_metadata(comment: str | None, ours: bool) -> None:
    assert (databases.read_metadata(comment) is not None) == ours


# --- A good database, and what a load leaves


def test_a_failing_rebuild_leaves_the_good_database_in_its_place(workshop: Workshop) -> None:
    workshop.write("t_good", ONE)
    workshop.load("t_good")
    workshop.write("t_good", ONE.replace("30", "31") + "    1 / 0\n")
    for _ in range(2):
        done = workshop.load("t_good", "--rebuild")
        assert done.returncode == 1
        assert "t_good, which was good, is as it was." in done.stderr
        assert "SCENARIO=t_good_failed ./manage.py dbshell" in done.stdout
        assert workshop.prices("t_good") == [30]
        assert workshop.prices("t_good_failed") == [31]
    workshop.write("t_good", ONE.replace("30", "32"))
    assert workshop.load("t_good", "--reset").returncode == 0
    assert workshop.prices("t_good") == [32]
    assert "scenario_t_good_failed" not in workshop.databases()


def test_a_failing_rebuild_replaces_no_other_scenario(workshop: Workshop) -> None:
    workshop.write("t_good", ONE)
    workshop.write("t_good_failed", ONE)
    workshop.load("t_good")
    workshop.load("t_good_failed")
    workshop.write("t_good", ONE.replace("30", "31") + "    1 / 0\n")
    done = workshop.load("t_good", "--rebuild")
    (name,) = re.findall(r"SCENARIO=(\w+) ./manage.py dbshell", done.stdout)
    assert workshop.prices(name) == [31]
    assert workshop.prices("t_good") == workshop.prices("t_good_failed") == [30]
    assert "scenario_t_good_failed" not in workshop.call("drop_scenario", "t_good").stdout


def test_no_comment_tells_a_password(workshop: Workshop) -> None:
    workshop.write(
        "t_staff",
        "from rooms.seeding import staff_user\ndef run():\n    staff_user('boss', password='hidden-1')\n",
    )
    assert "password hidden-1" in workshop.load("t_staff").stdout
    with postgres.session() as server:
        server.execute("SELECT description FROM pg_shdescription WHERE description LIKE '%hidden-1%'")
        assert server.fetchall() == []
    assert "password hidden-1" in workshop.load("t_staff").stdout
    assert "password hidden-1" in workshop.load("t_staff", "--reset").stdout


def test_a_load_removes_the_password_from_an_earlier_comment(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    with postgres.session() as server:
        metadata = asdict(databases.find(server, "scenario_t_one").metadata)
        earlier = {name: metadata[name] for name in metadata if name not in {"owner", "checkout"}}
        comment = json.dumps({"rentomatic": earlier | {"output": "Staff: boss, password hidden-1"}})
        postgres.comment_on_database(server, "scenario_t_one", comment)
        assert "kept as it is" in workshop.load("t_one").stdout
        assert "hidden-1" not in postgres.database_comment(server, "scenario_t_one")
        assert databases.find(server, "scenario_t_one").metadata.owner == settings.SCENARIOS_OWNER


def test_a_database_of_a_killed_load_is_dropped_by_the_next_load(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    with postgres.session() as server:
        left = [names.building_name(scenario) for scenario in ("t_one", "")]
        for name in left:
            postgres.create_database(server, name)
        assert set(left) <= {database.name for database in databases.databases(server)}
        for database in databases.databases(server):
            if database.metadata.kind == databases.MIGRATED:
                databases.drop(server, database.name)
        workshop.load("t_one")
        assert not any(postgres.database_exists(server, name) for name in left)


@pytest.mark.parametrize("name", ["scenario_t_one_0123456789ab", "scenario_t_one", "scenario_t_one_"])
def test_an_unmarked_database_of_another_name_is_not_ours(workshop: Workshop, name: str) -> None:
    assert databases.read_metadata(None, name) is None
    ours = names.building_name("t_one")
    assert databases.read_metadata(None, ours).scenario == "t_one"
    with override_settings(SCENARIOS_OWNER="somebody@elsewhere"):
        assert databases.read_metadata(None, ours) is None
    assert databases.read_metadata("my precious", ours) is None


def test_the_server_does_not_finish_what_a_killed_load_began(workshop: Workshop) -> None:
    with locks.lock_templates("t_one") as server:
        server.execute("SHOW client_connection_check_interval")
        assert server.fetchone() == ("50ms",)


def test_unmarked_databases_are_listed_and_dropped_on_demand(workshop: Workshop) -> None:
    name = "tpl_t_big_0123456789ab"
    with postgres.session() as server:
        postgres.create_database(server, name)
        offered = workshop.call("drop_scenario", "--older-than", "999999w").stdout
        assert re.search(rf"^  {name}, \d", offered, re.MULTILINE)
        assert "Next, if that is so: ./manage.py drop_scenario --unmarked" in offered
        assert f"Would drop {name}" in workshop.call("drop_scenario", "--unmarked", "--dry-run").stdout
        assert postgres.database_exists(server, name)
        assert f"Dropped {name}" in workshop.call("drop_scenario", "--unmarked").stdout
        assert not postgres.database_exists(server, name)


def test_a_database_whose_dropping_was_interrupted_is_made_anew(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    with postgres.session() as server:
        server.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'scenario_t_one'")
    done = workshop.load("t_one")
    assert done.returncode == 0, done.stderr
    assert workshop.prices("t_one") == [30]


# --- Several people on one server


def test_two_scenarios_at_once_do_not_both_get_one_name(workshop: Workshop) -> None:
    for name, price in (("t_one", 30), ("t_two", 31)):
        workshop.write(name, ONE.replace("30", str(price)) + "    import time; time.sleep(1)\n")
    loads = [workshop.start("load_scenario", name, "--as", "t_both") for name in ("t_one", "t_two")]
    outputs = [process.communicate(timeout=60)[0] for process in loads]
    assert sorted(process.returncode for process in loads) == [0, 1], outputs
    winner = [process.returncode for process in loads].index(0)
    assert "scenario_t_both holds scenario" in outputs[1 - winner]
    assert workshop.prices("t_both") == [30 + winner]


def test_another_developers_scenario_is_neither_used_nor_dropped(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    before = workshop.databases()
    with override_settings(SCENARIOS_OWNER="ann@laptop"):
        workshop.write("t_one", ONE.replace("30", "31"))
        done = workshop.load("t_one")
        assert done.returncode == 0, done.stderr
        (alias,) = re.findall(r"SCENARIO=(\w+) ./manage.py dbshell", done.stdout)
        assert f"scenario_t_one is another developer's, so yours is called {alias}." in done.stdout
        assert workshop.prices(alias) == [31]
        assert "kept as it is" in workshop.load("t_one").stdout
        assert "kept as it is" in workshop.load("t_one", "--as", alias).stdout
        output = workshop.call("drop_scenario", "--all").stdout
        assert f"Dropped scenario_{alias}" in output
        assert f"scenario_t_one belongs to {settings.SCENARIOS_OWNER}" not in output
        assert re.search(r"^  scenario_t_one belongs to \S+, ", output, re.MULTILINE)
        assert "nothing was dropped" in workshop.call("drop_scenario", "t_one").stderr
    assert workshop.databases() == before
    assert workshop.prices("t_one") == [30]


@pytest.fixture
def creator() -> Iterator[dict[str, str | None]]:
    """The variables of a role that has CREATEDB and no other power."""
    with role_with_createdb("t_creator") as variables:
        yield variables


def test_a_role_that_has_createdb_loads_beside_anothers_templates(
    workshop: Workshop, creator: dict[str, str | None]
) -> None:
    workshop.write("t_one", ONE)
    assert workshop.load("t_one").returncode == 0
    for arguments in (["load_scenario", "t_one"], ["load_scenario", "t_one", "--reset"]):
        done = workshop.manage(*arguments, **creator)
        assert done.returncode == 0, done.stderr
    done = workshop.manage("drop_scenario", "--all", **creator)
    assert done.returncode == 0, done.stderr
    assert workshop.prices("t_one") == [30]


def test_a_session_that_the_role_may_not_end_is_named_and_stays(
    workshop: Workshop, creator: dict[str, str | None]
) -> None:
    workshop.write("t_one", ONE)
    assert workshop.manage("load_scenario", "t_one", **creator).returncode == 0
    before = workshop.databases()
    with postgres.session("scenario_t_one") as superuser:
        for arguments in (["load_scenario", "t_one", "--reset"], ["drop_scenario", "t_one"]):
            done = workshop.manage(*arguments, **creator)
            assert done.returncode == 1
            pid = superuser.connection.info.backend_pid
            assert f"in use by {superuser.connection.info.user} (process {pid})" in done.stderr
            assert f"SELECT pg_terminate_backend({pid})" in done.stderr
            assert "CREATEDB" not in done.stderr
        superuser.execute("SELECT count(*) FROM room")
        assert superuser.fetchone() == (1,)
    assert set(workshop.databases()) <= set(before)
    assert workshop.manage("load_scenario", "t_one", "--reset", **creator).returncode == 0


def test_autovacuum_is_not_in_the_way_of_a_role_that_has_createdb(
    workshop: Workshop, creator: dict[str, str | None]
) -> None:
    """A worker that is held up at a cost limit stays in the database for seconds."""
    workshop.write("t_many", "from rooms.seeding import many_rooms\ndef run():\n    many_rooms(20000)\n")
    assert workshop.manage("load_scenario", "t_many", **creator).returncode == 0
    with postgres.session() as server:
        server.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        server.execute("SELECT pg_reload_conf()")
        try:
            workshop.sql("t_many", f"ALTER TABLE room SET ({SLOW_AUTOVACUUM})")
            workshop.sql("t_many", "UPDATE room SET price = price")
            worker = (
                "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = %s"
            )
            wait_until(lambda: found(server, worker, "scenario_t_many"), "autovacuum works", seconds=90)
            done = workshop.manage("load_scenario", "t_many", "--reset", **creator)
            assert done.returncode == 0, done.stderr
            workshop.sql("t_many", "UPDATE room SET price = price")
            wait_until(lambda: found(server, worker, "scenario_t_many"), "autovacuum works", seconds=90)
            done = workshop.manage("drop_scenario", "t_many", **creator)
            assert done.returncode == 0, done.stderr
        finally:
            server.execute("ALTER SYSTEM RESET autovacuum_naptime")
            server.execute("SELECT pg_reload_conf()")


SLOW_AUTOVACUUM = (
    "autovacuum_vacuum_threshold = 1, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
)
"""Of one table: workers that are slow everywhere would be busy in the databases of other tests."""


@pytest.mark.parametrize("role", ["superuser", "role with CREATEDB only"])
def test_a_session_that_run_leaves_open_ends_before_the_renaming(
    workshop: Workshop, creator: dict[str, str | None], role: str
) -> None:
    workshop.write(
        "t_open",
        """
        import psycopg2
        from rentomatic_site import postgres
        from rooms.seeding import room

        sessions = []

        def run():
            sessions.append(psycopg2.connect(postgres.url()))
            room(price=30)
        """,
    )
    env = creator if role != "superuser" else {}
    for arguments in (["t_open"], ["t_open", "--rebuild"]):
        done = workshop.manage("load_scenario", *arguments, **env)
        assert done.returncode == 0, done.stderr
    assert workshop.prices("t_open") == [30]


def found(server: cursor, statement: str, name: str) -> bool:
    server.execute(statement, [name])
    return server.fetchone() is not None


def test_a_reset_ends_sessions_that_come_back_at_once(workshop: Workshop) -> None:
    """Programs that connect again at once hold up the renaming, for PostgreSQL's five seconds each time."""
    workshop.write("t_one", ONE)
    assert workshop.load("t_one").returncode == 0
    over = threading.Event()

    def come_back() -> None:
        ended = 0
        while ended < 2 and not over.is_set():
            with suppress(psycopg2.Error), postgres.session("scenario_t_one") as session:
                try:
                    session.execute("SELECT pg_sleep(20)")
                except psycopg2.Error:
                    ended += 1

    programs = [threading.Thread(target=come_back) for _ in range(4)]
    for program in programs:
        program.start()
    try:
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"
        with postgres.session() as server:
            wait_until(lambda: found(server, sleeping, "scenario_t_one"), "a session")
        done = workshop.load("t_one", "--reset")
        assert done.returncode == 0, done.stderr
    finally:
        over.set()
        for (pid,) in workshop.sql("t_one", "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            workshop.sql("t_one", f"SELECT pg_terminate_backend({pid})")
        for program in programs:
            program.join()
    assert workshop.prices("t_one") == [30]
