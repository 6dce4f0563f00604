"""The tests' own ground: their database, other processes on it, missing tools."""

import re
from pathlib import Path

import pytest
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
