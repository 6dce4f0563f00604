"""
What more cores and more rooms do: `python -m benchmarks.scale`, or `make bench ARGS=--scale`.

The throughput of the first page through nginx with 1, 2 and 4 workers, with and without the micro-cache, on
all cores of the machine, which the load generator shares. Then what each kind of question costs in tables of
different sizes, and the exponent of that growth: 0 is a cost that does not depend on the number of rooms, 1 a
cost in proportion to it. Costs are CPU time, of Python and of PostgreSQL's backend, and blocks of 8 kB that
PostgreSQL looked at; what else runs on the machine changes the first little and the second not at all.
"""

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import django
import psycopg2

from benchmarks.stopping import stoppable

SIZES = [10_000, 100_000, 1_000_000, 10_000_000]
WORKERS = [1, 2, 4]
IMPORTED = 5_000
"""Rooms of the file whose import is measured."""
FLAT = 0.1
"""A question whose cost has a larger exponent is named with the reason."""

LONDON = "near=-0.1276,51.5072"
BOX = "bbox=-0.2,51.45,-0.1,51.55"
PRICES = "filter_price__gt=48&filter_price__lt=66"
DEEP = "deep page"
ONE = "one room by its code"
IMPORT = "import, per room"

QUESTIONS = {
    "first page": "/rooms.json",
    "filtered page": f"/rooms.json?{PRICES}",
    "filtered and ordered page": f"/rooms.json?{PRICES}&order=size",
    "box": f"/rooms.json?{BOX}",
    DEEP: "",
    ONE: "",
    "nearest": f"/rooms.json?{LONDON}",
    "circle of 2 km, nearest first": f"/rooms.json?{LONDON}&within=2000",
    "clusters of all rooms": "/rooms/clusters",
    "clusters of London, filtered": f"/rooms/clusters?bbox=-0.5,51.3,0.3,51.7&zoom=10&{PRICES}",
    "statistics of a filter": f"/rooms/stats?{PRICES}",
    "count, estimated": f"/rooms.json?{PRICES}&count=estimated&limit=1",
    "count, exact": f"/rooms.json?{PRICES}&count=exact&limit=1",
}
"""The path of each question; of some it depends on the database. IMPORT is measured beside them."""

REASONS = {
    "filtered and ordered page": "where few rooms match, they are sorted; where many do, the order's "
    "index is read until the page is full",
    "box": "all rooms of the box are read and sorted by id, up to 130,000",
    "nearest": "rings around the place are divided where rooms are denser, which takes more statements",
    "circle of 2 km, nearest first": "all rooms of the rings up to the page's last room are read, and a ring "
    "has more of them where rooms are denser",
    "clusters of all rooms": "all rooms are read up to the size of the sample, which is fixed; their "
    "number is estimated before",
    "clusters of London, filtered": "the sample is searched until enough of its rooms match, at most to its "
    "end, an eighth of all rooms",
    "statistics of a filter": "the sample is searched until enough of its rooms match, at most to its end, "
    "an eighth of all rooms",
    "count, estimated": "few rooms are counted; more are estimated from a sample that grows to a fixed size",
    "count, exact": "every room that matches is counted, from the filter's index",
    IMPORT: "the indexes are deeper, and less of them is in the caches of the processor and of PostgreSQL",
}
"""Why the cost of a question grows with the table."""
UNEXPLAINED = "no reason is known; where the blocks are as many, caches and what else ran"


class Cost(NamedTuple):
    """Of one request, or of one room of an import."""

    cpu: float
    """Seconds."""
    blocks: float


Costs = dict[str, dict[int, Cost]]
"""By question and number of rooms; none where the API refuses the question, as it would cost too much."""


class RefusedError(Exception):
    """The API refuses a question for so many rooms."""


