"""A small database in which sets of rooms are tried: does the expectation fail with them in the same way?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from django.db import connection
from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Identifier

from rentomatic_site import postgres
from rentomatic_site.lab.failures import Kind, kind
from rentomatic_site.scenarios import databases, expectations, loading
from rentomatic_site.scenarios.checkpoints import Held
from rentomatic_site.scenarios.databases import BUILDING, Metadata
from rentomatic_site.scenarios.discovery import migrations_fingerprint
from rentomatic_site.scenarios.expectations import Expectation
from rentomatic_site.scenarios.locks import lock_templates
from rooms import seeding

Fields = dict[str, Any]


@dataclass
class Shrunk:
    """`rooms`: arguments of `room()`, in the order of entry. Changed on the way: the smallest so far."""

    expectation: str
    problem: str
    before: int
    rooms: list[Fields] | None = None
    tries: int = 0


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
