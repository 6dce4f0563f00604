"""
How long a test waits for a scenario's database: `python -m benchmarks.clones`.

From the request for a clone to the response of its first statement: cold, when the test itself makes it, and
warm, when the server has made it before; beside CREATE DATABASE and a connection alone.
"""

import argparse
import os
import sys
import time
from statistics import median

import django

from benchmarks.stopping import stoppable

CLONES = 20
COLD, WARM, BARE = "cold", "warm", "CREATE DATABASE, connect"


@stoppable
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clones", description=__doc__)
    parser.add_argument("--scenario", default="book_rooms", help="(default: book_rooms)")
    chosen, _ = parser.parse_known_args()  # the rest of ARGS is for `python -m benchmarks`
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import machine, report

    sys.stdout.write(f"{machine.description()}\n\n")
    rows = [[f"clones of {chosen.scenario}, {CLONES} each", "median, ms", "least, ms"]]
    for what, seconds in times(chosen.scenario).items():
        rows.append([what, f"{median(seconds) * 1000:.1f}", f"{min(seconds) * 1000:.1f}"])
    sys.stdout.write(f"{report.markdown(rows)}\n")
    return 0


def times(name: str) -> dict[str, list[float]]:
    """Seconds until the first response of each clone, by how it was had."""
    from rentomatic_site import postgres
    from rentomatic_site.scenarios import discovery, isolation
    from rentomatic_site.scenarios.clones import Clone, Clones

    found: dict[str, list[float]] = {COLD: [], WARM: [], BARE: []}
    scenario = discovery.find(name)
    pool = Clones()

    def use(clone: Clone) -> None:
        from django.db import connection

        with isolation.django_on(clone.name, clone.connection), connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def take(what: str) -> None:
        began = time.perf_counter()
        clone = pool.take(scenario)
        use(clone)
        found[what].append(time.perf_counter() - began)
        pool.give_back(clone)

    try:
        take(COLD)  # fills the scenario
        found[COLD].clear()
        for _ in range(CLONES):
            take(COLD)
        for _ in range(CLONES):
            pool.ask(name, 1)
            while not pool.spares[name]:
                time.sleep(0.01)
            take(WARM)
        template = pool.templates[name].name
        with postgres.session() as server:
            for number in range(CLONES):
                bare = f"bench_clone_{number}"
                began = time.perf_counter()
                postgres.create_database(server, bare, template=template, strategy=pool.strategy)
                with postgres.session(bare) as session:
                    session.execute("SELECT 1")
                    found[BARE].append(time.perf_counter() - began)
                postgres.drop_database(server, bare)
    finally:
        pool.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