@stoppable
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--rooms",
        type=int,
        nargs="+",
        default=SIZES,
        metavar="N",
        help="sizes of the table, at least 1000 rooms (default: 10000 to 10000000, which takes 4 GB of disk)",
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=WORKERS, metavar="N", help="of gunicorn (default: 1 2 4)"
    )
    parser.add_argument("--quick", action="store_true", help="10,000 and 100,000 rooms, shorter measurements")
    parser.add_argument("--seconds", type=float, help="length of one measurement, instead of the mode's")
    parser.add_argument("--rounds", type=int, help="measurements of each kind, instead of the mode's")
    parser.add_argument("--keep", action="store_true", help="keep the databases for the next run")
    chosen = parser.parse_args()
    sizes = SIZES[:2] if chosen.quick and chosen.rooms == SIZES else sorted(set(chosen.rooms))
    if sizes[0] < 1000:
        parser.error("--rooms: at least 1000")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import databases, load, machine, report
    from benchmarks.__main__ import report_progress

    failures = (
        databases.DatabaseInTheWayError,
        load.LoadError,
        psycopg2.Error,
        subprocess.CalledProcessError,
    )
    rounds = chosen.rounds or (3 if chosen.quick else 7)
    seconds = chosen.seconds or (0.2 if chosen.quick else 0.5)
    costs: Costs = {}
    try:
        sys.stdout.write(f"{machine.description()}\n\n")
        with databases.seeded(sizes[0], chosen.keep) as database:
            report_progress(f"throughput with {', '.join(map(str, chosen.workers))} workers")
            rows = throughput(database, chosen.workers, rounds, seconds * 2)
        sys.stdout.write(f"{report.markdown(rows)}\n\n")
        sys.stdout.flush()
        for rooms in sizes:
            report_progress(f"{rooms:,} rooms: the database")
            with databases.seeded(rooms, chosen.keep) as database:
                measure(database, costs, rounds, seconds, report_progress)
    except failures as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; its servers are gone, its databases too unless they are kept.\n")
        return 130
    sys.stdout.write(tables(costs))
    return 0


# --- Workers


def throughput(database: Any, all_workers: list[int], rounds: int, seconds: float) -> list[list[str]]:
    """Medians of requests per second through nginx, by workers; empty where nginx is missing."""
    from benchmarks import machine
    from benchmarks.edge import Bench

    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return [["nginx is missing, workers were not measured", "next"], ["", "apt install nginx-light"]]
    everywhere = os.sched_getaffinity(0)
    cores = machine.cores()._replace(server=everywhere, load=everywhere)
    first = f"÷ {all_workers[0]}"
    rows = [["workers", "requests/s, micro-cache off", first, "micro-cache on", first]]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), database, cores, rounds, seconds)
        urls = {}
        for workers in all_workers:
            for cache in ("off", "on"):
                name = f"{workers}-{cache}"
                site = stack.enter_context(bench.site(name, cache=cache, WEB_WORKERS=str(workers)))
                urls[name] = f"http://localhost:{site.http}/rooms"
        rates = bench.request_rates(urls)
    medians = {key: statistics.median(samples) for key, samples in rates.items()}
    for workers in all_workers:
        off, on = medians[f"{workers}-off"], medians[f"{workers}-on"]
        first_off, first_on = medians[f"{all_workers[0]}-off"], medians[f"{all_workers[0]}-on"]
        cells = [f"{off:,.0f}", f"{off / first_off:.2f}", f"{on:,.0f}", f"{on / first_on:.2f}"]
        rows.append([str(workers), *cells])
    return rows


# --- Rooms


def measure(
    database: Any, costs: Costs, rounds: int, seconds: float, report_progress: Callable[[str], None]
) -> None:
    """Add the cost of each question on this database: the least of the rounds."""
    from django.conf import settings
    from django.db import connection

    from rentomatic_site.scenarios import expectations

    settings.DEBUG = False  # it would keep each statement
    connection.close()
    connection.settings_dict["NAME"] = database.name
    client = expectations.client()
    paths = QUESTIONS | {
        DEEP: deep_path(database),
        ONE: f"/rooms/{database.code(database.rooms // 2)}",
    }
    for question, path in paths.items():
        report_progress(f"{database.rooms:,} rooms: {question}")

        def ask(path: str = path) -> None:
            get(client, path)

        with suppress(RefusedError):
            costs.setdefault(question, {})[database.rooms] = cost_of(ask, rounds, seconds)
    report_progress(f"{database.rooms:,} rooms: {IMPORT}")
    least = cost_of(import_and_roll_back, rounds, 0, at_least=1)
    costs.setdefault(IMPORT, {})[database.rooms] = Cost(least.cpu / IMPORTED, least.blocks / IMPORTED)
    connection.close()


