"""`drop_scenario`: drop databases and templates of scenarios."""

import re
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from django.core.management import CommandParser
from django.template.defaultfilters import filesizeformat

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, clones, databases, discovery, locks, names
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.databases import CHECKPOINT, TARGET, TEST, Database

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """Parse a time span such as `2d`. ValueError, which argparse reports, for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if not match:
        raise ValueError(text)
    return timedelta(**{UNITS[match[2]]: int(match[1])})


class Command(ScenarioCommand):
    help = (
        "Drops the databases of scenarios, their checkpoints and the templates that they are cloned from; "
        "connections to them are ended. Databases that load_scenario did not make, those of running tests, "
        "and the files in scenarios/, stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios to drop")
        parser.add_argument("--all", action="store_true", help="all of them, and every template")
        parser.add_argument(
            "--older-than", type=age, metavar="AGE", help="those made longer ago, such as 2d (s, m, h, d, w)"
        )
        parser.add_argument(
            "--unmarked",
            action="store_true",
            help="what killed loads of earlier versions left without metadata; a usual run only lists it",
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be dropped")

    def handle(self, *args: Any, **options: Any) -> None:
        self.require_permission()
        given, everything, limit = options["names"], options["all"], options["older_than"]
        if bool(given) + everything + (limit is not None) + options["unmarked"] != 1:
            raise ScenarioError(
                "Say which: NAME…, --all, --older-than 2d or --unmarked. Next: ./manage.py list_scenarios"
            )
        if options["unmarked"]:
            self.drop_unmarked(options["dry_run"])
            return
        with postgres.session() as server:
            present = databases.databases(server)
            others = databases.others(server)
            unmarked = databases.without_metadata(server)
        for name in given:
            if any(belongs_to(database, name) for database in present):
                continue
            for other in others:
                if belongs_to(other, name):
                    raise ScenarioError(
                        f"{other.name} {owner(other)}; nothing was dropped. Next: ./manage.py list_scenarios"
                    )
            raise ScenarioError(
                f"No scenario {name} is loaded, nothing was dropped. Next: ./manage.py list_scenarios"
            )
        with postgres.session() as server:
            running = {
                database.name
                for database in present
                if database.metadata.kind == TEST and clones.is_alive(server, database.name)
            }
        chosen = [
            database
            for database in present
            if database.name not in running
            and (
                everything
                or any(belongs_to(database, name) for name in given)
                or (limit is not None and database.metadata.age > limit)
            )
        ]
        for database in chosen:
            size = filesizeformat(database.size)
            if options["dry_run"]:
                self.stdout.write(f"Would drop {described(database)}, {size}.")
            elif self.drop(database):
                self.stdout.write(f"Dropped {described(database)}, {size}.")
        if not chosen:
            self.stdout.write("There is nothing to drop.")
        if others and not given:
            self.stdout.write("Left alone, since they are others':")
            for other in others:
                self.stdout.write(f"  {other.name} {owner(other)}")
        if unmarked:
            self.stdout.write("Killed loads of earlier versions seem to have left, without metadata:")
            for name, bytes_ in unmarked:
                self.stdout.write(f"  {name}, {filesizeformat(bytes_)}")
            self.stdout.write("Next, if that is so: ./manage.py drop_scenario --unmarked")

    def drop(self, database: Database) -> bool:
        """Wait for a load of it, then drop it; False where it does not exist any more."""
        with ExitStack() as held:
            if database.metadata.kind == TARGET:
                held.enter_context(locks.lock_target(database.name, self.say))
            if database.metadata.kind == CHECKPOINT:
                held.enter_context(locks.lock_target(database.metadata.target, self.say))
            server = held.enter_context(locks.lock_templates(database.metadata.scenario, self.say))
            return databases.drop(server, database.name)

    def drop_unmarked(self, dry_run: bool) -> None:
        with postgres.session() as server:
            found = databases.without_metadata(server)
            for name, size in found:
                if not dry_run:
                    postgres.drop_database(server, name)
                self.stdout.write(f"{'Would drop' if dry_run else 'Dropped'} {name}, {filesizeformat(size)}.")
        if not found:
            self.stdout.write("There is nothing to drop.")


def described(database: Database) -> str:
    """The database for a message, a checkpoint by its name."""
    metadata = database.metadata
    if metadata.kind == CHECKPOINT:
        return f"checkpoint {metadata.checkpoint} of {names.alias_of(metadata.target)}"
    return database.name


def owner(database: Database) -> str:
    """The owner and the checkout of another developer's database, for a message."""
    metadata = database.metadata
    return f"belongs to {metadata.owner or 'another role'}, {metadata.checkout or 'who made it'}"


def belongs_to(database: Database, name: str) -> bool:
    """Whether `drop_scenario NAME` drops the database; one loaded with --as is dropped under that alias."""
    if database.metadata.kind == TARGET:
        target = names.target_name(name)
        if database.name == names.failed_name(target):
            return (
                not database.metadata.complete
                and names.target_name(database.metadata.scenario) != database.name
            )
        return database.name in {target, names.substitute_name(target)}
    if database.metadata.kind == CHECKPOINT:
        target = names.target_name(name)
        return database.metadata.target in {target, names.substitute_name(target)}
    return database.metadata.scenario == name and bool(discovery.NAME.fullmatch(name))
