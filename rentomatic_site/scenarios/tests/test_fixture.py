"""The fixture `scenario`: a database for each test, with pytest-xdist and without."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from django.test import override_settings

from rentomatic_site import postgres
from rentomatic_site.scenarios import clones
from rentomatic_site.scenarios.clones import Clones
from rentomatic_site.scenarios.discovery import Scenario
from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.plugin import PROJECT
from rentomatic_site.testing.rig import wait_until

THREE = """
    from rooms.seeding import room

    def run():
        open({log!r}, "a").write("filled\\n")
        for price in (30, 60, 90):
            room(price=price)
"""

EACH_DELETES = """
    import pytest
    from rooms.models import Room

    @pytest.mark.scenario("t_three")
    @pytest.mark.parametrize("number", range(8))
    def test_all_three_are_there(number):
        assert [room.price for room in Room.objects.order_by("id")] == [30, 60, 90]
        Room.objects.all().delete()
"""


def run(
    workshop: Workshop, source: str, *arguments: str, wait: bool = True, **variables: str | None
) -> "subprocess.CompletedProcess[str] | subprocess.Popen[str]":
    """pytest on a file of tests, on this test's server as on one that developers share."""
    folder = workshop.folder.parent / "suite"
    folder.mkdir(exist_ok=True)
    (folder / "test_them.py").write_text(dedent(source))
    command = [sys.executable, "-m", "pytest", "-v", "-c", str(PROJECT / "pytest.ini")]
    command += ["--rootdir", str(PROJECT), "-o", f"cache_dir={folder}/cache", str(folder), *arguments]
    environment = {
        name: value
        for name, value in {**workshop.site_env, "PYTHONDONTWRITEBYTECODE": "1", **variables}.items()
        if value is not None
    }
    if not wait:
        return subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def log(workshop: Workshop) -> Path:
    path = workshop.folder.parent / "log"
    workshop.write("t_three", THREE.format(log=str(path)))
    return path


@pytest.mark.parametrize("arguments", [("-n", "0"), ("-n", "2", "--dist", "load")], ids=" ".join)
def test_each_test_has_its_own_rows_and_the_scenario_is_filled_once(
    workshop: Workshop, log: Path, arguments: tuple[str, ...]
) -> None:
    for _ in range(2):
        done = run(workshop, EACH_DELETES, *arguments)
        assert "8 passed" in done.stdout, done.stdout
    assert log.read_text() == "filled\n"
    # What has passed is gone.
    assert [metadata.kind for metadata in workshop.databases().values()] == ["template"]


def test_two_runs_at_once_share_the_template_and_nothing_else(workshop: Workshop, log: Path) -> None:
    runs = [run(workshop, EACH_DELETES, "-n", "0", wait=False) for _ in range(2)]
    for process in runs:
        output, _ = process.communicate(timeout=300)
        assert "8 passed" in output, output
    assert log.read_text() == "filled\n"
    assert [metadata.kind for metadata in workshop.databases().values()] == ["template"]


def test_what_failed_is_kept_until_it_passes_and_the_report_opens_it(workshop: Workshop, log: Path) -> None:
    source = """
        import pytest
        from rooms.models import Room

        @pytest.mark.scenario("t_three")
        def test_rooms(scenario):
            Room.objects.filter(price=60).delete()
            assert Room.objects.count() == {expected}
    """
    failed = run(workshop, source.format(expected=3), "-n", "0")
    assert "1 failed" in failed.stdout
    ((alias),) = re.findall(r"Its database is kept: SCENARIO=(\w+) \./manage\.py dbshell", failed.stdout)
    assert workshop.prices(alias) == [30, 90]
    shell = workshop.manage("dbshell", "--", "-Atc", "SELECT sum(price) FROM room", SCENARIO=alias)
    assert shell.stdout == "120\n"
    assert re.search(rf"^{alias} +incomplete +2 .*kept by a test that failed", workshop.load().stdout, re.M)

    passed = run(workshop, source.format(expected=2), "-n", "0")
    assert "1 passed" in passed.stdout, passed.stdout
    assert [metadata.kind for metadata in workshop.databases().values()] == ["template"]


def test_a_scenario_that_passes_again_takes_its_kept_database_along(workshop: Workshop) -> None:
    scenario = "EXPECT = {{'': {}}}\nfrom rooms.seeding import room\ndef run():\n    room(price=5)\n"
    workshop.write("t_kept", scenario.format(2))
    assert "SCENARIO=pytest_t_kept" in run(workshop, "", str(workshop.folder), "-n", "0").stdout
    assert workshop.prices("pytest_t_kept") == [5]
    workshop.write("t_kept", scenario.format(1))
    assert "2 passed" in run(workshop, "", str(workshop.folder), "-n", "0").stdout
    assert [metadata.kind for metadata in workshop.databases().values()] == ["template"]


