"""rehearse_migrations: what pending migrations would do, tried on copies."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
from django.test import modify_settings, override_settings

from rentomatic_site import postgres
from rentomatic_site.scenarios import old_code
from rentomatic_site.scenarios.tests.workshop import Workshop, role_with_createdb
from rentomatic_site.testing.plugin import PROJECT
from rentomatic_site.testing.rig import wait_until

ROOMS = "from rooms.seeding import many_rooms\ndef run():\n    many_rooms(200)\n"
MIGRATION = """
from django.db import migrations


class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("rooms", "0001_room")]
    operations = [
{operations}
    ]
"""
REVERSIBLE = ("ALTER TABLE room ADD floor int", "ALTER TABLE room DROP floor")

Rehearse = Callable[..., dict[str, Any]]


@pytest.fixture
def trial(tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A loaded scenario, and an app t_trial whose migrations `write_migration` writes."""
    workshop.write("t_rooms", ROOMS)
    assert workshop.load("t_rooms").returncode == 0
    package = tmp_path / "t_trial" / "migrations"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with modify_settings(INSTALLED_APPS={"append": "t_trial"}):
        yield workshop
    for name in [name for name in sys.modules if name.partition(".")[0] == "t_trial"]:
        del sys.modules[name]


def write_migration(workshop: Workshop, *operations: tuple[str, str | None], atomic: bool = True) -> None:
    """A migration of RunSQL operations, each with its statement and the one that takes it back."""
    lines = [f"migrations.RunSQL({forwards!r}, {backwards!r})," for forwards, backwards in operations]
    source = MIGRATION.format(atomic=atomic, operations=indent("\n".join(lines), " " * 8))
    (workshop.folder.parent / "t_trial" / "migrations" / "0001_trial.py").write_text(dedent(source))


def rehearse(workshop: Workshop, *arguments: str, status: int = 0) -> dict[str, Any]:
    """What `rehearse_migrations --json` says of t_rooms."""
    done = workshop.call("rehearse_migrations", "--on", "t_rooms", "--json", *arguments)
    assert done.returncode == status, done.stderr + done.stdout
    (result,) = json.loads(done.stdout)
    return result


def operations(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for migration in result["migrations"] for operation in migration["operations"]]


def test_without_pending_migrations_nothing_is_copied(workshop: Workshop) -> None:
    workshop.write("t_rooms", ROOMS)
    workshop.load("t_rooms")
    before = workshop.databases()
    done = workshop.call("rehearse_migrations", "--on", "t_rooms")
    assert (done.returncode, "No migration is pending" in done.stdout, done.stderr) == (0, True, "")
    assert workshop.databases() == before


def test_locks_rewrites_and_rows_are_told_of_each_operation(trial: Workshop) -> None:
    write_migration(
        trial,
        ("UPDATE room SET price = price WHERE id <= 20", ""),
        ("ALTER TABLE room ALTER price TYPE bigint", "ALTER TABLE room ALTER price TYPE int"),
        ("CREATE INDEX trial ON room (price)", "DROP INDEX trial"),
    )
    result = rehearse(trial, "--no-code")
    update, rewrite, index, *_ = [one for one in operations(result) if one["name"].startswith("RunSQL")]
    assert (update["locks"]["room"], update["rows"]) == ("RowExclusiveLock", 20)
    assert "room" not in update["blocks"]
    assert rewrite["locks"]["room"] == "AccessExclusiveLock"
    assert rewrite["blocks"]["room"] == "reads and writes"
    assert rewrite["rewrites"] == {"room": 200}
    assert (index["rewrites"], index["held"]["room"]) == ({}, "AccessExclusiveLock")
    held = result["migrations"][0]["held"]["room"]
    assert held["blocks"] == "reads and writes"
    assert held["seconds"] > 0


def test_the_lock_of_a_statement_outside_of_a_transaction_is_told(trial: Workshop) -> None:
    write_migration(
        trial,
        ("CREATE INDEX CONCURRENTLY trial ON room (price)", "DROP INDEX trial"),
        ("CREATE INDEX trial2 ON room (price)", "DROP INDEX trial2"),
        atomic=False,
    )
    concurrently, plain, *_ = [
        one for one in operations(rehearse(trial, "--no-code")) if one["name"].startswith("RunSQL")
    ]
    assert set(concurrently["locks"].values()) <= {"ShareUpdateExclusiveLock"}
    assert (plain["locks"]["room"], plain["blocks"]["room"]) == ("ShareLock", "writes")


