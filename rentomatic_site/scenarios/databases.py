"""
The databases of the scenarios on the server, and the templates that they are cloned from.

| name | what |
|---|---|
| `scenario_NAME` | what people work on |
| `tpl_NAME_HASH` | the freshly filled state of a scenario; refuses connections |
| `tpl__HASH` | a migrated, empty database; refuses connections |
| `scenario_NAME_RANDOM` | one that is being made; the next load of NAME removes what a killed one left |

A comment on each says what it is (`Mark`). Without it a database is not ours, and nothing here drops,
renames or changes it; the application's and the maintenance database are never touched at all.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta

from django.conf import settings
from psycopg2 import errors
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError
from rentomatic_site.scenarios.isolation import LIVE_PREFIX

FILE_COPY_FROM = 64 * 2**20
"""Bytes from which a clone is quicker by copying files than through the write-ahead log."""

LIVE, TEMPLATE, MIGRATED, BUILDING = "scenario", "template", "migrated", "building"


@dataclass(frozen=True)
class Mark:
    """What the comment on a database of ours says."""

    kind: str
    scenario: str = ""
    fingerprint: str = ""
    """Of the scenario (catalogue.py); of the migrations alone for a migrated template."""
    migrations: str = ""
    seed: int = 0
    rooms: int = 0
    complete: bool = False
    output: str = ""
    """What `run()` printed: it holds passwords that are needed again."""
    error: str = ""
    created: str = ""
    """UTC, ISO 8601."""

    @property
    def age(self) -> timedelta:
        return datetime.now(UTC) - datetime.fromisoformat(self.created)


@dataclass(frozen=True)
class Database:
    """One database of ours; its size is in bytes."""

    name: str
    size: int
    mark: Mark


def live_name(scenario: str) -> str:
    """The name that `settings.DATABASES` has under SCENARIO=NAME."""
    return f"{LIVE_PREFIX}{scenario}"


def template_name(scenario: str, fingerprint: str) -> str:
    return f"tpl_{scenario}_{fingerprint}"


def building_name(scenario: str) -> str:
    """A name of its own for a database that is being made; processes reach it by SCENARIO like any other."""
    return live_name(f"{scenario or MIGRATED}_{secrets.token_hex(6)}")


def read_mark(comment: str | None) -> Mark | None:
    """The mark in a comment, without what other versions of this code know; None where it is not ours."""
    try:
        written = json.loads(comment or "")["rentomatic"]
        return Mark(**{field.name: written[field.name] for field in fields(Mark) if field.name in written})
    except (ValueError, TypeError, KeyError):
        return None


def write_mark(server: cursor, name: str, mark: Mark) -> None:
    postgres.comment_on_database(server, name, json.dumps({"rentomatic": asdict(mark)}))


def databases(server: cursor) -> list[Database]:
    """All databases with our mark, by name."""
    server.execute(
        "SELECT datname, coalesce(pg_database_size(oid), 0), shobj_description(oid, 'pg_database')"
        " FROM pg_database WHERE datname ~ '^(scenario|tpl)_' AND datname <> ALL(%s) ORDER BY datname",
        [protected()],
    )
    marked = [(name, size, read_mark(comment)) for name, size, comment in server.fetchall()]
    return [Database(name, size, mark) for name, size, mark in marked if mark]


def find(server: cursor, name: str) -> Database | None:
    """
    The database of that name. ScenarioError where there is one that is not ours.

    Only for names that we are about to use: what bears one of them and not our mark is in the way.
    """
    if name in protected():
        raise ScenarioError(
            f"{name} is the application's or the maintenance database, which scenarios never touch. "
            "Next: give the scenario's file another name."
        )
    if not postgres.database_exists(server, name):
        return None
    server.execute("SELECT pg_database_size(%s)", [name])
    (size,) = server.fetchone() or (0,)
    mark = read_mark(postgres.database_comment(server, name))
    if mark is None:
        raise ScenarioError(
            f"The database {name} was not made by load_scenario, which therefore leaves it alone. "
            f"Next: rename it (ALTER DATABASE {name} RENAME TO …), or give the scenario another name."
        )
    return Database(name, size, mark)


def protected() -> list[str]:
    """The databases that are never ours, whatever their names and comments."""
    return [settings.APPLICATION_DB, settings.POSTGRES["dbname"], "template0", "template1"]


def create(server: cursor, scenario: str, template: Database | None, mark: Mark) -> str:
    """
    Make a database with a name of its own, a copy of `template`, marked as being built; give its name.

    Whatever interrupts this leaves nothing, short of a kill in the millisecond before the mark.
    """
    name = building_name(scenario)
    options = {
        "template": template and template.name,
        "strategy": "FILE_COPY" if template and template.size >= FILE_COPY_FROM else None,
        "owner": settings.DATABASES["default"]["USER"],
    }
    try:
        try:
            # PostgreSQL 18 lets the file system share or copy the blocks: several times quicker.
            with suppress(errors.UndefinedObject):
                server.execute("SET file_copy_method = clone")
            postgres.create_database(server, name, **options)
        except errors.IoError:  # this file system cannot
            server.execute("SET file_copy_method = copy")
            postgres.create_database(server, name, **options)
        write_mark(
            server, name, replace(mark, kind=BUILDING, scenario=scenario, complete=False, created=now())
        )
    except BaseException:
        with suppress(errors.InsufficientPrivilege):
            postgres.drop_database(server, name)
        raise
    return name


def finish(server: cursor, name: str, new_name: str, mark: Mark) -> None:
    """
    Give a built database its place and its mark, in one transaction; what had the place is dropped.

    Templates refuse connections from then on. Before the transaction nothing has changed, after it
    everything has.
    """
    replaced = find(server, new_name)
    away = building_name(mark.scenario)
    for attempt in range(20):
        for database in filter(None, [replaced and new_name, name]):
            server.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = %s", [database]
            )
        try:
            with transaction(server):
                if replaced:
                    write_mark(server, new_name, replace(replaced.mark, kind=BUILDING))
                    postgres.rename_database(server, new_name, away)
                write_mark(server, name, replace(mark, created=now()))
                postgres.allow_connections(server, name, mark.kind == LIVE)
                postgres.rename_database(server, name, new_name)
            break
        except errors.ObjectInUse:  # somebody came back between the two statements
            if attempt == 19:
                raise ScenarioError(
                    f"{new_name} is in use by programs that connect again and again. "
                    "Next: stop them, then load again."
                ) from None
    if replaced:
        postgres.drop_database(server, away)


def drop(server: cursor, name: str) -> bool:
    """Drop a database of ours, ending connections to it; False where it has gone meanwhile."""
    if find(server, name) is None:
        return False
    postgres.drop_database(server, name)
    return True


@contextmanager
def transaction(server: cursor) -> Iterator[None]:
    """One transaction on a session that is in autocommit mode otherwise."""
    server.execute("BEGIN")
    try:
        yield
    except BaseException:
        server.execute("ROLLBACK")
        raise
    server.execute("COMMIT")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
