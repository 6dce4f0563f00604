"""
The databases of the scenarios on the server, and the templates that they are cloned from.

| name | what |
|---|---|
| `scenario_NAME` | a target: the database that developers use |
| `tpl_NAME_HASH` | the freshly seeded state of a scenario, or a checkpoint; refuses connections |
| `tpl__HASH` | a migrated, empty database; refuses connections |
| `scenario_NAME_RANDOM` | a database that is being built, or was when a load was killed |
| `scenario_NAME_HASH` | the spare: a copy of the template that the next reset takes (`spare_name`) |
| `scenario_NAME_TOKEN` | a test's clone, or a spare one; it has no metadata (clones.py) |

The comment on each holds its metadata (`Metadata`). Nothing here drops, renames or changes a
database without metadata, nor one that another developer or checkout has created, nor the application's and
the maintenance database.

The server finishes a CREATE DATABASE whose client was killed, which leaves a database without metadata. It is
recognised by its name: the last six digits of RANDOM are a hash of the first six, the owner and the checkout.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta

import psycopg2
from django.conf import settings
from psycopg2 import errors
from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Identifier, Literal

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError
from rentomatic_site.scenarios.names import (
    BUILDING_NAME,
    TEST_NAME,
    building_name,
    identity,
    spare_name,
    test_name,
)

FILE_COPY_FROM = 64 * 2**20
"""Bytes; larger databases are cloned faster by copying files than through the write-ahead log."""

ATTEMPTS = 5
"""Of a rename; in each, PostgreSQL waits up to five seconds for sessions to end."""

TARGET, TEMPLATE, MIGRATED, BUILDING, TEST = "scenario", "template", "migrated", "building", "test"
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Metadata:
    """What the comment on a database states, as JSON."""

    kind: str
    scenario: str = ""
    fingerprint: str = ""
    """Of the scenario (discovery.py); of the migrations alone for a migrated template."""
    migrations: str = ""
    seed: int = 0
    rooms: int = 0
    complete: bool = False
    error: str = ""
    created: str = ""
    """UTC, ISO 8601; empty where it is not known."""
    owner: str = ""
    """SCENARIOS_OWNER of the load; empty in databases of earlier versions."""
    checkout: str = ""
    """The project's folder on the machine of the load."""
    target: str = ""
    """Of a checkpoint: the database whose state it is."""
    checkpoint: str = ""
    """Of a checkpoint: its name."""

    @property
    def age(self) -> timedelta:
        return datetime.now(UTC) - datetime.fromisoformat(self.created) if self.created else timedelta.max


@dataclass(frozen=True)
class Database:
    """One database that has metadata; its size is in bytes, 0 where this role may not read it."""

    name: str
    size: int
    metadata: Metadata
    mine: bool
    """Whether this checkout created it and its role may drop it."""
    broken: bool
    """Whether a DROP DATABASE was interrupted: it can only be dropped again."""


def read_metadata(comment: str | None, name: str = "") -> Metadata | None:
    """
    The metadata in a comment, without fields that only other versions of this code have. A database without a
    comment is recognised by its name as one that was being made, or as a test's clone. None for any other.
    """
    try:
        written = json.loads(comment or "")["rentomatic"]
        return Metadata(
            **{field.name: written[field.name] for field in fields(Metadata) if field.name in written}
        )
    except (ValueError, TypeError, KeyError):
        pass
    if comment is None and (building := BUILDING_NAME.fullmatch(name)):
        for scenario in (building[1], ""):
            if building_name(scenario, building[2]) == name:
                return Metadata(BUILDING, scenario, owner=identity()[0], checkout=identity()[1])
    if comment is None and (test := TEST_NAME.fullmatch(name)) and test_name(*test.groups()) == name:
        return Metadata(TEST, test[1], owner=identity()[0], checkout=identity()[1])
    return None


def write_metadata(server: cursor, name: str, metadata: Metadata) -> None:
    postgres.comment_on_database(server, name, json.dumps({"rentomatic": asdict(metadata)}))


def databases(server: cursor) -> list[Database]:
    """This checkout's databases on the server, by name."""
    return [database for database in with_metadata(server) if database.mine]


