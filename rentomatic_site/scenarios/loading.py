"""Loading a scenario: a database is migrated, seeded by run(), analysed, and cloned to the target."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import psycopg2
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from psycopg2 import errors
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, databases, domain, names, running
from rentomatic_site.scenarios.databases import BUILDING, MIGRATED, TARGET, TEMPLATE, Database, Metadata
from rentomatic_site.scenarios.discovery import Scenario, migrations_fingerprint
from rentomatic_site.scenarios.isolation import django_on
from rentomatic_site.scenarios.locks import lock_target, lock_templates


@dataclass(frozen=True)
class Loaded:
    """The result of a load."""

    database: Database
    how: str
    """filled (run() was called), cloned (from a current template) or kept (the target existed)."""
    seconds: float
    stale: str = ""
    """Why a kept database differs from what a load would make now; "" where it does not."""
    template: Database | None = None
    """What it is a copy of; None where it was kept."""


class Failed(ScenarioError):
    """
    The scenario's code raised an error; the message is its traceback. The database stays for inspection,
    with the rooms that were stored before the error.
    """

    def __init__(self, message: str, rooms: int, database: str, good: str) -> None:
        super().__init__(message)
        self.rooms = rooms
        self.database = database
        self.good = good
        """The target of an earlier load, which is unchanged; "" without one."""


def load(
    scenario: Scenario,
    *,
    seed: int | None = None,
    reset: bool = False,
    rebuild: bool = False,
    say: Callable[[str], None] = lambda line: None,
    target: str = "",
) -> Loaded:
    """
    Make sure that the scenario's target exists; `reset` brings back the freshly loaded state, `rebuild` calls
    run() again; without `seed` both keep that of the present database. `target` is the name of the database,
    by default `scenario_NAME`; `say` prints progress.

    Raises Failed where the scenario's code raises, ScenarioError where the database cannot be had.
    """
    started = time.monotonic()
    target = target or names.target_name(scenario.name)
    with lock_target(target, say), lock_templates(scenario.name, say) as server:
        target = own_target(server, target)
        present = databases.find(server, target)
        if present and present.metadata.scenario != scenario.name:
            raise ScenarioError(
                f"{target} holds scenario {present.metadata.scenario}. "
                f"Next: ./manage.py drop_scenario {names.alias_of(target)}"
            )
        if present and present.broken:
            databases.drop(server, target)
            present = None
        if present and present.metadata.complete and not (reset or rebuild):
            kept, stale = keep(server, present, scenario, seed)
            return Loaded(kept, "kept", time.monotonic() - started, stale)

        if seed is None:  # a reset brings back the state that is there, not another one
            seed = present.metadata.seed if present else domain.DEFAULT_SEED
        fingerprint = scenario.fingerprint(seed)
        template_name = names.template_name(scenario.name, fingerprint)
        template = databases.find(server, template_name)
        spare = "" if template is None or rebuild else names.spare_name(template_name, scenario.name)
        remove_leftovers(server, scenario.name, but=spare)
        how = "cloned" if template and not rebuild else "filled"
        if template is None or rebuild:
            good = target if present and present.metadata.complete else ""
            template = fill(server, scenario, fingerprint, seed, target, good, say)
        if spare and postgres.database_exists(server, spare):
            name = spare
            databases.copy_settings(server, template.name, name)
        else:
            name = databases.create(server, scenario.name, template, template.metadata)
        try:
            databases.promote(server, name, target, replace(template.metadata, kind=TARGET))
        except BaseException:
            clean_up(server, scenario.name)
            raise
        # A template's age counts from its last use.
        databases.write_metadata(server, template.name, databases.stamped(template.metadata))
        if failed := failed_load(server, scenario.name, target):
            databases.drop(server, failed.name)
        database = databases.find(server, target)
    assert database
    return Loaded(database, how, time.monotonic() - started, template=template)


def template_of(scenario: Scenario, seed: int = domain.DEFAULT_SEED) -> Database:
    """
    The template of the scenario, filled where there is none: once, whoever else asks for it.

    Raises as `load`; nothing stays of what run() has stored before an error.
    """
    with lock_templates(scenario.name) as server:
        fingerprint = scenario.fingerprint(seed)
        if template := databases.find(server, names.template_name(scenario.name, fingerprint)):
            databases.write_metadata(server, template.name, databases.stamped(template.metadata))
            return template
        remove_leftovers(server, scenario.name)
        target = names.target_name(f"pytest_{scenario.name}")
        try:
            return fill(server, scenario, fingerprint, seed, target, "", lambda line: None)
        except Failed as failure:
            databases.drop(server, failure.database)
            raise


def own_target(server: cursor, target: str) -> str:
    """The name, or its substitute where another developer has a database of that name."""
    substitute = names.substitute_name(target)
    for name in (substitute, target):
        if (present := databases.find(server, name)) and present.mine:
            return name
    return substitute if databases.find(server, target) else target


def free_failed_name(server: cursor, scenario: str, target: str) -> str:
    """The name for the database of a failed load beside a complete `target`; "" where it is taken."""
    name = names.failed_name(target)
    if postgres.database_exists(server, name) and not failed_load(server, scenario, target):
        return ""
    return name


def failed_load(server: cursor, scenario: str, target: str) -> Database | None:
    """The database that a failed load of the scenario left beside the complete `target`."""
    name = names.failed_name(target)
    for database in databases.databases(server):
        if (
            database.name == name
            and database.metadata.scenario == scenario
            and not database.metadata.complete
        ):
            return database
    return None


def brought_up_to_date(name: str, metadata: Metadata, cause: str, alias: str) -> Metadata:
    """
    Apply the migrations that came since the database was made. Where they fail, a ScenarioError begins with
    `cause`, and says to reset the scenario `alias`.
    """
    current = migrations_fingerprint()
    if metadata.migrations == current:
        return metadata
    try:
        with django_on(name):
            call_command("migrate", verbosity=0)
    except (DatabaseError, CommandError) as error:
        raise ScenarioError(
            f"{cause} cannot be brought up to date: {str(error).strip()}. "
            f"Next: ./manage.py load_scenario {alias} --reset"
        ) from None
    return replace(metadata, migrations=current)


def keep(server: cursor, present: Database, scenario: Scenario, seed: int | None) -> tuple[Database, str]:
    """Keep the database, apply new migrations to it; return it, and why it is stale ("" where it is not)."""
    cause = f"{present.name} was made by other migrations or another role, and"
    metadata = brought_up_to_date(present.name, present.metadata, cause, scenario.name)
    if (
        metadata != present.metadata or not metadata.owner
    ):  # comments of earlier versions hold the output of run()
        owner, checkout = names.identity()
        metadata = replace(metadata, owner=owner, checkout=checkout)
        databases.write_metadata(server, present.name, metadata)
    stale = ""
    if seed not in {None, metadata.seed}:
        stale = f"it was made with seed {metadata.seed}"
    elif metadata.fingerprint != scenario.fingerprint(metadata.seed):
        stale = "the scenario or the migrations have changed since"
    return replace(present, metadata=metadata), stale


def remove_leftovers(server: cursor, scenario: str, but: str = "") -> None:
    """
    Drop the unfinished databases of killed loads of this scenario ("": of the migrated template), and spares;
    all `but` one.
    """
    for database in databases.databases(server):
        unfinished = database.metadata.kind == BUILDING or (
            database.metadata.kind != TARGET and database.broken
        )
        if unfinished and database.metadata.scenario == scenario and database.name != but:
            databases.drop(server, database.name)


def clean_up(server: cursor, scenario: str) -> None:
    """`remove_leftovers` after an error; errors of its own are suppressed, since the server may be away."""
    with suppress(psycopg2.Error):
        remove_leftovers(server, scenario)


def empty(name: str) -> None:
    """
    Remove the tables of a database that has filled the disk: DROP DATABASE begins with a checkpoint, which
    would write their dirty buffers and fails on a full disk.
    """
    with suppress(DatabaseError), django_on(name), connection.cursor() as session:
        session.execute("DROP SCHEMA public CASCADE")


def fill(
    server: cursor,
    scenario: Scenario,
    fingerprint: str,
    seed: int,
    target: str,
    good: str,
    say: Callable[[str], None],
) -> Database:
    """
    Call run() on a new migrated database and promote that to the scenario's only template.

    When run() raises, the database is promoted to `target`, as incomplete, or to a name beside it
    where `good` names a complete one.
    """
    metadata = Metadata(TEMPLATE, scenario.name, fingerprint, migrations_fingerprint(), seed)
    with lock_templates("", say) as migrations:
        migrated = migrated_template(migrations)
        name = databases.create(server, scenario.name, migrated, metadata)
    try:
        with django_on(name):
            error, output = running.run(scenario, seed)
            if error is not None and isinstance(error.__cause__, errors.DiskFull):
                raise error  # dropped: the disk has no space for it
            running.store_output(output)
            rooms = domain.count()
            metadata = replace(metadata, rooms=rooms)
        if error is not None:
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            name_of_failed = target
            if good:
                name_of_failed = free_failed_name(server, scenario.name, target) or name
            databases.promote(server, name, name_of_failed, replace(metadata, kind=TARGET, error=message))
            raise Failed(running.own_traceback(error), rooms, name_of_failed, good) from error
        new_name = names.template_name(scenario.name, fingerprint)
        databases.promote(server, name, new_name, replace(metadata, complete=True))
    except BaseException as interruption:
        if isinstance(interruption.__cause__, errors.DiskFull):
            empty(name)
        if not isinstance(interruption, Failed):
            clean_up(server, scenario.name)
        raise
    for other in databases.databases(server):
        if (other.metadata.kind, other.metadata.scenario) == (
            TEMPLATE,
            scenario.name,
        ) and other.name != new_name:
            databases.drop(server, other.name)
    template = databases.find(server, new_name)
    assert template
    return template


def migrated_template(server: cursor) -> Database:
    """The template that is migrated and empty; it replaces templates with other migrations."""
    fingerprint = migrations_fingerprint()
    name = names.template_name("", fingerprint)
    template = databases.find(server, name)
    if template is None:
        remove_leftovers(server, "")
        metadata = Metadata(MIGRATED, "", fingerprint, fingerprint, complete=True)
        building = databases.create(server, "", None, metadata)
        try:
            with django_on(building):
                call_command("migrate", verbosity=0)
                running.vacuum()
            databases.promote(server, building, name, metadata)
        except BaseException:
            clean_up(server, "")
            raise
        for other in databases.databases(server):
            if other.metadata.kind == MIGRATED and other.name != name:
                databases.drop(server, other.name)
        template = databases.find(server, name)
    assert template
    return template
