"""`drop_scenario`: give the disk back."""

import re
from datetime import timedelta
from typing import Any

from django.core.management import CommandParser
from django.template.defaultfilters import filesizeformat

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, catalogue, databases, loading
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.databases import LIVE, Database

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """`2d` as a time span; ValueError, which argparse reports, for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if not match:
        raise ValueError(text)
    return timedelta(**{UNITS[match[2]]: int(match[1])})


class Command(ScenarioCommand):
    help = (
        "Drops the databases of scenarios and the templates that they are cloned from; connections to them "
        "are ended. Databases that load_scenario did not make, and the files in scenarios/, stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios to drop")
        parser.add_argument("--all", action="store_true", help="all of them, and every template")
        parser.add_argument(
            "--older-than", type=age, metavar="AGE", help="those made longer ago, such as 2d (s, m, h, d, w)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be dropped")

    def handle(self, *args: Any, **options: Any) -> None:
        self.allowed()
        names, everything, limit = options["names"], options["all"], options["older_than"]
        if bool(names) + everything + (limit is not None) != 1:
            raise ScenarioError(
                "Say which: NAME…, --all or --older-than 2d. Next: ./manage.py list_scenarios"
            )
        with postgres.session() as server:
            present = databases.databases(server)
        for name in names:
            if not any(concerns(database, name) for database in present):
                raise ScenarioError(
                    f"No scenario {name} is loaded, nothing was dropped. Next: ./manage.py list_scenarios"
                )
        chosen = [
            database
            for database in present
            if everything
            or any(concerns(database, name) for name in names)
            or (limit is not None and database.mark.age > limit)
        ]
        for database in chosen:
            size = filesizeformat(database.size)
            if options["dry_run"]:
                self.stdout.write(f"Would drop {database.name}, {size}.")
                continue
            with loading.lock(database.mark.scenario, self.say) as server:
                if databases.drop(server, database.name):
                    self.stdout.write(f"Dropped {database.name}, {size}.")
        if not chosen:
            self.stdout.write("There is nothing to drop.")


def concerns(database: Database, name: str) -> bool:
    """Whether the database goes with that name; one loaded with --as goes by the name that it got."""
    if database.mark.kind == LIVE:
        return database.name == databases.live_name(name)
    return database.mark.scenario == name and bool(catalogue.NAME.fullmatch(name))
