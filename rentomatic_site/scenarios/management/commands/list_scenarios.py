"""`list_scenarios`: the scenarios, and the state of their databases."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
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
        found = [line(name, loaded.get(name), known) for name in sorted(known | loaded)]
        if options["json"]:
            self.stdout.write(json.dumps([one.figures for one in found], indent=2))
            return
        self.table(HEADER, [one.cells for one in found], right=["rows", "size"])
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


@dataclass(frozen=True)
class Line:
    """One scenario, or one database of a scenario."""

    scenario: str
    state: str
    """not loaded, loaded, stale or incomplete."""
    rows: int | None
    """The present number; None where it cannot be read."""
    bytes: int
    age: timedelta
    """Since the load."""
    description: str

    @property
    def figures(self) -> dict[str, Any]:
        """What `--json` prints; the age in seconds."""
        return asdict(self) | {"age": self.age.total_seconds()}

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        if self.state == "not loaded":
            return self.scenario, self.state, "", "", "", self.description
        rows = "?" if self.rows is None else f"{self.rows:,}"
        size, old = filesizeformat(self.bytes), age(self.age)
        return self.scenario, self.state, rows, size, old, self.description


def line(name: str, database: Database | None, known: dict[str, Scenario]) -> Line:
    """What there is to say of a scenario or of a database."""
    scenario = known.get(database.metadata.scenario if database else name)
    description = scenario.description if scenario else "(its file is gone)"
    if database is None:
        return Line(name, "not loaded", None, 0, timedelta(0), description)
    metadata = database.metadata
    state = "loaded"
    if not metadata.complete:
        state, description = "incomplete", f"failed: {metadata.error}"
    elif scenario is None or metadata.fingerprint != scenario.fingerprint(metadata.seed):
        state = "stale"
    return Line(name, state, rows_now(database), database.size, metadata.age, description)


def rows_now(database: Database) -> int | None:
    """The present number of rows; the metadata has the number at the load."""
    with suppress(DatabaseError), isolation.django_on(database.name):
        return domain.count()
    return None
