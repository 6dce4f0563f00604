"""
A pytest plugin that collects each file of `scenarios/` as a test file, with one test each for: it loads, each
line of its EXPECT, its check(client).

    pytest scenarios/book_rooms.py

A scenario that fails is loaded again on the developer's server, as `pytest_NAME`, since the server of the
tests stops with them; it goes when the scenario has passed. The fixture `scenario` is in pytest_fixture.py.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_django.plugin import blocking_manager_key

if TYPE_CHECKING:  # importing them reads the settings, which pytest-django configures later
    from rentomatic_site.scenarios.clones import Clone
    from rentomatic_site.scenarios.discovery import Scenario
    from rentomatic_site.scenarios.expectations import Expectation

pytest_plugins = ["rentomatic_site.scenarios.pytest_fixture"]

LOADS = "loads"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ScenarioFile | None":
    from rentomatic_site.scenarios import discovery, sources

    if file_path.parent != sources.folder() or not discovery.NAME.fullmatch(file_path.stem):
        return None
    return ScenarioFile.from_parent(parent, path=file_path) if file_path.suffix == ".py" else None


class ExpectationFailed(Exception):
    """An expectation of the scenario is not met; the message says which, and what was found."""


class ScenarioFile(pytest.File):
    """One scenario. Its database is created for the first of its tests and dropped after the last."""

    clone: "Clone | None" = None
    failed = False

    @property
    def scenario(self) -> "Scenario":
        from rentomatic_site.scenarios.discovery import Scenario

        return Scenario(self.path.stem, self.path)

    @property
    def alias(self) -> str:
        """The name under which a failed scenario is loaded on the developer's server."""
        return f"pytest_{self.scenario.name}"[:40]

    def collect(self) -> Iterator[pytest.Item]:
        from rentomatic_site.scenarios import expectations

        yield ScenarioItem.from_parent(self, name=LOADS)
        try:
            state = random.getstate()  # collecting changes no other test's chance
            try:
                expected = expectations.expectations(self.scenario.module())
            finally:
                random.setstate(state)
        except Exception:  # the test `loads` reports it
            return
        for expectation in expected:
            yield ScenarioItem.from_parent(self, name=expectation.label, expectation=expectation)

    def load(self) -> "Clone":
        """The scenario's database, freshly loaded by the first call."""
        from rentomatic_site.scenarios import expectations
        from rentomatic_site.scenarios.pytest_fixture import clones_of_session

        if self.failed and not self.clone:
            pytest.skip("the scenario does not load")
        if not self.clone:
            self.clone = clones_of_session(self.config).take(self.scenario)
            expectations.expectations(self.scenario.module())  # ScenarioError where EXPECT is invalid
        return self.clone

    def teardown(self) -> None:
        from rentomatic_site.scenarios import keeping
        from rentomatic_site.scenarios.pytest_fixture import clones_of_session

        if self.clone:
            self.clone.connection.close()
            clones_of_session(self.config).give_back(self.clone)
        keeping.forget_unless(self.config, self.alias, self.failed)


class ScenarioItem(pytest.Item):
    """The test that the scenario loads, or the test of one expectation."""

    parent: ScenarioFile

    def __init__(self, *, expectation: "Expectation | None" = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.expectation = expectation

    def runtest(self) -> None:
        from rentomatic_site.scenarios import expectations, isolation

        with self.config.stash[blocking_manager_key].unblock():
            clone = self.parent.load()
            if self.expectation:
                with isolation.django_on(clone.name):
                    problem = self.expectation.problem(expectations.client())
                if problem:
                    raise ExpectationFailed(f"✗ {self.expectation.label}: {problem}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from rentomatic_site.scenarios import ScenarioError

        if not isinstance(excinfo.value, ExpectationFailed | ScenarioError):
            return super().repr_failure(excinfo, style)
        message = str(excinfo.value)
        if not self.parent.failed:
            self.parent.failed = True
            message += f"\n\n{self.keep()}"
        return message

    def keep(self) -> str:
        """Load the scenario on the developer's server; return the output, with the lines that open it."""
        from rentomatic_site.scenarios import keeping

        name = self.parent.scenario.name
        arguments = ["load_scenario", name, "--as", self.parent.alias, "--rebuild", "--no-color"]
        done = keeping.manage(self.config, *arguments)
        return f"$ ./manage.py {' '.join(arguments)}\n{done.stdout}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.parent.scenario.name}: {self.name}"
