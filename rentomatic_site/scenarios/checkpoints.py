"""
Checkpoints: states of a loaded scenario's database that a developer keeps, and goes back to.

A checkpoint is a template database with the kind CHECKPOINT. `back` replaces the scenario's database by a
copy of it; the database that was there becomes the checkpoint UNDONE, of which each scenario has one: `undo`
exchanges the two by renaming them, without a copy.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from psycopg2 import errors
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, databases, domain, loading, names
from rentomatic_site.scenarios.databases import (
    BUILDING,
    CHECKPOINT,
    TARGET,
    TEMPLATE,
    Database,
    Metadata,
    Move,
)
from rentomatic_site.scenarios.discovery import NAME
from rentomatic_site.scenarios.isolation import django_on
from rentomatic_site.scenarios.locks import lock_target, lock_templates

NOW, LOADED, UNDONE = "now", "loaded", "before_back"
"""States that nobody saves: the database itself, its template, and what `undo` goes back to."""

MOST = 20
"""Checkpoints of one scenario; each takes the disk of a whole database."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Held:
    """A loaded scenario whose locks this command holds."""

    server: cursor
    name: str
    """Of its database; that may be gone while its checkpoints are still there."""
    target: Database | None
    checkpoints: list[Database]
    """Oldest first."""

    @property
    def alias(self) -> str:
        return names.alias_of(self.name)

    @property
    def scenario(self) -> str:
        return (self.target or self.checkpoints[0]).metadata.scenario

    def loaded(self) -> Database:
        """The database; ScenarioError where it is not there."""
        if self.target is None or not self.target.metadata.complete:
            raise ScenarioError(
                f"{self.alias} is not loaded. Next: ./manage.py scenario back --on {self.alias}, or "
                f"./manage.py load_scenario {self.scenario}"
            )
        return self.target

    def find(self, name: str) -> Database | None:
        """The checkpoint of that name."""
        return next((one for one in self.checkpoints if one.metadata.checkpoint == name), None)

    def checkpoint(self, name: str) -> Database:
        """The checkpoint of that name; ScenarioError, with those that there are, without one."""
        if found := self.find(name):
            return found
        known = ", ".join(one.metadata.checkpoint for one in self.checkpoints) or "none yet"
        raise ScenarioError(
            f"{self.alias} has no checkpoint {name}; it has: {known}. "
            f"Next: ./manage.py scenario list --on {self.alias}"
        )


def chosen(alias: str | None) -> str:
    """
    The scenario that a command is about: `alias`, else the one of SCENARIO, else the only one that is loaded.
    """
    if name := alias or settings.SCENARIO:
        return str(name)
    with postgres.session() as server:
        loaded = [one for one in databases.databases(server) if one.metadata.kind == TARGET]
    if len(loaded) == 1:
        return names.alias_of(loaded[0].name)
    aliases = ", ".join(names.alias_of(one.name) for one in loaded)
    if not aliases:
        raise ScenarioError("No scenario is loaded. Next: ./manage.py load_scenario (lists them)")
    raise ScenarioError(f"Say which scenario: --on NAME, one of {aliases}. Next: ./manage.py list_scenarios")


@contextmanager
def held(alias: str, say: Say = lambda line: None) -> Iterator[Held]:
    """Hold the locks of a loaded scenario; what killed commands have left of it is put in order."""
    with postgres.session() as server:
        name = loading.own_target(server, names.target_name(alias))
        found = databases.find(server, name)
        known = found.metadata.scenario if found and found.mine else ""
        known = known or next((one.metadata.scenario for one in of(server, name)), "")
    if not known:
        raise ScenarioError(f"{alias} is not loaded. Next: ./manage.py load_scenario (lists them)")
    with lock_target(name, say), lock_templates(known, say) as server:
        tidy(server, known)
        yield Held(server, name, databases.find(server, name), of(server, name))


def of(server: cursor, target: str) -> list[Database]:
    """The checkpoints of the database `target`, oldest first."""
    found = [
        one
        for one in databases.databases(server)
        if one.metadata.kind == CHECKPOINT and one.metadata.target == target and not one.broken
    ]
    return sorted(found, key=lambda one: one.metadata.created)


def tidy(server: cursor, scenario: str) -> None:
    """Drop what a killed command was building, and close what a killed comparison has opened."""
    spares = {
        names.spare_name(one.name, scenario)
        for one in databases.databases(server)
        if one.metadata.kind == TEMPLATE and one.metadata.scenario == scenario
    }
    for one in databases.databases(server):
        if one.metadata.scenario != scenario or one.metadata.kind == TARGET or one.name in spares:
            continue
        if one.metadata.kind == BUILDING or one.broken:
            databases.drop(server, one.name)
        else:
            postgres.allow_connections(server, one.name, False)


def checked(name: str) -> str:
    """The name of a checkpoint to save; ScenarioError where it cannot be one."""
    if not NAME.fullmatch(name):
        raise ScenarioError(
            f"{name!r} cannot be a checkpoint's name: small letters, digits and underscores, a letter first, "
            "at most 40. Example: ./manage.py scenario save before_import"
        )
    if name in {NOW, LOADED, UNDONE}:
        raise ScenarioError(
            f"{name} is the name of a state that is always there. Next: choose another one, such as {name}_2"
        )
    return name


def database_name(scenario: str, target: str, name: str) -> str:
    return f"tpl_{scenario}_{names.digest(CHECKPOINT, target, name)}"


