"""Loading a scenario: from its file to a database that is migrated, filled, analysed, and cloned again."""

import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from io import StringIO
from typing import TextIO

import psycopg2
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.db import DatabaseError, connection, transaction
from psycopg2 import errors
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, databases
from rentomatic_site.scenarios.databases import BUILDING, LIVE, MIGRATED, TEMPLATE, Database, Mark
from rentomatic_site.scenarios.discovery import Scenario, folder, migrations_fingerprint
from rentomatic_site.scenarios.isolation import django_on, threads_awaited
from rooms import seeding
from rooms.models import Room

OUTPUT_LIMIT = 10_000
"""Characters of what `run()` prints that are printed again at later loads."""


@dataclass(frozen=True)
class Loaded:
    """What a load came to."""

    database: Database
    how: str
    """filled (the scenario ran), cloned (its template was current) or kept (it was there)."""
    seconds: float
    stale: str = ""
    """Why a kept database is not what a load would make now."""


class Failed(ScenarioError):
    """
    The scenario's own code raised; the message is its traceback. The database is there for looking at,
    with the rooms that it had by then.
    """

    def __init__(self, message: str, rooms: int, database: str, good: str) -> None:
        super().__init__(message)
        self.rooms = rooms
        self.database = database
        self.good = good
        """The scenario's database from an earlier load, which stays in its place; "" without one."""


def load(
    scenario: Scenario,
    *,
    seed: int | None = None,
    reset: bool = False,
    rebuild: bool = False,
    say: Callable[[str], None] = lambda line: None,
    live: str = "",
) -> Loaded:
    """
    Make sure that the scenario's database is there; with `reset` as freshly loaded, with `rebuild` by running
    the scenario again. `live` is the database's name where it is not the usual one.

    Raises Failed where the scenario's code raises, ScenarioError where the database cannot be had.
    """
    started = time.monotonic()
    live = live or databases.live_name(scenario.name)
    with lock_live(live, say), lock_templates(scenario.name, say) as server:
        live = own_place(server, live)
        present = databases.find(server, live)
        if present and present.mark.scenario != scenario.name:
            raise ScenarioError(
                f"{live} holds scenario {present.mark.scenario}. "
                f"Next: ./manage.py drop_scenario {live.removeprefix(databases.live_name(''))}"
            )
        if present and present.broken:
            databases.drop(server, live)
            present = None
        if present and present.mark.complete and not (reset or rebuild):
            kept, stale = keep(server, present, scenario, seed)
            return Loaded(kept, "kept", time.monotonic() - started, stale)

        remove_leftovers(server, scenario.name)
        seed = seeding.DEFAULT_SEED if seed is None else seed
        fingerprint = scenario.fingerprint(seed)
        template = databases.find(server, databases.template_name(scenario.name, fingerprint))
        how = "cloned" if template and not rebuild else "filled"
        if template is None or rebuild:
            good = live if present and present.mark.complete else ""
            template = fill(server, scenario, fingerprint, seed, live, good, say)
        name = databases.create(server, scenario.name, template, template.mark)
        try:
            databases.finish(server, name, live, replace(template.mark, kind=LIVE))
        except BaseException:
            clean_up(server, scenario.name)
            raise
        # A template's age counts from its last use.
        databases.write_mark(server, template.name, databases.signed(template.mark))
        if failed := failed_load(server, scenario.name, live):
            databases.drop(server, failed.name)
        database = databases.find(server, live)
    assert database
    return Loaded(database, how, time.monotonic() - started)


def own_place(server: cursor, live: str) -> str:
    """The name itself, or what stands for it where that is another developer's."""
    substitute = databases.substitute_name(live)
    for name in (substitute, live):
        if (present := databases.find(server, name)) and present.mine:
            return name
    return substitute if databases.find(server, live) else live


def place_beside(server: cursor, scenario: str, live: str) -> str:
    """Where a failed load leaves its database while `live` holds a good one; "" where that is taken."""
    name = databases.failed_name(live)
    if postgres.database_exists(server, name) and not failed_load(server, scenario, live):
        return ""
    return name


def failed_load(server: cursor, scenario: str, live: str) -> Database | None:
    """What a failed load of the scenario left beside the good database `live`."""
    name = databases.failed_name(live)
    for database in databases.databases(server):
        if database.name == name and database.mark.scenario == scenario and not database.mark.complete:
            return database
    return None