def test_the_locks_of_each_transaction_of_a_migration_are_counted_by_themselves(trial: Workshop) -> None:
    write_migration(trial, REVERSIBLE)
    path = trial.folder.parent / "t_trial" / "migrations" / "0001_trial.py"
    path.write_text(
        dedent(
            """
            import time
            from django.db import migrations, transaction

            def lock_for_a_moment(apps, schema_editor):
                with transaction.atomic(), schema_editor.connection.cursor() as cursor:
                    cursor.execute("LOCK TABLE room")
                time.sleep(1.5)
                with schema_editor.connection.cursor() as cursor:
                    cursor.execute("SELECT 1")

            class Migration(migrations.Migration):
                atomic = False
                dependencies = [("rooms", "0001_room")]
                operations = [migrations.RunPython(lock_for_a_moment, migrations.RunPython.noop)]
            """
        )
    )
    result = rehearse(trial, "--no-code")
    (migration,) = result["migrations"]
    assert migration["held"]["room"]["blocks"] == "reads and writes"
    assert migration["held"]["room"]["seconds"] <= migration["seconds"] - 1.5


def test_a_lock_that_is_held_too_long_is_a_problem(trial: Workshop) -> None:
    write_migration(trial, REVERSIBLE)
    assert rehearse(trial, "--no-code", "--blocking", "3600")["problems"] == []
    (problem,) = rehearse(trial, "--no-code", "--blocking", "0", status=1)["problems"]
    assert problem.startswith("t_trial.0001_trial blocks reads and writes of room for ")


def test_what_the_old_code_cannot_do_any_more_is_a_problem(trial: Workshop) -> None:
    write_migration(
        trial,
        (
            "ALTER TABLE room ADD kind int NOT NULL DEFAULT 0; ALTER TABLE room ALTER kind DROP DEFAULT",
            "ALTER TABLE room DROP kind",
        ),
    )
    result = rehearse(trial, "--code", str(PROJECT), status=1)
    (step,) = result["broken"]
    assert step.startswith("insert rooms.Room: IntegrityError: null value in column")
    assert f"the code of {PROJECT} does not work on the new schema: {step}" in result["problems"]


def test_the_requests_that_a_scenario_expects_are_tried_by_the_old_code(trial: Workshop) -> None:
    trial.write("t_rooms", ROOMS + '\nEXPECT = {"filter_size__gt=5": 3}\n')
    write_migration(trial, ("ALTER TABLE room RENAME size TO area", "ALTER TABLE room RENAME area TO size"))
    result = rehearse(trial, "--code", str(PROJECT), status=1)
    assert any(step.startswith("GET /rooms?filter_size__gt=5: 5") for step in result["broken"])


def test_the_old_code_comes_from_the_repository(trial: Workshop) -> None:
    write_migration(trial, REVERSIBLE)
    result = rehearse(trial)
    assert (result["code"], result["broken"]) == ("HEAD", [])
    done = trial.call("rehearse_migrations", "--on", "t_rooms", "--code", "no_such_revision")
    assert done.returncode == 1
    assert "Next: --code FOLDER, with the code that serves now, or --no-code" in done.stderr


def test_the_old_code_is_that_before_the_migrations_were_committed() -> None:
    last = sorted((PROJECT / "rooms" / "migrations").glob("0*.py"))[-1]
    revision = old_code.revision_without([last])
    names = old_code.git("ls-tree", "--name-only", revision, "rooms/migrations/").decode().split()
    assert f"rooms/migrations/{last.name}" not in names
    assert "rooms/migrations/0001_room.py" in names


@pytest.mark.parametrize(
    ("backwards", "problem"),
    [
        (None, "there is no way back: "),
        ("SELECT 1", "backwards the schema is not as before: column room.floor is left"),
    ],
)
def test_a_way_back_that_is_missing_or_wrong_is_a_problem(
    trial: Workshop, backwards: str | None, problem: str
) -> None:
    write_migration(trial, (REVERSIBLE[0], backwards))
    (found,) = rehearse(trial, "--no-code", status=1)["problems"]
    assert found.startswith(problem)


def test_rows_that_are_not_as_before_after_the_way_back_are_told(trial: Workshop) -> None:
    write_migration(trial, ("UPDATE room SET price = 1 WHERE id <= 3", ""))
    assert "room: 3 rows changed" in rehearse(trial, "--no-code")["backwards"]["rows"]


