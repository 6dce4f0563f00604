"""`shrink_scenario`: the fewest rooms with which a scenario's expectation fails, written as a scenario."""

import json
import time
from pathlib import Path
from typing import Any

from django.core.management import CommandError, CommandParser

from rentomatic_site.lab import failures, shrinking, shrunk_file
from rentomatic_site.lab.bench import Shrunk
from rentomatic_site.scenarios import ScenarioError, checkpoints, discovery, sources
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.isolation import django_on
from rooms.counting import Count

MOST_WRITTEN = 1000
"""Rooms of an interrupted search that are still worth a file."""


class Command(ScenarioCommand):
    help = (
        "Looks for the fewest rooms with which a loaded scenario fails what its file expects (EXPECT, check) "
        "in the same way as it does now, makes their values round, and writes them as "
        "scenarios/NAME_small.py. It works in copies, which are dropped; the scenario and its file stay as "
        "they are, only sessions in it may end for a copy. Ctrl-C writes the smallest set so far."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the loaded scenario")
        parser.add_argument(
            "--expect",
            metavar="TEXT",
            default="",
            help="the expectation, a part of its line (default: the first)",
        )
        parser.add_argument(
            "--as", dest="alias", metavar="NAME", help="of the new scenario (default: NAME_small)"
        )
        parser.add_argument("--output", metavar="FILE", help="write there instead; -: to standard output")
        parser.add_argument("--force", action="store_true", help="overwrite a file of that name")
        parser.add_argument(
            "--json", action="store_true", help="for programs; the file is written all the same"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.require_permission()
        started = time.monotonic()
        name = options["name"]
        alias = options["alias"] or f"{name}_small"[:40]
        if not discovery.NAME.fullmatch(alias):
            raise ScenarioError(f"--as {alias!r} cannot be a name: small letters, digits and underscores.")
        path = Path(options["output"] or sources.folder() / f"{alias}.py")
        if options["output"] != "-" and path.exists() and not options["force"]:
            raise ScenarioError(f"{path} exists. Next: --force overwrites it, --as NAME writes another one")
        with checkpoints.held(name, self.tell) as scenario:
            file = discovery.find(scenario.scenario)
            with django_on(scenario.loaded().name):
                module = file.module()
            expected = shrunk_file.expected(module)
            self.tell(f"Trying what {name} expects …")
            expectation, problem, codes = failures.failing(scenario, expected, options["expect"])
            self.tell(f"✗ {expectation.label}: {problem.splitlines()[-1]}")
            result = Shrunk(expectation.label, problem, 0)
            interrupted = False
            try:
                shrinking.shrink(scenario, expectation, codes, result, self.tell)
            except KeyboardInterrupt:
                interrupted = True
                if result.rooms is None or len(result.rooms) > MOST_WRITTEN:
                    raise CommandError(
                        "Interrupted before few rooms were found; nothing was written, and nothing is left."
                    ) from None
        source = shrunk_file.source(file.name, module, result)
        seconds = time.monotonic() - started
        self.write(path, source, options)
        assert result.rooms is not None
        if options["json"]:
            value = {
                "scenario": name,
                "expectation": result.expectation,
                "problem": problem,
                "before": result.before,
                "rooms": result.rooms,
                "tries": result.tries,
                "seconds": round(seconds, 2),
                "file": str(path),
                "interrupted": interrupted,
            }
            self.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str))
        elif options["output"] != "-":
            self.stdout.write(
                f"{Count(result.before)} → {Count(len(result.rooms))} in {seconds:.1f} s and {result.tries} "
                f"tries. Wrote {path}. Next: ./manage.py load_scenario {path.stem}"
            )
        if interrupted:
            raise CommandError(f"Interrupted; the smallest so far is written, {Count(len(result.rooms))}.")

    def write(self, path: Path, source: str, options: dict[str, Any]) -> None:
        if options["output"] == "-":
            if not options["json"]:
                self.stdout.write(source, ending="")
            return
        try:
            path.write_text(source)
        except OSError as error:
            raise ScenarioError(
                f"{path} cannot be written ({error.strerror}). Next: --output - writes to standard output."
            ) from None

    def tell(self, line: str) -> None:
        """Progress, on the standard error output: the other one may be JSON."""
        self.stderr.write(line, self.style.NOTICE)
        self.stderr.flush()