@contextmanager
def lock_live(live: str, say: Callable[[str], None] = lambda line: None) -> Iterator[cursor]:
    """The server while nobody else loads a scenario, whichever it is, into the database of that name."""
    what = f"scenario {live.removeprefix(databases.live_name(''))}"
    with lock(f"rentomatic {what}", what, say) as server:
        yield server


@contextmanager
def lock_templates(scenario: str, say: Callable[[str], None] = lambda line: None) -> Iterator[cursor]:
    """
    The server while nobody else in this checkout loads or drops the scenario of that name, or works on the
    migrated template: "". Whoever wants both locks takes that of the live database first.
    """
    what = f"scenario {scenario}" if scenario else "migrations"
    with lock(f"rentomatic templates {databases.digest(scenario)}", what, say) as server:
        yield server


@contextmanager
def lock(name: str, what: str, say: Callable[[str], None]) -> Iterator[cursor]:
    """That lock, by a session that ends what it was doing when this process is killed."""
    with postgres.advisory_lock(
        name, waiting=lambda: say(f"Waiting for another command that works on {what} …")
    ) as server:
        # PostgreSQL finishes a statement whose client has gone, unless it looks. Milliseconds.
        server.execute("SET client_connection_check_interval = 50")
        yield server


def keep(server: cursor, present: Database, scenario: Scenario, seed: int | None) -> tuple[Database, str]:
    """The database as it is, but with migrations that came since; and why it is stale, if it is."""
    mark = present.mark
    if mark.migrations != migrations_fingerprint():
        try:
            with django_on(present.name):
                call_command("migrate", verbosity=0)
        except (DatabaseError, CommandError) as error:
            raise ScenarioError(
                f"{present.name} was made by other migrations or another role, and cannot be brought up to "
                f"date: {str(error).strip()}. Next: ./manage.py load_scenario {scenario.name} --reset"
            ) from None
        mark = replace(mark, migrations=migrations_fingerprint())
    if mark != present.mark or not mark.owner:  # earlier versions' comments hold what run() printed
        owner, checkout = databases.identity()
        mark = replace(mark, owner=owner, checkout=checkout)
        databases.write_mark(server, present.name, mark)
    stale = ""
    if seed not in {None, mark.seed}:
        stale = f"it was made with seed {mark.seed}"
    elif mark.fingerprint != scenario.fingerprint(mark.seed):
        stale = "the scenario or the migrations have changed since"
    return replace(present, mark=mark), stale


def remove_leftovers(server: cursor, scenario: str) -> None:
    """Drop what a killed load of this scenario (or of the migrated template: "") left half done."""
    for database in databases.databases(server):
        half = database.mark.kind == BUILDING or (database.mark.kind != LIVE and database.broken)
        if half and database.mark.scenario == scenario:
            databases.drop(server, database.name)


def clean_up(server: cursor, scenario: str) -> None:
    """`remove_leftovers` after an error, which stays the one that is told: the server may be gone."""
    with suppress(psycopg2.Error):
        remove_leftovers(server, scenario)


def empty(name: str) -> None:
    """
    Give the disk back that a database has filled: DROP DATABASE begins with a checkpoint, which wants to
    write what the tables still have in memory, and cannot on a disk that is full.
    """
    with suppress(DatabaseError), django_on(name), connection.cursor() as session:
        session.execute("DROP SCHEMA public CASCADE")


def fill(
    server: cursor,
    scenario: Scenario,
    fingerprint: str,
    seed: int,
    live: str,
    good: str,
    say: Callable[[str], None],
) -> Database:
    """
    Run the scenario on a new migrated database, and make that the scenario's only template.

    When it raises, the database takes the place of the live one, marked incomplete, or a place beside it
    where that is `good`.
    """
    mark = Mark(TEMPLATE, scenario.name, fingerprint, migrations_fingerprint(), seed)
    with lock_templates("", say) as migrations:
        migrated = migrated_template(migrations)
        name = databases.create(server, scenario.name, migrated, mark)
    try:
        with django_on(name):
            error, output = run(scenario, seed)
            if error is not None and isinstance(error.__cause__, errors.DiskFull):
                raise error  # nothing of it stays: there is no room for looking at it
            store_output(output)
            rooms = Room.objects.count()
            mark = replace(mark, rooms=rooms)
        if error is not None:
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            place = live
            if good:
                place = place_beside(server, scenario.name, live) or name
            databases.finish(server, name, place, replace(mark, kind=LIVE, error=words))
            raise Failed(own_traceback(error), rooms, place, good) from error
        new_name = databases.template_name(scenario.name, fingerprint)
        databases.finish(server, name, new_name, replace(mark, complete=True))
    except BaseException as interruption:
        if isinstance(interruption.__cause__, errors.DiskFull):
            empty(name)
        if not isinstance(interruption, Failed):
            clean_up(server, scenario.name)
        raise
    for other in databases.databases(server):
        if (other.mark.kind, other.mark.scenario) == (TEMPLATE, scenario.name) and other.name != new_name:
            databases.drop(server, other.name)
    template = databases.find(server, new_name)
    assert template
    return template


