"""
The difference between two databases of the same server: which rows were added, are gone or have changed, and
which pages of a URL differ.

Rows are compared in the server, as hashes of 65,536 buckets; only the rows of buckets that differ are read,
in the order of their keys, so that memory does not grow with the tables.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, expectations
from rentomatic_site.scenarios.isolation import django_on

BUCKETS = 65_536
SHOWN = 10
"""Rows that are shown of each table and kind, and lines of each page."""
MOST_PAGES = 20
LARGE = 100_000
"""Rows from which on a comparison takes long enough to be announced."""

INTEGERS = {"smallint", "integer", "bigint"}
NEXT_PAGE = re.compile(r'<([^>]*)>; rel="next"')

ADDED, GONE, CHANGED = "added", "gone", "changed"
Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table's columns, and its key: those of the primary key, or all of them where it has none."""

    name: str
    columns: list[str]
    key: list[str]
    integer: bool
    """Whether the key is one whole number; other keys are compared and ordered as text."""

    @property
    def key_sql(self) -> Composable:
        """The key: a number, or hexadecimal text that Python and PostgreSQL order in the same way."""
        if self.integer:
            return Identifier(self.key[0])
        return SQL("encode(convert_to(ROW({})::text, 'UTF8'), 'hex') COLLATE \"C\"").format(names(self.key))

    def row_sql(self, columns: list[str]) -> Composable:
        """A hash of the row."""
        return SQL("hashtextextended(ROW({})::text, 0)").format(names(columns))

    @property
    def bucket_sql(self) -> Composable:
        return SQL("(hashtextextended(({})::text, 0) & {})").format(self.key_sql, Literal(BUCKETS - 1))


@dataclass
class TableDifference:
    """What differs in one table. `rows`: kind, row before and row after, SHOWN of each kind at most."""

    name: str
    counts: dict[str, int] = field(default_factory=lambda: {ADDED: 0, GONE: 0, CHANGED: 0})
    rows: list[tuple[str, Row, Row]] = field(default_factory=list)
    columns_added: list[str] = field(default_factory=list)
    columns_gone: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.counts.values()) or bool(self.columns_added or self.columns_gone)


@dataclass(frozen=True)
class PageDifference:
    """A page that differs: its URL in the first database, and lines as of `diff`."""

    number: int
    url: str
    lines: list[str]


def names(columns: list[str]) -> Composable:
    return SQL(", ").join(map(Identifier, columns))


def differences(
    a: str, b: str, *, shown: int = SHOWN, without: frozenset[str] = frozenset(), say: Callable[[str], None]
) -> Iterator[TableDifference]:
    """The tables of the schema public that differ between databases `a` and `b`, but those in `without`."""
    with postgres.session(a) as before, postgres.session(b) as after:
        for session in (before, after):
            session.connection.set_session("REPEATABLE READ", readonly=True, autocommit=False)
            session.execute("SET LOCAL statement_timeout = 0; SET LOCAL TIME ZONE 'UTC'")
        tables_before, tables_after = tables(before), tables(after)
        for name in sorted((tables_before.keys() | tables_after.keys()) - without):
            if name in tables_before and name in tables_after:
                found = table_difference(before, after, tables_before[name], tables_after[name], shown, say)
            elif name in tables_before:
                found = whole_table(before, tables_before[name], GONE)
            else:
                found = whole_table(after, tables_after[name], ADDED)
            if found:
                yield found


def tables(session: cursor) -> dict[str, Table]:
    """The tables of the schema public, by name."""
    session.execute("""
        SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum),
            array_agg(a.attname::text ORDER BY array_position(i.indkey, a.attnum))
                FILTER (WHERE a.attnum = ANY(i.indkey)),
            array_agg(format_type(a.atttypid, NULL)) FILTER (WHERE a.attnum = ANY(i.indkey))
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
        GROUP BY c.relname
    """)
    return {
        name: Table(name, columns, key or columns, bool(key) and len(key) == 1 and types[0] in INTEGERS)
        for name, columns, key, types in session.fetchall()
    }


def whole_table(session: cursor, table: Table, kind: str) -> TableDifference:
    """The difference where only one of the databases has the table."""
    session.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table.name)))
    difference = TableDifference(table.name)
    ((difference.counts[kind],),) = session.fetchall()
    if kind == ADDED:
        difference.columns_added = table.columns
    else:
        difference.columns_gone = table.columns
    return difference


