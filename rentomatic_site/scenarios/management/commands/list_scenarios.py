"""`list_scenarios`: the scenarios, and the state of their databases."""

import json
from contextlib import suppress
from typing import Any

from django.core.management import CommandParser
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases, discovery, domain, isolation, names, sources
from rentomatic_site.scenarios.command import ScenarioCommand, age
from rentomatic_site.scenarios.databases import CHECKPOINT, TARGET, TEST, Database
from rentomatic_site.scenarios.discovery import Scenario

HEADER = ("scenario", "state", "rows", "size", "age", "description")


class Command(ScenarioCommand):
    help = (
        "Lists the scenarios: what they are, whether they are loaded and still what their files say, their "
        "size, rows and age. Changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the table as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        known = {scenario.name: scenario for scenario in discovery.scenarios()}
        with postgres.session() as server:
            present = databases.databases(server)
            others = databases.others(server)
        loaded = {
            names.alias_of(database.name): database
            for database in present
            if database.metadata.kind == TARGET
        }
        checkpoints = [database for database in present if database.metadata.kind == CHECKPOINT]
        templates = [
            database for database in present if database.metadata.kind not in {TARGET, CHECKPOINT, TEST}
        ]
        rows: list[tuple[str, ...]] = []
        for name in sorted(known | loaded):
            database = loaded.get(name)
            scenario = known.get(database.metadata.scenario if database else name)
            description = scenario.description if scenario else "(its file is gone)"
            if database and not database.metadata.complete:
                description = f"failed: {database.metadata.error}"
            if database:
                rows.append((name, *statistics(database, scenario), description))
            else:
                rows.append((name, "not loaded", "", "", "", description))
        if options["json"]:
            self.stdout.write(json.dumps([dict(zip(HEADER, row, strict=True)) for row in rows], indent=2))
            return
        self.table(HEADER, rows, right=["rows", "size"])
        if not known:
            self.stdout.write(f"{sources.folder()} holds no scenario. Next: write one, see docs/scenarios.md")
        kept = filesizeformat(sum(template.size for template in templates))
        self.stdout.write(
            f"Templates, which make loading quick: {len(templates)}, {kept}; drop_scenario drops them too."
        )
        if checkpoints:
            saved = filesizeformat(sum(checkpoint.size for checkpoint in checkpoints))
            self.stdout.write(
                f"Checkpoints: {len(checkpoints)}, {saved}. Next: ./manage.py scenario list --on NAME"
            )
        if owners := sorted({database.metadata.owner for database in others if database.metadata.owner}):
            self.stdout.write(f"Others have scenarios on this server, too: {', '.join(owners)}.")
        self.stdout.write("Next: ./manage.py load_scenario NAME")


def statistics(database: Database, scenario: Scenario | None) -> tuple[str, str, str, str]:
    """State, rows, size and age of a loaded scenario."""
    metadata = database.metadata
    if not metadata.complete:
        state = "incomplete"
    elif scenario is None or metadata.fingerprint != scenario.fingerprint(metadata.seed):
        state = "stale"
    else:
        state = "loaded"
    return state, rows_now(database), filesizeformat(database.size), age(metadata.age)


def rows_now(database: Database) -> str:
    """The present number of rows, or "?"; the metadata has the number at the load."""
    with suppress(DatabaseError), isolation.django_on(database.name):
        return f"{domain.count():,}"
    return "?"
