"""`scenario`: save states of a loaded scenario, go back to one, undo that, and compare two."""

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from django.core.management import CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from rentomatic_site.scenarios import ScenarioError, checkpoints, comparison, databases, domain
from rentomatic_site.scenarios.checkpoints import LOADED, MOST, NOW, UNDONE, Held
from rentomatic_site.scenarios.command import ScenarioCommand, age
from rentomatic_site.scenarios.comparison import ADDED, CHANGED, GONE, Row, TableDifference

HEADER = ("checkpoint", "rows", "size", "age", "")
SIGNS = {ADDED: "+", GONE: "-", CHANGED: "~"}


class Command(ScenarioCommand):
    help = (
        "Keeps states of a loaded scenario's database: save takes one, back puts one in the place of the "
        "present state, undo takes that back, list shows them, diff compares two, drop gives their disk "
        "back. "
        "Each is a database of its own. The scenario's file and the application's database never change. "
        "Without --on it is about the scenario of SCENARIO, or the only one that is loaded."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)

        def action(name: str, text: str) -> CommandParser:
            added: CommandParser = actions.add_parser(name, help=text, description=text)
            added.add_argument("--on", metavar="SCENARIO", help="the loaded scenario (default: SCENARIO)")
            return added

        save = action("save", "saves the present state; ends sessions in the database, changes nothing else")
        save.add_argument("name", metavar="CHECKPOINT")
        save.add_argument("--replace", action="store_true", help="in place of one of that name")
        back = action("back", f"goes back to a checkpoint; the present state becomes {UNDONE}")
        back.add_argument("name", metavar="CHECKPOINT", nargs="?", help="default: the one saved last")
        action("undo", "exchanges the state with that before the last back; done again it goes forward again")
        listed = action("list", "lists the checkpoints, with their disk; changes nothing")
        listed.add_argument("--json", action="store_true", help="for programs")
        drop = action("drop", "drops checkpoints; the present state stays")
        drop.add_argument("names", metavar="CHECKPOINT", nargs="+")
        diff = action("diff", "shows the rows that were added, are gone or changed; changes nothing")
        diff.add_argument("a", metavar="A", help=f"a checkpoint, {NOW} or {LOADED} (the first state)")
        diff.add_argument("b", metavar="B", nargs="?", default=NOW, help=f"the same (default: {NOW})")
        diff.add_argument(
            "--url", metavar="PATH", help='also the pages of it that differ, such as "/rooms?order=price"'
        )
        diff.add_argument(
            "--limit",
            type=int,
            default=comparison.SHOWN,
            help=f"rows to show of each table and kind (default: {comparison.SHOWN})",
        )
        diff.add_argument("--exit-code", action="store_true", help="exit status 1 where they differ")
        diff.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, action: str | None, **options: Any) -> None:
        if action is None:
            raise ScenarioError(
                "Say what to do: save, back, undo, list, diff or drop. Next: ./manage.py scenario --help"
            )
        self.require_permission()
        alias = checkpoints.chosen(options["on"])
        if action == "save":
            checkpoints.checked(options["name"])
        with checkpoints.held(alias, self.tell) as scenario:
            getattr(self, action)(scenario, options)

    def tell(self, line: str) -> None:
        """Progress, on the standard error output: the other one may be JSON."""
        self.stderr.write(line, self.style.NOTICE)
        self.stderr.flush()

    def save(self, scenario: Held, options: dict[str, Any]) -> None:
        name = options["name"]
        saved = checkpoints.save(scenario, name, replacing=options["replace"], say=self.tell)
        size = filesizeformat(saved.size)
        self.stdout.write(f"Saved {scenario.alias} as {name}: {domain.label(saved.metadata.rooms)}, {size}.")
        self.stdout.write(f"  back to it  ./manage.py scenario back {name} --on {scenario.alias}")
        self.stdout.write(f"  changes     ./manage.py scenario diff {name} --on {scenario.alias}")

    def back(self, scenario: Held, options: dict[str, Any]) -> None:
        name = options["name"]
        if not name:
            saved = [one for one in scenario.checkpoints if one.metadata.checkpoint != UNDONE]
            if not saved:
                raise ScenarioError(
                    f"{scenario.alias} has no checkpoint. Next: ./manage.py scenario save NAME, or "
                    f"./manage.py load_scenario {scenario.scenario} --reset for its first state"
                )
            name = saved[-1].metadata.checkpoint
        if name == UNDONE:
            self.undo(scenario, options)
            return
        database = checkpoints.back(scenario, name, self.tell)
        self.stdout.write(f"{scenario.alias} is at {name} again: {domain.label(database.metadata.rooms)}.")
        if scenario.target:
            self.stdout.write(f"  undo  ./manage.py scenario undo --on {scenario.alias}")

    def undo(self, scenario: Held, options: dict[str, Any]) -> None:
        database = checkpoints.undo(scenario)
        self.stdout.write(
            f"{scenario.alias} is as it was before back: {domain.label(database.metadata.rooms)}. "
            "Once more goes forward again."
        )

    def list(self, scenario: Held, options: dict[str, Any]) -> None:
        found = scenario.checkpoints
        if options["json"]:
            rows = [
                {
                    "checkpoint": one.metadata.checkpoint,
                    "rows": one.metadata.rooms,
                    "bytes": one.size,
                    "saved": one.metadata.created,
                }
                for one in found
            ]
            self.print_json({"scenario": scenario.alias, "checkpoints": rows})
            return
        if not found:
            self.stdout.write(f"{scenario.alias} has no checkpoint. Next: ./manage.py scenario save NAME")
            return
        self.table(
            HEADER,
            [
                (
                    one.metadata.checkpoint,
                    f"{one.metadata.rooms:,}",
                    filesizeformat(one.size),
                    age(one.metadata.age),
                    "what undo brings back" if one.metadata.checkpoint == UNDONE else "",
                )
                for one in found
            ],
            right=["rows", "size"],
        )
        size = filesizeformat(sum(one.size for one in found))
        saved = sum(one.metadata.checkpoint != UNDONE for one in found)
        self.stdout.write(f"{scenario.alias}: {saved} of at most {MOST} checkpoints, {size} of disk.")

    def drop(self, scenario: Held, options: dict[str, Any]) -> None:
        for one in [scenario.checkpoint(name) for name in options["names"]]:
            databases.drop(scenario.server, one.name)
            self.stdout.write(f"Dropped checkpoint {one.metadata.checkpoint}, {filesizeformat(one.size)}.")

    def diff(self, scenario: Held, options: dict[str, Any]) -> None:
        a, b = options["a"], options["b"]
        with ExitStack() as opened:
            before = opened.enter_context(checkpoints.readable(scenario, a))
            after = before if a == b else opened.enter_context(checkpoints.readable(scenario, b))
            tables = list(comparison.differences(before, after, shown=options["limit"], say=self.tell))
            url = options["url"]
            pages = comparison.page_differences(before, after, url, self.tell) if url else []
        if options["json"]:
            self.print_json(
                {
                    "a": a,
                    "b": b,
                    "tables": [as_json(table) for table in tables],
                    "pages": [asdict(page) for page in pages],
                }
            )
        else:
            for table in tables:
                self.show(table)
            for page in pages:
                self.stdout.write(f"Page {page.number}, {page.url}")
                for line in page.lines[: options["limit"]]:
                    self.stdout.write(f"  {line}")
                if len(page.lines) > options["limit"]:
                    self.stdout.write(f"  … {len(page.lines) - options['limit']} lines more")
            if url and not pages:
                self.stdout.write(f"{url}: the pages are the same.")
            if not tables:
                self.stdout.write(f"{a} and {b} of {scenario.alias} have the same rows.")
        if options["exit_code"] and (tables or pages):
            sys.stdout.flush()
            raise CommandError(f"{a} and {b} differ.", returncode=1)

    def show(self, table: TableDifference) -> None:
        """One table: how many rows, then the first of them."""
        counts = ", ".join(f"{number:,} {kind}" for kind, number in table.counts.items() if number)
        self.stdout.write(f"{table.name}: {counts or 'the same rows'}")
        if table.columns_added:
            self.stdout.write(f"  columns added: {', '.join(table.columns_added)}")
        if table.columns_gone:
            self.stdout.write(f"  columns gone: {', '.join(table.columns_gone)}")
        shown = dict.fromkeys(table.counts, 0)
        for kind, before, after in table.rows:
            shown[kind] += 1
            self.stdout.write(f"  {SIGNS[kind]} {described(before, after)}")
            more = table.counts[kind] - shown[kind]
            if more and shown[kind] == sum(row[0] == kind for row in table.rows):
                self.stdout.write(f"  {SIGNS[kind]} … {more:,} more")

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, ensure_ascii=False, indent=2))


def described(before: Row, after: Row) -> str:
    """A row in words: of a changed one its identity and the columns that changed."""
    if not (before and after):
        return " ".join(f"{name}={text(value)}" for name, value in (before or after).items())
    changes = [
        f"{name} {text(value)} → {text(after[name])}"
        for name, value in before.items()
        if after[name] != value
    ]
    identity = [f"{name}={before[name]}" for name in ("id", "code", "username") if name in before]
    return f"{' '.join(identity)}: {'; '.join(changes)}".removeprefix(": ")


def text(value: Any) -> str:
    """A value, shortened."""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def as_json(table: TableDifference) -> dict[str, Any]:
    rows = [
        {"kind": kind, "before": before or None, "after": after or None} for kind, before, after in table.rows
    ]
    return {
        "table": table.name,
        **table.counts,
        "columns_added": table.columns_added,
        "columns_gone": table.columns_gone,
        "rows": rows,
    }
