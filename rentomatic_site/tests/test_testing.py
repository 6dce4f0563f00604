"""The tests' own ground: their database, other processes on it, missing tools."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import django.db.models
import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from django.contrib.auth.models import Group

from rentomatic_site.testing.plugin import PROJECT, needs


@pytest.mark.django_db(transaction=True)
def test_another_process_sees_the_tests_database(manage):
    Group.objects.create(name="seen from outside")
    script = (
        "from django.contrib.auth.models import Group; print(Group.objects.filter(name__contains='outside'))"
    )
    response = manage("shell", "-v0", "-c", script)
    assert (response.stdout, response.stderr, response.returncode) == (
        "<QuerySet [<Group: seen from outside>]>\n",
        "",
        0,
    )


def test_a_missing_tool_skips(monkeypatch):
    monkeypatch.delenv("REQUIRE_ALL_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs no-such-program"):
        needs("sh", "no-such-program")


def test_a_missing_tool_fails_where_all_are_required(monkeypatch):
    monkeypatch.setenv("REQUIRE_ALL_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="needs no-such-program"):
        needs("no-such-program")


def test_the_ci_run_installs_every_tool_that_a_test_needs():
    wanted = set(re.findall(r"^want (\S+)", (PROJECT / ".ci" / "run").read_text(), re.MULTILINE))
    calls = [
        call
        for folder in ("rentomatic_site", "rooms", "scenarios", "deploy", "benchmarks")
        for file in (PROJECT / folder).rglob("*.py")
        if file != Path(__file__)
        for call in re.findall(r"needs\(((?:\"[\w-]+\"(?:, )?)+)\)", file.read_text())
    ]
    needed = {tool for call in calls for tool in re.findall(r"[\w-]+", call)}
    # Where no engine is, `make test-compose` is left out with its reason.
    assert needed - wanted == {"root", "docker"}


def test_a_tool_that_is_there_is_no_obstacle():
    needs("sh")


def test_pytest_starts_without_unused_plugins_and_leaves_django_compiled(pytestconfig):
    loaded = {name for name, plugin in pytestconfig.pluginmanager.list_name_plugin() if plugin}
    assert loaded.isdisjoint({"django", "schemathesis", "hypothesispytest", "faker", "anyio"})
    assert "pytest_django.plugin" in loaded
    assert not isinstance(django.db.models.__loader__, AssertionRewritingHook)


LEAVES = """
import subprocess

def test_process(tmp_path):
    subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, env={"HOME": f"{tmp_path}/"})

def test_database(db, django_db_blocker):
    from rentomatic_site import postgres
    with postgres.session() as server:
        postgres.create_database(server, "scenario_forgotten")
"""


def test_a_run_that_leaves_something_behind_fails_and_names_it(tmp_path):
    server = {"DATABASE_URL", "DATABASE_URL_FILE", "POSTGRES_HOSTNAME"}
    runs = []
    for workers in ("0", "2"):  # at the same time: each waits for what is left
        folder = tmp_path / workers
        folder.mkdir()
        (folder / "test_leaves.py").write_text(LEAVES)
        command = [sys.executable, "-m", "pytest", "-q", "-n", workers, "-c", PROJECT / "pytest.ini"]
        run = subprocess.Popen(
            [*command, "--rootdir", PROJECT, "--basetemp", folder / "tmp", folder],
            cwd=PROJECT,
            env={name: value for name, value in os.environ.items() if name not in server},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        runs.append(run)
    for run in runs:
        output, _ = run.communicate()
        assert "2 passed" in output, output
        assert run.returncode == pytest.ExitCode.TESTS_FAILED
        process, database = re.findall(r"^ERROR a test left behind: (.*)$", output, re.MULTILINE)
        os.kill(int(re.fullmatch(r"process (\d+): sleep 600", process)[1]), signal.SIGKILL)
        assert database == "database scenario_forgotten"