def table_difference(
    before: cursor, after: cursor, a: Table, b: Table, shown: int, say: Callable[[str], None]
) -> TableDifference:
    """The difference of a table that both have, in the columns that both have."""
    difference = TableDifference(a.name)
    difference.columns_added = [name for name in b.columns if name not in a.columns]
    difference.columns_gone = [name for name in a.columns if name not in b.columns]
    columns = [name for name in a.columns if name in b.columns]
    if a.key != b.key or a.integer != b.integer:
        a = b = Table(a.name, columns, columns, False)
    before.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [f'public."{a.name}"'])
    ((rows,),) = before.fetchall()
    if rows >= LARGE:
        say(f"Comparing {a.name}, about {rows:,.0f} rows …")
    buckets_before, buckets_after = (buckets(session, a, columns) for session in (before, after))
    different = [
        bucket
        for bucket in buckets_before.keys() | buckets_after.keys()
        if buckets_before.get(bucket) != buckets_after.get(bucket)
    ]
    if not different:
        return difference
    shown_keys: dict[str, list[Any]] = {ADDED: [], GONE: [], CHANGED: []}
    for kind, key in merged(hashes(before, a, columns, different), hashes(after, a, columns, different)):
        difference.counts[kind] += 1
        if len(shown_keys[kind]) < shown:
            shown_keys[kind].append(key)
    rows_before = whole_rows(before, a, columns, shown_keys[GONE] + shown_keys[CHANGED])
    rows_after = whole_rows(after, a, columns, shown_keys[ADDED] + shown_keys[CHANGED])
    for kind, keys in shown_keys.items():
        difference.rows += [(kind, rows_before.get(key, {}), rows_after.get(key, {})) for key in keys]
    return difference


def buckets(session: cursor, table: Table, columns: list[str]) -> dict[int, tuple[int, int]]:
    """Bucket → number of rows and hash of all of them; 0.8 s per million rows."""
    session.execute(
        SQL("SELECT {bucket}, count(*), bit_xor({row}) FROM {table} GROUP BY 1").format(
            bucket=table.bucket_sql, row=table.row_sql(columns), table=Identifier(table.name)
        )
    )
    return {bucket: (rows, value) for bucket, rows, value in session.fetchall()}


def hashes(
    session: cursor, table: Table, columns: list[str], different: list[int]
) -> Iterator[tuple[Any, int]]:
    """Key and hash of each row in the buckets, by key."""
    statement = SQL("SELECT {key}, {row} FROM {table} {where} ORDER BY 1").format(
        key=table.key_sql,
        row=table.row_sql(columns),
        table=Identifier(table.name),
        where=SQL("WHERE {} = ANY(%s)").format(table.bucket_sql)
        if len(different) < BUCKETS // 2
        else SQL(""),
    )
    with session.connection.cursor(f"rows_{table.name}"[:60]) as stream:
        stream.itersize = 20_000
        stream.execute(statement, [different] if len(different) < BUCKETS // 2 else None)
        yield from stream


def merged(before: Iterator[tuple[Any, int]], after: Iterator[tuple[Any, int]]) -> Iterator[tuple[str, Any]]:
    """Kind and key of each row that differs, from rows in the order of their keys."""
    old, new = next(before, None), next(after, None)
    while old or new:
        if new is None or (old is not None and old[0] < new[0]):
            assert old
            yield GONE, old[0]
            old = next(before, None)
        elif old is None or new[0] < old[0]:
            yield ADDED, new[0]
            new = next(after, None)
        else:
            if old[1] != new[1]:
                yield CHANGED, new[0]
            old, new = next(before, None), next(after, None)


def whole_rows(session: cursor, table: Table, columns: list[str], keys: list[Any]) -> dict[Any, Row]:
    """Key → row, with values as JSON has them."""
    if not keys:
        return {}
    values = SQL(", ").join(SQL("{}, {}").format(Literal(name), Identifier(name)) for name in columns)
    session.execute(
        SQL("SELECT {key}, json_build_object({values}) FROM {table} WHERE {key} = ANY(%s)").format(
            key=table.key_sql, values=values, table=Identifier(table.name)
        ),
        [keys],
    )
    return dict(session.fetchall())


# --- Pages


def page_differences(a: str, b: str, url: str, say: Callable[[str], None]) -> list[PageDifference]:
    """The pages of `url`, MOST_PAGES at most, that differ between databases `a` and `b`."""
    if not url.startswith("/") or url.startswith("//"):
        raise ScenarioError(f'{url!r} is no path of the site. Example: --url "/rooms?order=price"')
    say(f"Reading {url} …")
    before, after = pages(a, url), pages(b, url)
    found = []
    for number in range(max(len(before), len(after))):
        old_url, old = before[number] if number < len(before) else ("", [])
        new_url, new = after[number] if number < len(after) else ("", [])
        if old != new:
            lines = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
            found.append(PageDifference(number + 1, old_url or new_url, lines))
    return found


def pages(database: str, url: str) -> list[tuple[str, list[str]]]:
    """URL and lines of each page, from the first along the links to the next one."""
    found: list[tuple[str, list[str]]] = []
    with django_on(database):
        client = expectations.client()
        while url and len(found) < MOST_PAGES:
            response = client.get(url)
            found.append((url, [f"status {response.status_code}", *lines_of(response)]))
            link = NEXT_PAGE.search(response.headers.get("Link", ""))
            url = link[1] if link else ""
    return found


def lines_of(response: Any) -> list[str]:
    """The body in lines; of a JSON array each item is one."""
    body: str = response.getvalue().decode(errors="replace")
    if "json" in response.headers.get("Content-Type", "") and body.startswith("["):
        return [json.dumps(item, ensure_ascii=False) for item in json.loads(body)]
    return body.splitlines()