def save(of_scenario: Held, name: str, *, replacing: bool = False, say: Say = lambda line: None) -> Database:
    """
    Save the present state as checkpoint `name`. Sessions in the database are ended, since PostgreSQL copies
    none that is in use; programs that connect meanwhile wait for the copy.
    """
    server, target = of_scenario.server, of_scenario.loaded()
    if of_scenario.find(name) and not replacing:
        raise ScenarioError(
            f"{of_scenario.alias} has a checkpoint {name} already. Next: ./manage.py scenario save {name} "
            "--replace, or another name"
        )
    saved = [one for one in of_scenario.checkpoints if one.metadata.checkpoint != UNDONE]
    if len(saved) >= MOST and not of_scenario.find(name):
        oldest = saved[0].metadata.checkpoint
        size = filesizeformat(sum(one.size for one in saved))
        raise ScenarioError(
            f"{of_scenario.alias} has {MOST} checkpoints, {size}, which is the most. "
            f"Next: ./manage.py scenario drop {oldest} --on {of_scenario.alias} (the oldest)"
        )
    say(f"Copying {filesizeformat(target.size)} …")
    rooms = rows_of(target.name)
    metadata = replace(
        target.metadata, kind=CHECKPOINT, target=target.name, checkpoint=name, rooms=rooms, complete=True
    )
    copy = copied(server, target, metadata)
    new_name = database_name(target.metadata.scenario, target.name, name)
    promoted(server, copy, new_name, metadata)
    database = databases.find(server, new_name)
    assert database
    return database


def back(of_scenario: Held, name: str, say: Say = lambda line: None) -> Database:
    """Replace the database by a copy of checkpoint `name`; the present one becomes checkpoint UNDONE."""
    server, checkpoint = of_scenario.server, of_scenario.checkpoint(name)
    say(f"Copying {filesizeformat(checkpoint.size)} …")
    copy = databases.create(server, of_scenario.scenario, checkpoint, checkpoint.metadata)
    metadata = replace(checkpoint.metadata, kind=TARGET, target="", checkpoint="")
    try:
        cause = "The checkpoint was saved with other migrations and"
        metadata = loading.brought_up_to_date(copy, metadata, cause, of_scenario.alias)
        put(of_scenario, copy, metadata)
    except BaseException:
        loading.clean_up(server, of_scenario.scenario)
        raise
    database = databases.find(server, of_scenario.name)
    assert database
    return database


def undo(of_scenario: Held) -> Database:
    """Exchange the database and the checkpoint UNDONE, without a copy; done again it goes forward again."""
    server = of_scenario.server
    undone = of_scenario.find(UNDONE)
    if undone is None:
        raise ScenarioError(
            f"There is nothing to undo: {of_scenario.alias} has not been taken back to a checkpoint. "
            f"Next: ./manage.py scenario list --on {of_scenario.alias}"
        )
    metadata = replace(undone.metadata, kind=TARGET, target="", checkpoint="")
    put(of_scenario, undone.name, metadata)
    database = databases.find(server, of_scenario.name)
    assert database
    return database


def put(of_scenario: Held, name: str, metadata: Metadata) -> None:
    """
    Make database `name` the scenario's, and the present one the checkpoint UNDONE. The former one of these is
    dropped, by the server while the command goes on.
    """
    server, target, former = of_scenario.server, of_scenario.target, of_scenario.find(UNDONE)
    undone = database_name(of_scenario.scenario, of_scenario.name, UNDONE)
    away = names.building_name(of_scenario.scenario)
    moves = [Move(name, of_scenario.name, databases.stamped(metadata))]
    if target:
        rooms = rows_of(target.name) if target.metadata.complete else target.metadata.rooms
        kept = replace(target.metadata, kind=CHECKPOINT, target=target.name, checkpoint=UNDONE, rooms=rooms)
        if former and former.name != name:
            moves.insert(0, Move(undone, away, replace(former.metadata, kind=BUILDING)))
        moves.insert(-1, Move(target.name, names.building_name(of_scenario.scenario), kept))
        moves.append(Move(moves[-2].new_name, undone, databases.stamped(kept)))
    databases.move(server, moves)
    if target and former and former.name != name:
        postgres.begin_to_drop(away)


def copied(server: cursor, source: Database, metadata: Metadata) -> str:
    """`databases.create` from a database that may have sessions, which are ended."""
    for _ in range(databases.ATTEMPTS):
        postgres.end_sessions(server, source.name)
        try:
            return databases.create(server, metadata.scenario, source, metadata)
        except errors.ObjectInUse:  # a client connected again between the two statements
            pass
    raise databases.in_use(source.name)


def promoted(server: cursor, name: str, new_name: str, metadata: Metadata) -> None:
    """`databases.promote`; an error leaves nothing."""
    try:
        databases.promote(server, name, new_name, metadata)
    except BaseException:
        loading.clean_up(server, metadata.scenario)
        raise


def rows_of(name: str) -> int:
    with django_on(name):
        return domain.count()


@contextmanager
def readable(of_scenario: Held, state: str) -> Iterator[str]:
    """
    The name of the database of a state (NOW, LOADED or a checkpoint), which can be connected to within the
    block. A checkpoint is closed again afterwards; where the command is killed, by the next one (`tidy`).
    """
    server = of_scenario.server
    if state == NOW:
        yield of_scenario.loaded().name
        return
    database = freshly_loaded(of_scenario) if state == LOADED else of_scenario.checkpoint(state)
    postgres.allow_connections(server, database.name, True)
    try:
        yield database.name
    finally:
        postgres.allow_connections(server, database.name, False)
        postgres.end_sessions(server, database.name)


def freshly_loaded(of_scenario: Held) -> Database:
    """The scenario's template."""
    for one in databases.databases(of_scenario.server):
        if one.metadata.kind == TEMPLATE and one.metadata.scenario == of_scenario.scenario:
            return one
    raise ScenarioError(
        f"The template of {of_scenario.alias} is gone. "
        f"Next: ./manage.py scenario list --on {of_scenario.alias}"
    )
