"""
What imports and resets cost beside the least that PostgreSQL needs: `python -m benchmarks.writes`.

An import is compared with COPY of the same file into the table without its indexes, which are built
afterwards and block readers meanwhile; a reset with CREATE DATABASE from the same template. CPU seconds are
those of Python and of PostgreSQL's backend together, which others on the machine change less than seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

RESETS = 5
SCENARIO = "million_rooms"
EMPTY, FULL = "into an empty table", "beside as many rooms"

Times = dict[tuple[str, str], tuple[float, float]]
"""CPU seconds and seconds, by what was done and where."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 rooms instead of 1,000,000; no reset")
    chosen, _ = parser.parse_known_args()  # the rest of ARGS is for `python -m benchmarks`
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import databases, machine, report

    rooms = 100_000 if chosen.quick else 1_000_000
    with databases.seeded(rooms, keep=False) as database, tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"{machine.description()}\n\n")
        times = imports(database, Path(folder))
    rows = [[f"{rooms:,} rooms", "import, CPU s", "plain, CPU s", "÷", "import, s", "plain, s", "÷"]]
    for where in (EMPTY, FULL):
        (cpu, seconds), (plain_cpu, plain_seconds) = times["import", where], times["plain", where]
        figures = [cpu, plain_cpu, cpu / plain_cpu, seconds, plain_seconds, seconds / plain_seconds]
        rows.append([where, *(f"{figure:.1f}" for figure in figures)])
    sys.stdout.write(f"{report.markdown(rows)}\n\n")
    if not chosen.quick:
        sys.stdout.write(f"{report.markdown(resets())}\n")
    return 0


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
    """The least of some resets of a scenario, printed and as a command, and of copies of its template."""
    from benchmarks.databases import PROJECT
    from rentomatic_site import postgres
    from rentomatic_site.scenarios import databases, discovery
    from rooms.seeding import DEFAULT_SEED

    def load(*options: str) -> tuple[float, float]:
        began = time.perf_counter()
        command = [sys.executable, "manage.py", "load_scenario", SCENARIO, *options]
        lines = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout
        printed = lines.partition(" in ")[2].partition(" s;")[0] if options else "0"
        return float(printed), time.perf_counter() - began

    load()
    template = databases.template_name(SCENARIO, discovery.find(SCENARIO).fingerprint(DEFAULT_SEED))
    printed, whole, copied = [], [], []
    with postgres.session() as server:
        for _ in range(RESETS):
            seconds, command = load("--reset")
            printed.append(seconds)
            whole.append(command)
            source = databases.find(server, template)
            assert source
            began = time.perf_counter()
            name = databases.create(server, SCENARIO, source, source.metadata)
            copied.append(time.perf_counter() - began)
            postgres.drop_database(server, name)
    least = [min(printed), min(whole), min(copied)]
    return [
        [
            f"reset of {SCENARIO}, least of {RESETS}",
            "printed, s",
            "whole command, s",
            "bare copy, s",
            "printed ÷ copy",
        ],
        ["", *(f"{seconds:.2f}" for seconds in least), f"{least[0] / least[2]:.1f}"],
    ]


if __name__ == "__main__":
    sys.exit(main())