def test_a_migration_that_fails_is_a_problem_and_leaves_nothing(trial: Workshop) -> None:
    before = trial.databases()
    write_migration(trial, REVERSIBLE, ("ALTER TABLE room ADD CHECK (price < 0)", ""))
    (problem,) = rehearse(trial, "--no-code", status=1)["problems"]
    assert problem.startswith("t_trial.0001_trial fails: IntegrityError")
    assert trial.databases() == before
    assert trial.sql("t_rooms", "SELECT 1 FROM pg_attribute WHERE attname = 'floor'") == []


def test_people_get_the_same_in_words(trial: Workshop) -> None:
    write_migration(trial, REVERSIBLE)
    done = trial.call("rehearse_migrations", "--on", "t_rooms", "--no-code")
    assert done.returncode == 0, done.stderr
    assert "locks room: AccessExclusiveLock, blocks reads and writes" in done.stdout
    assert "They go backwards" in done.stdout
    assert "✓ nothing would go wrong" in done.stdout


# --- A copy of another database


@pytest.fixture
def restored(trial: Workshop) -> Iterator[str]:
    """A database that is no scenario, such as a restored backup."""
    with postgres.session() as server:
        postgres.end_sessions(server, "scenario_t_rooms")
        postgres.create_database(server, "t_restored", template="scenario_t_rooms")
        yield "t_restored"
        postgres.drop_database(server, "t_restored")


def test_a_restored_database_is_copied_and_stays_as_it_is(trial: Workshop, restored: str) -> None:
    write_migration(trial, REVERSIBLE)
    for url in (restored, postgres.url(restored)):
        done = trial.call("rehearse_migrations", "--database", url, "--no-code", "--json")
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)
        assert [migration["name"] for migration in result["migrations"]] == ["t_trial.0001_trial"]
    with postgres.session(restored) as session:
        session.execute("SELECT count(*) FROM pg_attribute WHERE attname = 'floor'")
        assert session.fetchone() == (0,)


def test_databases_that_are_in_use_or_the_applications_are_refused(trial: Workshop, restored: str) -> None:
    write_migration(trial, REVERSIBLE)

    def refusal(name: str) -> str:
        done = trial.call("rehearse_migrations", "--database", name, "--no-code")
        assert done.returncode == 1
        return done.stderr

    with postgres.session(restored):
        assert "t_restored has 1 sessions" in refusal(restored)
    with override_settings(APPLICATION_DB=restored):
        assert "t_restored is the application's or the maintenance database" in refusal(restored)
    assert "The server has no database t_absent" in refusal("t_absent")
    assert "t_restored is on db.example.com:5432" in refusal("postgres://u@db.example.com/t_restored")


# --- Stopped, and as another role


@pytest.fixture
def behind(workshop: Workshop) -> Workshop:
    """A scenario that lacks the last migration of rooms."""
    workshop.write("t_rooms", ROOMS)
    workshop.load("t_rooms")
    done = workshop.manage("migrate", "rooms", "0010", SCENARIO="t_rooms")
    assert done.returncode == 0, done.stderr
    return workshop


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_rehearsal_that_is_stopped_leaves_nothing(behind: Workshop, stop: signal.Signals) -> None:
    before = set(behind.databases())
    process = behind.start("rehearse_migrations", "--on", "t_rooms", "--code", str(PROJECT))
    wait_until(lambda: set(behind.databases()) - before, "the copy", seconds=60)
    process.send_signal(stop)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    if stop == signal.SIGKILL:  # the next command on the scenario removes what it left
        behind.call("scenario", "list", "--on", "t_rooms")
    wait_until(lambda: set(behind.databases()) == before, "the end of the copy")


def test_a_role_that_has_createdb_rehearses(workshop: Workshop) -> None:
    workshop.write("t_rooms", ROOMS)
    with role_with_createdb("t_rehearser") as role:
        assert workshop.manage("load_scenario", "t_rooms", **role).returncode == 0
        back = workshop.manage("migrate", "rooms", "0010", **role, SCENARIO="t_rooms")
        assert back.returncode == 0, back.stderr
        done = workshop.manage("rehearse_migrations", "--on", "t_rooms", "--no-code", **role)
        assert "rooms.0011" in done.stdout, done.stderr
        assert "They go backwards" in done.stdout