def get(client: Any, path: str) -> Any:
    from benchmarks import load

    response = client.get(path)
    if response.status_code == 400 and b"many rooms" in response.content:
        raise RefusedError
    if response.status_code != 200:
        raise load.LoadError(f"{response.status_code}: {path}: {response.content[:200]!r}")
    return response.getvalue() if response.streaming else response.content


def deep_path(database: Any) -> str:
    """The page at nine tenths of the table, behind a cursor that the API would have signed."""
    from rooms.api.search import Search

    query = "SELECT id FROM room ORDER BY id OFFSET %s LIMIT 1"
    ((number,),) = database.rows(query, database.rooms * 9 // 10)
    return f"/rooms.json?after={Search.parse('').cursor([str(number)])}"


def cost_of(work: Callable[[], Any], rounds: int, seconds: float, at_least: int = 3) -> Cost:
    """The least mean of some rounds, each of so many seconds and times at least, after as many to warm up."""
    from django.db import connection

    from benchmarks import machine

    for _ in range(at_least):
        work()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    found = []
    for _ in range(rounds):
        times, began = 0, time.perf_counter()
        blocks, cpu = blocks_seen(), time.process_time() + machine.cpu_seconds([backend])
        while times < at_least or time.perf_counter() - began < seconds:
            work()
            times += 1
        cpu = time.process_time() + machine.cpu_seconds([backend]) - cpu
        found.append(Cost(cpu / times, (blocks_seen() - blocks) / times))
    return Cost(min(cost.cpu for cost in found), min(cost.blocks for cost in found))


def blocks_seen() -> int:
    """The blocks of tables and indexes that sessions have looked at in the database so far."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def import_and_roll_back() -> None:
    """Import new rooms around London, and take them back."""
    from django.db import transaction

    from rooms.imports.writer import import_rooms

    lines = ["code,size,price,latitude,longitude\n"]
    for number in range(IMPORTED):
        latitude, longitude = 51.5 + number * 7 % IMPORTED / 1e5, -0.1 + number * 11 % IMPORTED / 1e5
        lines.append(
            f"{uuid.uuid4()},{20 + number % 80},{30 + number % 200},{latitude:.6f},{longitude:.6f}\n"
        )
    with transaction.atomic():
        import_rooms(BytesIO("".join(lines).encode()))
        transaction.set_rollback(True)


# --- Tables


def exponent(costs: dict[int, float]) -> float:
    """The slope of the costs over the sizes, both as logarithms: the least squares' line."""
    points = [(math.log(rooms), math.log(max(cost, 1e-9))) for rooms, cost in costs.items()]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    width = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / width if width else 0.0


def tables(costs: Costs) -> str:
    """Costs by question and size with their exponents, and the reasons of those that are not flat."""
    from benchmarks import report

    sizes = list(next(iter(costs.values())))
    titles = [f"{rooms:,}" for rooms in sizes]
    cpu = [["CPU time, ms", *titles, "exponent"]]
    blocks = [["blocks", *titles, "exponent"]]
    growing = []
    for question, by_rooms in costs.items():
        slopes = []
        for rows, values in (
            (cpu, {rooms: cost.cpu * 1e3 for rooms, cost in by_rooms.items()}),
            (blocks, {rooms: cost.blocks for rooms, cost in by_rooms.items()}),
        ):
            slopes.append(exponent(values))
            digits = 3 if rows is cpu else 1
            cells = [f"{values[rooms]:,.{digits}f}" if rooms in values else "refused" for rooms in sizes]
            rows.append([question, *cells, f"{slopes[-1]:.2f}"])
        if max(slopes) > FLAT:
            growing.append(f"- {question} ({max(slopes):.2f}): {REASONS.get(question, UNEXPLAINED)}")
    lines = [report.markdown(cpu), "", report.markdown(blocks)]
    if growing:
        lines += ["", f"Exponents above {FLAT}:", "", *growing]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