def migrated_template(server: cursor) -> Database:
    """The template that has the migrations of this code and nothing else; it replaces those of other code."""
    fingerprint = migrations_fingerprint()
    name = databases.template_name("", fingerprint)
    template = databases.find(server, name)
    if template is None:
        remove_leftovers(server, "")
        mark = Mark(MIGRATED, "", fingerprint, fingerprint, complete=True)
        building = databases.create(server, "", None, mark)
        try:
            with django_on(building):
                call_command("migrate", verbosity=0)
                vacuum()
            databases.finish(server, building, name, mark)
        except BaseException:
            clean_up(server, "")
            raise
        for other in databases.databases(server):
            if other.mark.kind == MIGRATED and other.name != name:
                databases.drop(server, other.name)
        template = databases.find(server, name)
    assert template
    return template


class Tee(StringIO):
    """Remembers what is printed through it to `stream`."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(text)
        self.stream.flush()
        return super().write(text)


def run(scenario: Scenario, seed: int) -> tuple[BaseException | None, str]:
    """
    Run the scenario in one transaction; what its code raised, and what it printed.

    What it stored before it raised is kept, for looking at, unless the database refused a statement of
    its own outside of `transaction.atomic()`: PostgreSQL then takes the transaction back.
    """
    failures: list[BaseException] = []
    ContentType.objects.clear_cache()  # ids differ from one database to the next
    seeding.seed(seed)
    random.seed(seed)
    with redirect_stdout(Tee(sys.stdout)) as printed:
        try:
            module = scenario.module()
            if not callable(getattr(module, "run", None)):
                raise ScenarioError(f"{scenario.path} has no function run(). Next: write `def run():` in it.")
            with threads_awaited(failures.append), transaction.atomic():
                try:
                    module.run()
                except (Exception, SystemExit) as error:
                    failures.append(error)
        except ScenarioError:
            raise
        except (Exception, SystemExit) as error:  # at import, or a constraint that is checked at commit
            failures.append(error)
    if not failures:
        set_sequences()
        vacuum()
    return (failures[0] if failures else None), printed.getvalue()[:OUTPUT_LIMIT]


def store_output(output: str) -> None:
    """
    Keep what `run()` printed in the scenario's database, for later loads: it holds the staff's passwords,
    and every role may read the comment on a database, even where it may not connect to it.
    """
    with connection.cursor() as session:
        session.execute("CREATE SCHEMA load_scenario")
        session.execute("CREATE TABLE load_scenario.output AS SELECT %s::text AS printed", [output])


def stored_output() -> str:
    """What `run()` printed, from the database of Django's connection; "" where it was not kept."""
    with connection.cursor() as session:
        session.execute("SELECT to_regclass('load_scenario.output') IS NOT NULL")
        if session.fetchone() != (True,):
            return ""
        session.execute("SELECT printed FROM load_scenario.output")
        ((printed,),) = session.fetchall()
    return str(printed)


def set_sequences() -> None:
    """Let each table's ids go on behind the largest: a scenario may state ids itself."""
    with connection.cursor() as session:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(apps.get_models())):
            session.execute(statement)


def vacuum() -> None:
    """Statistics for the planner, and rows that no reader has to touch again: clones begin so."""
    with connection.cursor() as session:
        session.execute("VACUUM (FREEZE, ANALYZE)")


def own_traceback(error: BaseException) -> str:
    """The traceback as far as it is the scenario's: the frames in its folder, and what was raised."""
    trace = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = trace
    while link:
        link.stack = traceback.StackSummary.from_list(own_frames(link))
        for name in ("__cause__", "__context__"):
            if (origin := getattr(link, name)) and not own_frames(origin):
                setattr(link, name, None)
        link = link.__cause__ or link.__context__
    return "".join(trace.format()).rstrip()


def own_frames(trace: traceback.TracebackException) -> list[traceback.FrameSummary]:
    """The frames in the scenarios' folder."""
    return [frame for frame in trace.stack if frame.filename.startswith(str(folder()))]
