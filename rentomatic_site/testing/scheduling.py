"""Which worker of pytest-xdist runs which tests, and in which order."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

SCENARIOS = "rentomatic_site/scenarios/tests/"
TOGETHER = {
    SCENARIOS: SCENARIOS,
    "rentomatic_site/tests/documents/test_scenarios.py": SCENARIOS,
    "rentomatic_site/tests/test_start.py": SCENARIOS,
    "rentomatic_site/tests/documents/": "documents",
}
"""
Tests that one worker runs, because they use the same databases and roles on the server, or the same site that
takes long to start. Path → unit; the first that fits.
"""

LONGEST_FIRST = (
    SCENARIOS,
    "documents",
    "rentomatic_site/embedded/tests/test_embedded.py",
    "benchmarks/tests/test_benchmarks.py",
    "rooms/tests/admin/test_browser.py",
    "deploy/tests/test_faults.py",
    "rentomatic_site/tests/test_install.py",
    "rentomatic_site/embedded/tests/test_postgres_command.py",
    "deploy/tests/test_load.py",
    "rooms/tests/test_rooms_command.py",
    "rooms/tests/api/test_fuzz.py",
    "deploy/tests/test_gunicorn.py",
    "rooms/tests/admin/test_speed.py",
    "rooms/tests/api/test_estimates.py",
)
"""Units that take longest, in this order, so that no worker begins one when the others have nothing left."""


def unit(nodeid: str) -> str:
    """What a worker runs as a whole: the test's module, whose fixtures its tests share, or several."""
    for path, name in TOGETHER.items():
        if nodeid.startswith(path):
            return name
    return nodeid.split("::", 1)[0]


def sort(items: list[pytest.Item]) -> None:
    """The order in which `ByUnit` gives units away."""
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(unit(item.nodeid), len(rank)))


class ByUnit(LoadFileScheduling):
    """Gives a worker that has nothing left the next unit, in the order of the collected tests."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by the number of tests, which says little

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
