"""
A scenario's database for one test:

    @pytest.mark.scenario("million_rooms")
    def test_the_cheapest_room_is_free(scenario):
        assert Room.objects.order_by("price").first().price == 0

Each test has a clone of its own (clones.py), which is gone when it has passed. That of a test that failed
is kept, and the report has the line that opens it (keeping.py). The fixture is a `Handed`; a test with the
mark need not name it.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from pytest_django.plugin import blocking_manager_key

if TYPE_CHECKING:  # importing them reads the settings, which pytest-django configures later
    from django.test import Client

    from rentomatic_site.scenarios.clones import Clone, Clones
    from rentomatic_site.scenarios.discovery import Scenario

CLONES = pytest.StashKey["Clones"]()
WANTED = pytest.StashKey[Counter[str]]()
"""How many tests of this process may still ask for each scenario."""
DEVELOPERS = pytest.StashKey[dict[str, str]]()
"""The environment of the developer's server, where the tests have one of their own; the project's plugin."""
HANDED = pytest.StashKey["Handed"]()
FAILED = pytest.StashKey[bool]()

MARK = "scenario"


@dataclass
class Handed:
    """The database of one test."""

    clone: "Clone"
    alias: str
    """The value of SCENARIO under which the database is kept when the test fails."""

    @property
    def database(self) -> str:
        """Its name on the server."""
        return self.clone.name

    @property
    def name(self) -> str:
        """The value of SCENARIO with which other processes use it while the test runs."""
        from rentomatic_site.scenarios import names

        return names.alias_of(self.clone.name)

    @property
    def client(self) -> "Client":
        """Django's test client, with an allowed host and over HTTPS."""
        from rentomatic_site.scenarios import expectations

        return expectations.client()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}(name): the test has a database of its own with the rows of that scenario"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the tests of each scenario."""
    session.config.stash[WANTED] = Counter(
        mark.args[0] for item in session.items if (mark := item.get_closest_marker(MARK)) and mark.args
    )


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """The mark asks for the fixture, before all others."""
    if item.get_closest_marker(MARK) and MARK not in getattr(item, "fixturenames", [MARK]):
        item.fixturenames.insert(0, MARK)  # type: ignore[attr-defined]  # of functions


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Iterator[Handed]:
    """The test's own clone of the scenario that its mark names; Django's connections lead to it."""
    from rentomatic_site.scenarios import ScenarioError, isolation, keeping

    item, config = request.node, request.config
    found = scenario_of(item)
    if {"db", "transactional_db"} & set(request.fixturenames) or item.get_closest_marker("django_db"):
        raise pytest.UsageError(
            f"{item.nodeid} has the mark scenario, which has a database of its own. "
            "Next: take away django_db, db or transactional_db"
        )
    wanted = config.stash[WANTED]
    wanted[found.name] -= 1
    with config.stash[blocking_manager_key].unblock():
        clones = clones_of_session(config)
        try:
            clone = clones.take(found, wanted[found.name])
        except ScenarioError as error:
            pytest.fail(f"{error}\n\nNext: ./manage.py load_scenario {found.name}", pytrace=False)
        handed = item.stash[HANDED] = Handed(clone, keeping.alias(found.name, item.nodeid))
        with isolation.django_on(clone.name, clone.connection):
            yield handed
        if item.stash.get(FAILED, False):
            keeping.keep(config, clone, handed.alias)
        keeping.forget_unless(config, handed.alias, item.stash.get(FAILED, False))
        clones.give_back(clone)


def scenario_of(item: pytest.Item) -> "Scenario":
    """The scenario that the test's mark names."""
    from rentomatic_site.scenarios import ScenarioError, discovery

    mark = item.get_closest_marker(MARK)
    if mark is None or len(mark.args) != 1 or mark.kwargs:
        raise pytest.UsageError(
            f'{item.nodeid} names no scenario. Next: @pytest.mark.scenario("book_rooms") on the test'
        )
    try:
        return discovery.find(mark.args[0])
    except ScenarioError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def clones_of_session(config: pytest.Config) -> "Clones":
    """The clones of this process, from the first one on."""
    from rentomatic_site.scenarios.clones import Clones

    if CLONES not in config.stash:
        config.stash[CLONES] = Clones()
    return config.stash[CLONES]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that the test failed, and add the line that opens its database."""
    from rentomatic_site.scenarios import keeping

    report = yield
    handed = item.stash.get(HANDED, None)
    if handed and report.failed and report.when != "teardown":
        item.stash[FAILED] = True
        report.sections.append(("scenario", keeping.opening(handed.alias)))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop what is left of the clones."""
    if CLONES in session.config.stash:
        session.config.stash[CLONES].close()