def others(server: cursor) -> list[Database]:
    """The databases that other developers and checkouts have created, by name."""
    return [database for database in with_metadata(server) if not database.mine]


def find(server: cursor, name: str) -> Database | None:
    """
    The database of that name, None where there is none. ScenarioError where there is one without metadata.

    Only for names that are about to be used: a database of such a name without metadata is in the way.
    """
    if name in protected():
        raise ScenarioError(
            f"{name} is the application's or the maintenance database, which scenarios never touch. "
            "Next: give the scenario's file another name."
        )
    # One query: another process may drop the database, or finish it, at any time.
    for _, database in described(server, name):
        if database is None:
            raise ScenarioError(
                f"The database {name} was not made by load_scenario, which therefore leaves it alone. "
                f"Next: rename it (ALTER DATABASE {name} RENAME TO …), or give the scenario another name."
            )
        return database
    return None


def with_metadata(server: cursor) -> Iterator[Database]:
    """The databases that have metadata, in the order of their names; no protected ones."""
    return (database for _, database in described(server) if database)


def described(server: cursor, only: str | None = None) -> Iterator[tuple[str, Database | None]]:
    """
    The names of the databases that are named as scenarios' are, in their order, or only that one; no
    protected ones. With each the database, None where it has no metadata.
    """
    server.execute(
        # The size of a database that is being dropped is an error as soon as it is gone.
        "SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') AND datconnlimit <> -2"
        " THEN pg_database_size(oid) END,"
        " shobj_description(oid, 'pg_database'), pg_has_role(datdba, 'USAGE'), datconnlimit = -2"
        " FROM pg_database WHERE datname ~ '^(scenario|tpl)_' AND datname = coalesce(%s, datname)"
        " AND datname <> ALL(%s) ORDER BY datname",
        [only, protected()],
    )
    for name, size, comment, droppable, broken in server.fetchall():
        metadata = read_metadata(comment, name)
        if metadata is None:
            yield name, None
            continue
        # Earlier versions stored no owner.
        mine = droppable and (metadata.owner, metadata.checkout) in {identity(), ("", "")}
        yield name, Database(name, size or 0, metadata, mine, broken)


def without_metadata(server: cursor) -> list[tuple[str, int]]:
    """
    Name and size of each database that has no metadata and is named as earlier versions named databases that
    were being made: left by a load that was killed. Only those that have no sessions and are ours to drop.
    """
    server.execute(
        "SELECT datname, pg_database_size(oid) FROM pg_database"
        " WHERE datname ~ '^tpl_([a-z][a-z0-9_]{0,39})?_[0-9a-f]{12}$' AND datname <> ALL(%s)"
        " AND shobj_description(oid, 'pg_database') IS NULL AND pg_has_role(datdba, 'USAGE')"
        " AND oid NOT IN (SELECT datid FROM pg_stat_activity WHERE datid IS NOT NULL) ORDER BY datname",
        [protected()],
    )
    return server.fetchall()


def protected() -> list[str]:
    """The databases that are never touched, whatever their names and comments."""
    return [settings.APPLICATION_DB, settings.POSTGRES["dbname"], "template0", "template1"]


def create(server: cursor, scenario: str, template: Database | None, metadata: Metadata) -> str:
    """
    Create a database with a unique name, a copy of `template`, of kind BUILDING. Return its name.

    An interruption leaves nothing, or a database that the next load of the scenario recognises by its name.
    """
    name = building_name(scenario)
    strategy = "FILE_COPY" if template and template.size >= FILE_COPY_FROM else None
    try:
        copy(server, name, template.name if template else None, strategy)
        write_metadata(
            server, name, stamped(replace(metadata, kind=BUILDING, scenario=scenario, complete=False))
        )
    except BaseException:
        with suppress(psycopg2.Error):
            postgres.drop_database(server, name)
        raise
    return name


