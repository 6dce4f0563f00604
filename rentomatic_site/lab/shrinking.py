"""
Shrinking: the fewest rooms with which a scenario's expectation fails in the same way.

Small sets are tried first, in a small database of their own: no room, the rooms that the failing request is
about, those with extreme values, every nth room, then the rooms of each range of keys. Only where none of
these fails are copies of the whole database halved. What fails is reduced by delta debugging (Zeller, ddmin),
and then its values are made round.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from django.db import connection
from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Identifier

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, checkpoints, databases, expectations, loading
from rentomatic_site.scenarios.checkpoints import Held
from rentomatic_site.scenarios.databases import BUILDING, Database, Metadata
from rentomatic_site.scenarios.discovery import migrations_fingerprint
from rentomatic_site.scenarios.expectations import Expectation
from rentomatic_site.scenarios.isolation import django_on
from rentomatic_site.scenarios.locks import lock_templates
from rooms import seeding
from rooms.columns import COLUMNS
from rooms.counting import Count

if TYPE_CHECKING:
    from django.test import Client

Say = Callable[[str], None]
Fields = dict[str, Any]
Kind = tuple[object, ...]

SMALL = 16_384
"""Rooms that are tried at once in the small database: a quarter of a second."""

REPEATS = 3
"""Runs of an expectation before and after, to see whether it fails each time."""

REQUESTED = 200
"""Rooms that are taken of each request."""

ROUNDED_ONE_BY_ONE = 20
"""Rooms up to which the values of each are made round by themselves."""

CODE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

PLAIN: Fields = {"price": 100, "size": 20, "latitude": 51.5, "longitude": -0.1}
"""The values of a room that does not matter."""


class FlakyError(ScenarioError):
    """An expectation that fails only sometimes, or each time in another way."""


@dataclass
class Shrunk:
    """`rooms`: arguments of `room()`, in the order of entry. Changed on the way: the smallest so far."""

    expectation: str
    problem: str
    before: int
    rooms: list[Fields] | None = None
    tries: int = 0


def kind(label: str, problem: str) -> Kind:
    """In which way an expectation fails, without numbers that change with the rooms; () where it is met."""
    if not problem:
        return ()
    if label == expectations.CHECK:
        places = re.findall(r'File "([^"]+)", line (\d+)', problem)
        errors = re.findall(r"^([A-Za-z_][\w.]*)(?::|$)", problem, re.MULTILINE)
        raised = [error for error in errors if error != "Traceback"]
        return ("check", *places[-1:], *raised[-1:])
    found, expected = re.match(r"found ([\d,]+) ", problem), re.search(r"→ ([\d,]+) ", label)
    if found and expected:
        rooms, wanted = (int(number[1].replace(",", "")) for number in (found, expected))
        return ("number", "none" if rooms == 0 else "more" if rooms > wanted else "fewer")
    if "missing: " in problem or "not expected: " in problem:
        missing = re.search(r"missing: ([^;]*)", problem)
        return ("codes", missing and missing[1], "not expected: " in problem)
    return ("other", re.sub(r"\d+|[0-9a-f-]{36}", "…", problem.split(":")[0]))


class Recorder:
    """Django's test client, which notes the codes of the rooms that are requested."""

    def __init__(self) -> None:
        self.client = expectations.client()
        self.codes: dict[str, None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get(self, path: str, *args: Any, **kwargs: Any) -> Any:
        response = self.client.get(path, *args, **kwargs)
        self.note(response)
        if wider := wider_path(path):  # more of the rooms that the request is about
            self.note(self.client.get(wider))
        return response

    def note(self, response: Any) -> None:
        if not response.streaming and len(self.codes) < SMALL:
            self.codes.update(dict.fromkeys(CODE.findall(response.content.decode(errors="replace"))))


def wider_path(path: str) -> str:
    """The JSON list with the same filters and REQUESTED rooms; "" for another path."""
    plain, _, query = path.partition("?")
    if not re.fullmatch(r"/rooms(\.\w+|/stats|/clusters)?", plain):
        return ""
    kept = [part for part in query.split("&") if part.partition("=")[0] not in {"", "limit", "count", "zoom"}]
    return f"/rooms.json?{'&'.join([*kept, f'limit={REQUESTED}'])}"


@dataclass
class Bench:
    """A small migrated database, in which sets of rooms are tried. Rooms come from `source`."""

    source: cursor
    expectation: Expectation
    kind: Kind
    result: Shrunk
    columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        with connection.cursor() as session:
            session.execute(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = 'room'::regclass AND attnum > 0"
                " AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
            )
            self.columns = [name for (name,) in session.fetchall()]
            session.execute("CREATE SCHEMA shrink; CREATE TABLE shrink.pool AS SELECT * FROM room")
            session.execute("ALTER TABLE shrink.pool ADD PRIMARY KEY (id)")
        self.client = expectations.client()

    def fetch(self, where: str, values: list[Any]) -> list[int]:
        """Take rooms of the source into the pool; return their ids."""
        names = SQL(", ").join(map(Identifier, self.columns))
        selection = SQL("SELECT {} FROM room WHERE ").format(names) + SQL(where)
        copied = self.source.mogrify(
            SQL("COPY ({}) TO STDOUT").format(selection).as_string(self.source), values
        )
        buffer = BytesIO()
        self.source.copy_expert(copied.decode(), buffer)
        buffer.seek(0)
        with connection.cursor() as session:
            session.execute("TRUNCATE shrink.pool")
            statement = SQL("COPY shrink.pool ({}) FROM STDIN").format(names)
            session.cursor.copy_expert(statement.as_string(session.cursor), buffer)
            session.execute("SELECT id FROM shrink.pool ORDER BY id")
            return [key for (key,) in session.fetchall()]

    def fails(self, ids: list[int]) -> bool:
        """Whether these rooms of the pool, and no others, fail in the same way."""
        names = SQL(", ").join(map(Identifier, self.columns))
        with connection.cursor() as session:
            session.execute("TRUNCATE room CASCADE")
            session.execute(
                SQL(
                    "INSERT INTO room ({0}) SELECT {0} FROM shrink.pool WHERE id = ANY(%s) ORDER BY id"
                ).format(names),
                [ids],
            )
        return self.still_fails()

    def fails_with(self, rooms: list[Fields]) -> bool:
        """Whether rooms of these values fail in the same way, made as the file will make them."""
        with connection.cursor() as session:
            session.execute("TRUNCATE room RESTART IDENTITY CASCADE")
        seeding.seed(seeding.DEFAULT_SEED)
        try:
            for values in rooms:
                seeding.room(**values)
        except Exception:  # a constraint: these values cannot be had together
            return False
        return self.still_fails()

    def still_fails(self) -> bool:
        self.result.tries += 1
        with connection.cursor() as session:
            session.execute("ANALYZE room")
        return kind(self.expectation.label, self.expectation.problem(self.client)) == self.kind

    def values(self, ids: list[int]) -> list[Fields]:
        """All columns of rooms in the pool, in the order of entry."""
        with connection.cursor() as session:
            session.execute("SELECT * FROM shrink.pool WHERE id = ANY(%s) ORDER BY id", [ids])
            names = [column.name for column in session.description or ()]
            return [dict(zip(names, row, strict=True)) for row in session.fetchall()]


def failing(of_scenario: Held, expected: list[Expectation], only: str) -> tuple[Expectation, str, list[str]]:
    """
    The first expectation that fails, its problem and the codes of the rooms that it requests.

    FlakyError where it doesn't fail each time in the same way, ScenarioError where none fails.
    """
    with django_on(of_scenario.loaded().name):
        for expectation in expected:
            if only and only not in expectation.label:
                continue
            recorder = Recorder()
            problem = expectation.problem(cast("Client", recorder))
            kinds = {kind(expectation.label, problem)}
            if problem:
                client = expectations.client()
                kinds |= {kind(expectation.label, expectation.problem(client)) for _ in range(REPEATS - 1)}
                if len(kinds) > 1:
                    raise FlakyError(
                        f"{expectation.label} fails only sometimes, or each time in another way, so it "
                        "cannot be shrunk. Next: find what it depends on beside the rooms: order, chance, "
                        "the clock."
                    )
                return expectation, problem, list(recorder.codes)
    raise ScenarioError(
        f"Nothing fails that scenario {of_scenario.alias} expects{f' of {only}' if only else ''}, so "
        f"there is nothing to shrink. Next: ./manage.py load_scenario {of_scenario.scenario}"
    )


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
    with connection.cursor() as session, seeding.rebuilt_indexes(session):
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


@contextmanager
def small_database(of_scenario: Held) -> Iterator[str]:
    """A migrated database without rooms, dropped after the block."""
    server = of_scenario.server
    with lock_templates("") as migrations:
        template = loading.migrated_template(migrations)
        metadata = Metadata(BUILDING, of_scenario.scenario, migrations=migrations_fingerprint())
        name = databases.create(server, of_scenario.scenario, template, metadata)
    try:
        yield name
    finally:
        postgres.drop_database(server, name)


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


def make_round(bench: Bench) -> None:
    """Leave out what `room()` fills in, and make values round, wherever the rooms fail in the same way."""
    result = bench.result
    assert result.rooms is not None

    def attempt(rooms: list[Fields]) -> bool:
        if rooms == result.rooms or not bench.fails_with(rooms):
            return False
        result.rooms = rooms
        return True

    given = ("code", *[name for name in COLUMNS if name != "code"])
    if not attempt([{name: room[name] for name in given} for room in result.rooms]):
        for name in [name for name in bench.columns if name not in given]:
            attempt([{key: value for key, value in room.items() if key != name} for room in result.rooms])
    attempt([room | {"code": plain_code(number)} for number, room in enumerate(result.rooms, 1)])
    for name in [name for name in given if name in PLAIN]:
        attempt([room | {name: PLAIN[name]} for room in result.rooms])
    if len(result.rooms) > ROUNDED_ONE_BY_ONE:
        return
    for number in range(len(result.rooms)):
        for name in given:
            for value in rounder(name, number + 1, result.rooms[number][name]):
                rooms = list(result.rooms)
                rooms[number] = rooms[number] | {name: value}
                if value == result.rooms[number][name] or attempt(rooms):
                    break


def rounder(name: str, number: int, value: Any) -> Iterator[Any]:
    """Values for a column that are rounder than this one, the roundest first."""
    if name == "code":
        yield plain_code(number)
    elif isinstance(value, int):
        yield PLAIN.get(name, value)
        for digits in range(len(str(abs(value))) - 1, 0, -1):
            yield round(value, -digits)
    elif isinstance(value, float):
        yield PLAIN.get(name, value)
        for decimals in range(6):
            yield round(value, decimals)
    else:
        yield value


def plain_code(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"
