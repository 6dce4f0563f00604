"""
What imports and resets cost beside the least that PostgreSQL needs: `python -m benchmarks.writes`.

An import is compared with COPY of the same file into the table without its indexes, which are built
afterwards and block readers meanwhile; a reset with CREATE DATABASE from the same template. CPU seconds are
those of Python and of PostgreSQL's backend together, which others on the machine change less than seconds.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

from benchmarks.stopping import stoppable

RESETS = 5
SCENARIO, ALIAS = "million_rooms", "bench_reset"
WITH_SPARE, WITHOUT_SPARE = "by a copy made in advance", "by a copy made now"
BARE = "CREATE DATABASE alone"
EMPTY, FULL = "into an empty table", "beside as many rooms"

Times = dict[tuple[str, str], tuple[float, float]]
"""CPU seconds and seconds, by what was done and where."""


@stoppable
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 rooms instead of 1,000,000; no reset")
    parser.add_argument("--only-resets", action="store_true", help="no imports")
    chosen, _ = parser.parse_known_args()  # the rest of ARGS is for `python -m benchmarks`
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import machine, report

    sys.stdout.write(f"{machine.description()}\n\n")
    if not chosen.only_resets:
        rows = compared_imports(100_000 if chosen.quick else 1_000_000)
        sys.stdout.write(f"{report.markdown(rows)}\n\n")
        sys.stdout.flush()
    if not chosen.quick:
        sys.stdout.write(f"{report.markdown(resets())}\n")
    return 0


def compared_imports(rooms: int) -> list[list[str]]:
    from benchmarks import databases

    with databases.seeded(rooms, keep=False) as database, tempfile.TemporaryDirectory() as folder:
        times = imports(database, Path(folder))
    rows = [[f"{rooms:,} rooms", "import, CPU s", "plain, CPU s", "÷", "import, s", "plain, s", "÷"]]
    for where in (EMPTY, FULL):
        (cpu, seconds), (plain_cpu, plain_seconds) = times["import", where], times["plain", where]
        figures = [cpu, plain_cpu, cpu / plain_cpu, seconds, plain_seconds, seconds / plain_seconds]
        rows.append([where, *(f"{figure:.1f}" for figure in figures)])
    return rows


@contextmanager
def measured(cursor: Any, times: Times, done: str, where: str) -> Iterator[None]:
    from benchmarks import machine

    def cpu_seconds() -> float:
        return time.process_time() + machine.cpu_seconds([cursor.connection.get_backend_pid()])

    cpu, began = cpu_seconds(), time.perf_counter()
    yield
    times[done, where] = (cpu_seconds() - cpu, time.perf_counter() - began)


def imports(database: Any, folder: Path) -> Times:
    """Import two files, one after the other, and store both plainly, from an empty table each time."""
    from django.db import connection, transaction

    from rooms import seeding
    from rooms.columns import COLUMNS
    from rooms.imports.writer import import_rooms

    names = ", ".join(COLUMNS)
    others = names.replace("code", "gen_random_uuid() AS code")
    connection.settings_dict["NAME"] = database.name
    files = {EMPTY: folder / "rooms.csv", FULL: folder / "others.csv"}
    times: Times = {}
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for file, columns in zip(files.values(), (names, others), strict=True):
            with file.open("wb") as output:
                query = f"SELECT {columns} FROM room ORDER BY id"  # noqa: S608 - columns of COLUMNS
                cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", output)
        cursor.execute("TRUNCATE room, room_change")
        for where, file in files.items():
            with file.open("rb") as stream, measured(cursor, times, "import", where):
                import_rooms(stream)
        cursor.execute("TRUNCATE room, room_change")
        for where, file in files.items():
            with (
                file.open("rb") as stream,
                measured(cursor, times, "plain", where),
                transaction.atomic(),
                seeding.rebuilt_indexes(cursor),
            ):
                cursor.copy_expert(f"COPY room ({names}) FROM STDIN (FORMAT csv, HEADER)", stream)
    connection.close()
    return times


def resets() -> list[list[str]]:
    """
    The least of some resets of a scenario, printed and as a command: with the copy that the reset before has
    begun, once that is complete, and without; beside a bare copy of the template.
    """
    from rentomatic_site import postgres
    from rentomatic_site.scenarios import databases, discovery, names
    from rooms.seeding import DEFAULT_SEED

    template = names.template_name(SCENARIO, discovery.find(SCENARIO).fingerprint(DEFAULT_SEED))
    spare = names.spare_name(template, SCENARIO)
    times: dict[str, list[tuple[float, float]]] = {WITH_SPARE: [], WITHOUT_SPARE: [], BARE: []}
    with postgres.session() as server:
        was_there = postgres.database_exists(server, template)
        try:
            load()
            load("--reset")
            for _ in range(RESETS):
                wait_for(server, spare)
                times[WITH_SPARE].append(load("--reset"))
                wait_for(server, spare)
                postgres.drop_database(server, spare)
                times[WITHOUT_SPARE].append(load("--reset"))
                wait_for(server, spare)
                source = databases.find(server, template)
                assert source
                began = time.perf_counter()
                name = databases.create(server, SCENARIO, source, source.metadata)
                seconds = time.perf_counter() - began
                times[BARE].append((seconds, seconds))
                postgres.drop_database(server, name)
        finally:
            databases.drop(server, names.target_name(ALIAS))
            if not was_there:
                databases.drop(server, template)
    rows = [[f"reset of {SCENARIO}, least of {RESETS}", "printed, s", "whole command, s"]]
    for what, samples in times.items():
        printed, whole = (min(column) for column in zip(*samples, strict=True))
        rows.append([what, f"{printed:.2f}", "" if what == BARE else f"{whole:.2f}"])
    return rows


def load(*options: str) -> tuple[float, float]:
    """Load the scenario; return the seconds that the command prints, and those that it takes."""
    from benchmarks.databases import PROJECT

    began = time.perf_counter()
    command = [sys.executable, "manage.py", "load_scenario", SCENARIO, "--as", ALIAS, *options]
    lines = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds = time.perf_counter() - began
    printed = re.search(r" in ([0-9.]+) s;", lines)
    return float(printed[1]) if printed else seconds, seconds


def wait_for(server: Any, name: str) -> None:
    """Wait until the server has made that database; SystemExit after a minute."""
    from rentomatic_site import postgres

    deadline = time.monotonic() + 60
    while not postgres.database_exists(server, name):
        if time.monotonic() > deadline:
            sys.exit(f"benchmarks.writes: the server has not made {name} within a minute")
        time.sleep(0.1)
    time.sleep(1)  # what was replaced is dropped meanwhile


if __name__ == "__main__":
    sys.exit(main())