def test_a_killed_run_leaves_nothing_for_good(workshop: Workshop, log: Path) -> None:
    source = """
        import os, signal, pytest

        @pytest.mark.scenario("t_three")
        @pytest.mark.parametrize("number", range(4))
        def test_killed(number):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(workshop, source, "-n", "0").returncode == -signal.SIGKILL
    assert [metadata.kind for metadata in workshop.databases().values()].count("test") >= 1
    assert "8 passed" in run(workshop, EACH_DELETES, "-n", "0").stdout
    assert [metadata.kind for metadata in workshop.databases().values()] == ["template"]


def test_drop_scenario_takes_the_clones_of_killed_tests_and_leaves_the_others(
    workshop: Workshop, log: Path
) -> None:
    living = Clones()
    with override_settings(SCENARIOS_DIR=workshop.folder):
        clone = living.take(Scenario("t_three", workshop.folder / "t_three.py"))
    program = (
        "import django, os, signal; django.setup()\n"
        "from rentomatic_site.scenarios import clones, discovery\n"
        "made = clones.Clones(); made.take(discovery.find('t_three'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = workshop.site_env | {"DJANGO_SETTINGS_MODULE": "rentomatic_site.settings"}
    # Clones() has swept by then, so the process that is killed is the later one.
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, env=environment, check=False)
    tests = [name for name, metadata in workshop.databases().items() if metadata.kind == "test"]
    assert len(tests) == 2
    with postgres.session() as server:
        wait_until(
            lambda: sum(clones.is_alive(server, name) for name in tests) == 1, "the end of the session"
        )
    workshop.call("drop_scenario", "--older-than", "1d")
    assert [name for name in workshop.databases() if name in tests] == [clone.name]
    clone.connection.close()
    living.close()
    assert clone.name not in workshop.databases()


def test_a_warm_pool_hands_out_a_connected_database_without_a_statement(
    workshop: Workshop, log: Path
) -> None:
    """What remains in hand is no statement on the server: neither CREATE DATABASE nor a connection."""
    pool = Clones()
    scenario = Scenario("t_three", workshop.folder / "t_three.py")
    with override_settings(SCENARIOS_DIR=workshop.folder):
        first = pool.take(scenario, wanted=5)
    wait_until(lambda: len(pool.spares["t_three"]) == clones.SPARES, "the spares")
    spare = pool.spares["t_three"][0]
    made = pool.made
    second = pool.take(scenario, wanted=0)
    assert second is spare
    assert pool.made == made
    with second.connection.cursor() as session:
        session.execute("SELECT current_database(), count(*) FROM room")
        assert session.fetchall() == [(second.name, 3)]
    for clone in (first, second):
        clone.connection.close()
        pool.give_back(clone)
    pool.close()
    assert "test" not in {metadata.kind for metadata in workshop.databases().values()}


def test_a_scenario_that_raises_fails_its_tests_with_its_traceback(workshop: Workshop) -> None:
    workshop.write("t_raises", "def run():\n    1 / 0\n")
    source = "import pytest\n\n@pytest.mark.scenario('t_raises')\ndef test(): pass\n"
    done = run(workshop, source, "-n", "0")
    assert done.returncode == 1
    assert 't_raises.py", line 2, in run\n    1 / 0' in done.stdout
    assert "Next: ./manage.py load_scenario t_raises" in done.stdout
    assert workshop.databases() == {}


def test_a_failed_tests_database_is_copied_from_a_server_that_ends(
    workshop: Workshop, log: Path, tmp_path: Path
) -> None:
    source = """
        import pytest
        from rooms.models import Room

        @pytest.mark.scenario("t_three")
        def test_rooms():
            Room.objects.filter(price=60).delete()
            assert False
    """
    developers = {
        "DATABASE_URL": None,
        "DEBUG": "on",
        "EMBEDDED_POSTGRES_DIR": str(tmp_path / "developers"),
    }
    failed = run(workshop, source, "-n", "0", **developers)
    assert "1 failed" in failed.stdout, failed.stdout
    (alias,) = re.findall(r"SCENARIO=(\w+) \./manage\.py dbshell", failed.stdout)
    listed = workshop.manage("rooms", "--format", "csv", SCENARIO=alias, **developers)
    assert [line.split(",")[2] for line in listed.stdout.splitlines()[1:]] == ["30", "90"], listed.stderr
    passed = run(workshop, source.replace("assert False", ""), "-n", "0", **developers)
    assert "1 passed" in passed.stdout
    assert alias not in workshop.manage("list_scenarios", **developers).stdout


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("@pytest.mark.scenario('t_tree')\ndef test(): pass", "Did you mean t_three?"),
        ("@pytest.mark.scenario\ndef test(): pass", 'names no scenario. Next: @pytest.mark.scenario("book'),
        ("def test(scenario): pass", "names no scenario"),
        (
            "@pytest.mark.django_db\n@pytest.mark.scenario('t_three')\ndef test(): pass",
            "Next: take away django_db, db or transactional_db",
        ),
    ],
)
def test_a_mark_that_cannot_be_is_an_error_with_the_next_step(
    workshop: Workshop, log: Path, source: str, message: str
) -> None:
    done = run(workshop, f"import pytest\n\n{source}\n", "-n", "0")
    assert done.returncode == 1
    assert message in done.stdout


def test_processes_that_a_test_starts_are_on_its_database(workshop: Workshop, log: Path) -> None:
    source = """
        import subprocess, sys, pytest

        @pytest.mark.scenario("t_three")
        def test_prices(scenario):
            command = [sys.executable, "manage.py", "rooms", "--format", "csv"]
            done = subprocess.run(command, capture_output=True)
            assert done.stdout.count(b"\\n") == 4, done.stderr
            assert len(scenario.client.get("/rooms").json()) == 3
    """
    done = run(workshop, source, "-n", "0")
    assert "1 passed" in done.stdout, done.stdout
