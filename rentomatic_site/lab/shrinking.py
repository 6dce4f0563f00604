"""
Shrinking: the fewest rooms with which a scenario's expectation fails in the same way.

Small sets are tried first, in a small database of their own: no room, the rooms that the failing request is
about, those with extreme values, every nth room, then the rooms of each range of keys. Only where none of
these fails are copies of the whole database halved. What fails is reduced by delta debugging (Zeller, ddmin),
and then its values are made round.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from rentomatic_site import postgres
from rentomatic_site.lab.bench import Bench, Shrunk, small_database
from rentomatic_site.lab.failures import REPEATS, FlakyError, Kind, kind
from rentomatic_site.lab.rounding import make_round
from rentomatic_site.scenarios import ScenarioError, checkpoints, expectations
from rentomatic_site.scenarios.checkpoints import Held
from rentomatic_site.scenarios.databases import BUILDING, Database, Metadata
from rentomatic_site.scenarios.expectations import Expectation
from rentomatic_site.scenarios.isolation import django_on
from rooms.counting import Count
from rooms.generation import rebuilt_indexes

Say = Callable[[str], None]

SMALL = 16_384
"""Rooms that are tried at once in the small database: a quarter of a second."""


def shrink(
    of_scenario: Held,
    expectation: Expectation,
    codes: list[str],
    result: Shrunk,
    say: Say,
) -> None:
    """Fill `result.rooms`. ScenarioError where the failure does not follow from rooms alone."""
    source = of_scenario.loaded()
    failure = kind(expectation.label, result.problem)
    with small_database(of_scenario) as small, postgres.session(source.name) as session:
        session.execute("SELECT count(*), coalesce(min(id), 0), coalesce(max(id), 0) FROM room")
        ((result.before, first, last),) = session.fetchall()
        with django_on(small):
            bench = Bench(session, expectation, failure, result)
            ids = few(bench, codes, first, last, say)
            if ids is None and result.before > SMALL:
                ids = ranges(bench, first, last, say)
        if ids is None and result.before > SMALL:
            say("No small set of rooms fails; halving copies of the database …")
            with halved(of_scenario, source, expectation, failure, say) as halves:
                session.connection.close()
                with postgres.session(halves) as rest, django_on(small):
                    bench.source = rest
                    ids = bench.fetch("true", [])
                    finish(bench, ids if bench.fails(ids) else None, say)
        else:
            with django_on(small):
                finish(bench, ids, say)


def finish(bench: Bench, ids: list[int] | None, say: Say) -> None:
    """Reduce the rooms of the pool that fail, and make their values round."""
    if ids is None:
        raise ScenarioError(
            "It fails only together with something else than rooms, such as other tables, so it cannot be "
            "shrunk. Next: ./manage.py scenario diff loaded"
        )
    bench.result.rooms = bench.values(ids)
    for fewer in reduced(ids, bench.fails):
        bench.result.rooms = bench.values(fewer)
        say(f"{Count(len(fewer))} fail in the same way …")
    say("Making the values round …")
    make_round(bench)
    if not all(bench.fails_with(bench.result.rooms) for _ in range(REPEATS)):
        raise FlakyError(
            "With few rooms it fails only sometimes, so they say nothing. Next: find what it depends on "
            "beside the rooms: order, chance, the clock."
        )


def few(bench: Bench, codes: list[str], first: int, last: int, say: Say) -> list[int] | None:
    """The ids of a small set that fails, which is in the pool then."""
    rooms = bench.result.before
    step = max(rooms // SMALL, 1)
    extreme = " UNION ALL ".join(
        f"(SELECT id FROM room ORDER BY {name} {order}, id LIMIT 2)"  # noqa: S608 - names of rooms.columns
        for name in ("price", "size", "latitude", "longitude", "id")
        for order in ("ASC", "DESC")
    )
    sets: list[tuple[str, str, list[Any]]] = [
        ("no room", "false", []),
        ("the first rooms that it requests", "code = ANY(%s::uuid[])", [codes[:8]]),
        ("the rooms that it requests", "code = ANY(%s::uuid[])", [codes]),
        ("rooms with extreme values", f"id IN ({extreme})", []),
        (f"every {step * 64:,}th room", "id %% %s = 0", [step * 64]),
        (f"every {step:,}th room", "id %% %s = 0", [step]),
    ]
    if rooms <= SMALL:
        sets = [*sets[:3], ("all rooms", "true", [])]
    for name, where, values in sets:
        say(f"Trying {name} …")
        ids = bench.fetch(where, values)
        if bench.fails(ids):
            return ids
    return None


def ranges(bench: Bench, first: int, last: int, say: Say) -> list[int] | None:
    """The ids of a range of keys whose rooms fail, which are in the pool then."""
    step = max(SMALL, (last - first) // 64 + 1)
    found: list[int] = []
    # To store rooms without indexes takes a tenth; what fails so is tried with them again.
    with connection.cursor() as session, rebuilt_indexes(session):
        for start in range(first, last + 1, step):
            say(f"Trying the rooms {start:,} to {min(start + step, last):,} …")
            ids = bench.fetch("id >= %s AND id < %s", [start, start + step])
            if ids and bench.fails(ids):
                found = ids
                break
        session.execute("TRUNCATE room CASCADE")
    return found if found and bench.fails(found) else None


@contextmanager
def halved(
    of_scenario: Held, source: Database, expectation: Expectation, failure: Kind, say: Say
) -> Iterator[str]:
    """
    A copy of the database with SMALL rooms at most, which fails; it is dropped after the block.

    ScenarioError where both halves of more rooms are needed.
    """
    server = of_scenario.server
    metadata = Metadata(BUILDING, of_scenario.scenario)
    kept = checkpoints.copied(server, source, metadata)
    try:
        while True:
            rooms, middle = rooms_and_middle(kept)
            if rooms <= SMALL:
                break
            for comparison in ("<", ">="):
                whole = Database(kept, source.size, metadata, True, False)
                half = checkpoints.copied(server, whole, metadata)
                with django_on(half):
                    with connection.cursor() as session:
                        session.execute("ALTER TABLE room DISABLE TRIGGER USER")
                        session.execute(f"DELETE FROM room WHERE id {comparison} %s", [middle])  # noqa: S608
                        session.execute("ALTER TABLE room ENABLE TRIGGER USER")
                        session.execute("ANALYZE room")
                    fails = kind(expectation.label, expectation.problem(expectations.client())) == failure
                postgres.drop_database(server, kept if fails else half)
                if fails:
                    kept = half
                    say(f"About {rooms // 2:,} rooms fail in the same way …")
                    break
            else:
                raise ScenarioError(
                    f"It fails with {rooms:,} rooms and with neither half of them, so it cannot be shrunk to "
                    "few rooms. Next: ask for less in the expectation."
                )
        yield kept
    finally:
        postgres.drop_database(server, kept)


def rooms_and_middle(database: str) -> tuple[int, int]:
    with postgres.session(database) as session:
        session.execute(
            "SELECT count(*), coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY id), 0) + 1 FROM room"
        )
        ((rooms, middle),) = session.fetchall()
    return rooms, middle


def reduced(ids: list[int], fails: Callable[[list[int]], bool]) -> Iterator[list[int]]:
    """Smaller and smaller lists that fail; of the last one no room can be left out (ddmin)."""
    parts = 2
    while len(ids) >= 2:
        size = -(-len(ids) // parts)
        chunks = [ids[start : start + size] for start in range(0, len(ids), size)]
        smaller = next((chunk for chunk in chunks if fails(chunk)), None) if parts == 2 else None
        if smaller is not None:
            ids = smaller
            yield ids
            continue
        for chunk in chunks if parts > 2 else ():
            left_out = set(chunk)
            rest = [key for key in ids if key not in left_out]
            if fails(rest):
                ids, parts = rest, max(parts - 1, 2)
                yield ids
                break
        else:
            if parts >= len(ids):
                return
            parts = min(parts * 2, len(ids))
