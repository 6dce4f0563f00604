"""
What the feed of changes costs those who write, and how quickly it is read: `python -m benchmarks.changes`.

The target: a change of all rooms with the triggers of the feed takes less than one and a half times as long
as without. Both run in interleaved rounds and are rolled back, by turns with as many old changes to prune.
Times are CPU seconds of PostgreSQL's backend, which others on the machine hardly change, and on the clock.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import django

from benchmarks.stopping import stoppable

EDITS = 500
"""Changes of one room, each in a transaction of its own."""
TRIGGERS = ("room_change_insert", "room_change_update", "room_change_delete", "room_change_code")
WITHOUT, WITH, PRUNING = "without the feed", "with the feed", "with as much to prune"

Times = dict[str, list[tuple[float, float]]]
"""CPU seconds and seconds of each round, by what was measured."""


@stoppable
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="2 rounds of 100,000 rooms instead of 3 of 1,000,000"
    )
    chosen, _ = parser.parse_known_args()  # the rest of ARGS is for `python -m benchmarks`
    rounds, rooms = (2, 100_000) if chosen.quick else (3, 1_000_000)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import databases, machine
    from rentomatic_site import postgres

    with databases.seeded(rooms, keep=False) as database, postgres.session(database.name) as cursor:
        sys.stdout.write(f"{machine.description()}\n\n")
        report(f"a change of {rooms:,} rooms", bulk_changes(cursor, rounds))
        report(f"{EDITS} edits of one room", single_edits(cursor, rounds))
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(reads(database, cursor, Path(folder)))
    return 0


@contextmanager
def measured(cursor: Any, times: Times, name: str) -> Iterator[None]:
    from benchmarks import machine

    backend = [cursor.connection.get_backend_pid()]
    cpu, began = machine.cpu_seconds(backend), time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    times.setdefault(name, []).append((machine.cpu_seconds(backend) - cpu, seconds))


def switch_triggers(cursor: Any, name: str) -> None:
    verb = "DISABLE" if name == WITHOUT else "ENABLE"
    for trigger in TRIGGERS:
        cursor.execute(f"ALTER TABLE room {verb} TRIGGER {trigger}")


def bulk_changes(cursor: Any, rounds: int) -> Times:
    times: Times = {}
    for _ in range(rounds):
        for name in (WITHOUT, WITH, PRUNING):
            cursor.execute("TRUNCATE room_change")
            if name == PRUNING:
                cursor.execute(
                    "INSERT INTO room_change (history, xid, oldest, changed_at, code) SELECT"
                    " room_change_history(), pg_current_xact_id(), '1', now() - interval '8 days', code"
                    " FROM room"
                )
            cursor.execute("VACUUM (ANALYZE) room, room_change")
            cursor.execute("BEGIN")
            switch_triggers(cursor, name)
            with measured(cursor, times, name):
                cursor.execute("UPDATE room SET price = price + 1 WHERE price < 1000000")
            cursor.execute("ROLLBACK")
    return times


def single_edits(cursor: Any, rounds: int) -> Times:
    times: Times = {}
    for _ in range(rounds):
        for name in (WITHOUT, WITH):
            switch_triggers(cursor, name)
            with measured(cursor, times, name):
                for number in range(EDITS):
                    cursor.execute("UPDATE room SET price = price + 1 WHERE id = %s", [number + 1])
    return times


def reads(database: Any, cursor: Any, folder: Path) -> str:
    """A read of a change of all rooms by one client, and polls that bring nothing."""
    from benchmarks import load
    from rentomatic_site.testing import rig

    with rig.Gunicorn(folder, **database.environment(), ACCESS_LOG="off") as site:
        url = f"{site.url}/rooms/changes"
        position = read(url)[1]
        cursor.execute("UPDATE room SET price = price + 1 WHERE price < 1000000")
        began = time.perf_counter()
        lines, newest = read(f"{url}?after={position}")
        seconds = time.perf_counter() - began
        polls = load.load_test(f"{url}?after={newest}", 2, load.generator()).per_second
    return f"{lines:,} lines of changes in {seconds:.1f} s; {polls:,.0f} polls a second that bring nothing\n"


def read(url: str) -> tuple[int, str]:
    """The number of lines of a response, and the cursor on the last one."""
    count, line = 0, b"{}"
    with urlopen(url) as response:  # noqa: S310 - on loopback
        for line in response:  # noqa: B007 - the last one is used
            count += 1
    return count, json.loads(line)["cursor"]


def report(title: str, times: Times) -> None:
    """A table of medians, with their ratio to the first line's."""
    medians = {
        name: [statistics.median(part) for part in zip(*rows, strict=True)] for name, rows in times.items()
    }
    first = medians[WITHOUT]
    sys.stdout.write(f"| {title} | CPU seconds | ratio | seconds | ratio |\n|---|--:|--:|--:|--:|\n")
    for name, (cpu, seconds) in medians.items():
        sys.stdout.write(
            f"| {name} | {cpu:.2f} | {cpu / first[0]:.2f} | {seconds:.2f} | {seconds / first[1]:.2f} |\n"
        )
    sys.stdout.write("\n")


if __name__ == "__main__":
    sys.exit(main())
