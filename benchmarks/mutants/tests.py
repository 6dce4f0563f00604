"""Which tests `make mutants` runs for which module."""

from pathlib import Path

from benchmarks.mutants.project import MutantsError

API, ADMIN, SITE = "rooms/tests/api/test_", "rooms/tests/admin/test_", "rentomatic_site/tests/test_"
ROOMS, PAGES, SCENARIOS = (
    "rooms/tests/test_",
    "rooms/tests/pages/test_",
    "rentomatic_site/scenarios/tests/test_",
)
TESTS = {
    "rooms/imports": ["rooms/tests/imports"],
    "rooms/admin/actions": [f"{ADMIN}bulk.py", f"{ADMIN}locks.py", f"{ADMIN}access.py"],
    "rooms/admin/files": [f"{ADMIN}files.py", f"{ADMIN}file_bounds.py", f"{ADMIN}locks.py"],
    "rooms/admin/form.py": [f"{ADMIN}form.py", f"{ADMIN}odd_input.py"],
    "rooms/admin/history.py": [f"{ADMIN}form.py", f"{ADMIN}bulk.py", f"{ADMIN}files.py"],
    "rooms/admin/list_filters.py": [f"{ADMIN}list.py", f"{ADMIN}odd_input.py"],
    "rooms/admin/inline.py": [f"{ADMIN}inline.py"],
    "rooms/admin/jobs": [f"{ADMIN}undo.py", f"{ADMIN}large_bulk.py"],
    "rooms/admin/neighbours.py": [f"{ADMIN}neighbours.py"],
    "rooms/admin/saved_filters.py": [f"{ADMIN}saved_filters.py"],
    "rooms/admin/listing.py": [f"{ADMIN}list.py", f"{ADMIN}speed.py"],
    "rooms/admin/locks.py": [f"{ADMIN}locks.py", f"{ADMIN}bulk.py", f"{ADMIN}file_bounds.py"],
    "rooms/admin/room.py": [f"{ADMIN}form.py", f"{ADMIN}list.py", f"{ADMIN}locks.py", f"{ADMIN}access.py"],
    "rentomatic_site/logins.py": [f"{ADMIN}throttle.py", f"{ADMIN}access.py"],
    "rentomatic_site/middleware.py": [f"{SITE}middleware.py", f"{ADMIN}throttle.py", f"{API}http.py"],
    "rentomatic_site/probes.py": [f"{SITE}probes.py"],
    "deploy/watchdog.py": ["deploy/tests/test_watchdog.py"],
    "rentomatic_site/lab/capture.py": [f"{SCENARIOS}query_lab.py"],
    "rentomatic_site/lab/measuring.py": [f"{SCENARIOS}query_lab.py"],
    "rentomatic_site/scenarios/clones.py": [f"{SCENARIOS}fixture.py"],
    "rentomatic_site/scenarios/keeping.py": [f"{SCENARIOS}fixture.py"],
    "rentomatic_site/scenarios/names.py": [f"{SCENARIOS}databases.py", f"{SCENARIOS}safety.py"],
    "rentomatic_site/scenarios/sources.py": [f"{SCENARIOS}sources.py", f"{SCENARIOS}loading.py"],
    "rentomatic_site/scenarios/databases.py": [f"{SCENARIOS}databases.py", f"{SCENARIOS}safety.py"],
    "rentomatic_site/scenarios/discovery.py": [f"{SCENARIOS}loading.py"],
    "rentomatic_site/scenarios/expectations.py": [f"{SCENARIOS}loading.py"],
    "rentomatic_site/scenarios/isolation.py": [f"{SCENARIOS}isolation.py"],
    "rentomatic_site/scenarios/loading.py": [f"{SCENARIOS}loading.py", f"{SCENARIOS}databases.py"],
    "rentomatic_site/scenarios/locks.py": [f"{SCENARIOS}databases.py"],
    "rentomatic_site/scenarios/running.py": [f"{SCENARIOS}loading.py", f"{SCENARIOS}databases.py"],
    "rooms/columns.py": [
        f"{ROOMS}columns.py",
        f"{ROOMS}coordinates.py",
        f"{API}openapi.py",
        f"{ROOMS}seeding.py",
    ],
    "rooms/bulk.py": [f"{ROOMS}seeding.py"],
    "rooms/interleaving.py": [f"{ROOMS}interleaving.py"],
    "rooms/counting.py": [f"{ROOMS}counting.py", f"{API}statistics.py", f"{ADMIN}list.py"],
    "rooms/sampling.py": [f"{ROOMS}counting.py", f"{API}clusters.py"],
    "rooms/views.py": [
        f"{API}exports.py",
        f"{PAGES}links.py",
        f"{API}http.py",
        f"{API}formats.py",
        f"{API}changes.py",
    ],
    "rooms/api/arguments.py": ["rooms/tests/test_rooms_command.py"],
    "rooms/api/changes.py": [f"{API}changes.py", "rooms/tests/test_room_changes.py"],
    "rooms/api/clusters.py": [f"{API}clusters.py"],
    "rooms/api/conditions.py": [f"{API}paging.py", f"{API}operators.py", f"{API}geo.py"],
    "rooms/api/errors.py": [f"{API}http.py", f"{API}faults.py", f"{API}exports.py", f"{API}bad_input.py"],
    "rooms/api/exports.py": [f"{API}exports.py", f"{API}formats.py"],
    "rooms/api/formats.py": [f"{API}exports.py", f"{API}formats.py"],
    "rooms/api/geo.py": [f"{API}geo.py", f"{API}bad_input.py"],
    "rooms/api/grid.py": [f"{API}clusters.py"],
    "rooms/api/hints.py": [f"{API}bad_input.py"],
    "rooms/api/nearest.py": [f"{API}nearest.py", f"{API}nearest_rows.py"],
    "rooms/api/negotiation.py": [f"{API}http.py", f"{API}formats.py"],
    "rooms/api/ogc.py": [f"{API}ogc.py"],
    "rooms/api/openapi.py": [f"{API}openapi.py"],
    "rooms/api/operators.py": [f"{API}paging.py", f"{API}bad_input.py", f"{API}openapi.py"],
    "rooms/api/pagination.py": [f"{API}pagination.py", f"{API}bad_input.py"],
    "rooms/api/paging.py": [f"{API}paging.py", f"{API}pagination.py"],
    "rooms/api/parameters.py": [f"{API}bad_input.py", f"{API}openapi.py"],
    "rooms/api/prepared.py": [f"{API}prepared.py"],
    "rooms/api/rings.py": [f"{API}nearest.py"],
    "rooms/api/search.py": [f"{API}bad_input.py", f"{API}geo.py", f"{API}pagination.py"],
    "rooms/api/suggestions.py": [f"{API}bad_input.py"],
    "rooms/api/schemas.py": [f"{API}openapi.py"],
    "rooms/api/times.py": [f"{API}changes.py", f"{API}ogc.py"],
    "rooms/api/plans.py": [f"{API}paging.py", f"{API}pagination.py", f"{API}geo.py"],
    "rooms/api/queries.py": [
        f"{API}pagination.py",
        f"{API}geo.py",
        f"{API}formats.py",
        f"{API}nearest_rows.py",
        f"{ROOMS}counting.py",
    ],
    "rooms/api/statistics.py": [f"{API}statistics.py"],
    "rooms/api/timing.py": [f"{API}http.py"],
}
"""The tests that concern a module or the modules of a folder, the most likely to fail first."""

OWN_SERVER = ("rentomatic_site/scenarios/", "rentomatic_site/tests/", "deploy/")
"""Tests that look at all databases of their server, or start processes there: each run has its own."""


def tests_of(module: Path, tests: dict[str, list[str]]) -> list[str]:
    for path in (module, *module.parents):
        if path.as_posix() in tests:
            return tests[path.as_posix()]
    raise MutantsError(
        f"{module}: no tests are named for it. Next: add a line to benchmarks/mutants/tests.py"
    )


def files_of(tests: list[str]) -> list[Path]:
    """The modules of these tests, which may be folders, in the current folder."""
    return sorted(file for path in map(Path, tests) for file in [path, *path.rglob("*.py")] if file.is_file())