def copy(server: cursor, name: str, template: str | None, strategy: str | None) -> None:
    """Create the database, by sharing the template's blocks where server and file system can."""
    options = {"template": template, "strategy": strategy, "owner": settings.DATABASES["default"]["USER"]}
    try:
        # PostgreSQL 18 can let the file system share or copy the blocks, which is several times faster.
        with suppress(errors.UndefinedObject):
            server.execute("SET file_copy_method = clone")
        postgres.create_database(server, name, **options)
    except errors.IoError:  # not supported by this file system
        server.execute("SET file_copy_method = copy")
        postgres.create_database(server, name, **options)
    if template:
        copy_settings(server, template, name)


def copy_settings(server: cursor, template: str, name: str) -> None:
    """Give the database the template's parameters (ALTER DATABASE … SET), which its copies lack."""
    server.execute(
        "SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
        " WHERE setrole = 0 AND datname = %s",
        [template],
    )
    for (setting,) in server.fetchall():
        parameter, _, value = setting.partition("=")
        server.execute(
            SQL("ALTER DATABASE {} SET {} = {}").format(
                Identifier(name), Identifier(parameter), Literal(value)
            )
        )


def begin_spare(template: Database) -> None:
    """
    Let the server copy a large template, so that the next reset only renames the copy. The command goes on
    meanwhile; an interruption leaves nothing. Small ones are copied in no time.
    """
    if template.size >= FILE_COPY_FROM:
        postgres.begin_to_create(
            spare_name(template.name, template.metadata.scenario),
            template=template.name,
            strategy="FILE_COPY",
            owner=settings.DATABASES["default"]["USER"],
        )


def stamped(metadata: Metadata) -> Metadata:
    """The metadata with the present time, this owner and this checkout."""
    owner, checkout = identity()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(metadata, owner=owner, checkout=checkout, created=created)


@dataclass(frozen=True)
class Move:
    """A database that gets a name and metadata; names may be exchanged by several moves, in their order."""

    name: str
    new_name: str
    metadata: Metadata


def promote(server: cursor, name: str, new_name: str, metadata: Metadata) -> None:
    """
    Rename a built database to `new_name` and write its metadata, in one transaction. Templates refuse
    connections from then on. The server drops the database that had the name while the command goes on; where
    that is interrupted, the next load finds it as one that was being built.

    postgres.InUseError where this role may not end a session in one of the two; nothing has changed then.
    """
    replaced = find(server, new_name) if new_name != name else None
    away = building_name(metadata.scenario)
    moves = [Move(name, new_name, stamped(metadata))]
    if replaced:
        moves.insert(0, Move(new_name, away, replace(replaced.metadata, kind=BUILDING)))
    move(server, moves)
    if replaced:
        postgres.begin_to_drop(away)


def move(server: cursor, moves: list[Move]) -> None:
    """
    Rename databases and write their metadata, in one transaction; only targets accept connections afterwards.

    postgres.InUseError where this role may not end a session in one of them; nothing has changed then.
    """
    for _ in range(ATTEMPTS):
        for step in moves:
            postgres.end_sessions(server, step.name)
        try:
            with transaction(server):
                for step in moves:
                    write_metadata(server, step.name, step.metadata)
                    postgres.allow_connections(server, step.name, step.metadata.kind == TARGET)
                    if step.new_name != step.name:
                        postgres.rename_database(server, step.name, step.new_name)
            return
        except errors.ObjectInUse:  # a client connected again between the two statements
            pass
    raise in_use(moves[-1].new_name)


def in_use(name: str) -> ScenarioError:
    return ScenarioError(
        f"{name} is in use by programs that connect again and again. Next: stop them, then do this again."
    )


def drop(server: cursor, name: str) -> bool:
    """
    Drop a database of this checkout and end its sessions, a template with its spare; False where it does not
    exist any more.
    """
    database = find(server, name)
    if database is None or not database.mine:
        return False
    postgres.drop_database(server, name)
    if database.metadata.kind == TEMPLATE:  # it was dropped when its copy was complete, which is new then
        postgres.drop_database(server, spare_name(name, database.metadata.scenario))
    return True


@contextmanager
def transaction(server: cursor) -> Iterator[None]:
    """One transaction on a session in autocommit mode."""
    server.execute("BEGIN")
    try:
        yield
    except BaseException:
        server.execute("ROLLBACK")
        raise
    server.execute("COMMIT")
