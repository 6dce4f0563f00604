"""`load_scenario`: create a throw-away database with the data of a file in scenarios/."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from django.core.management import CommandError, CommandParser, call_command
from django.core.management.base import OutputWrapper
from django.template.defaultfilters import filesizeformat

from rentomatic_site.scenarios import (
    ScenarioError,
    databases,
    discovery,
    domain,
    expectations,
    isolation,
    launch,
    loading,
    names,
    running,
    twice,
)
from rentomatic_site.scenarios.command import ScenarioCommand, age


class Command(ScenarioCommand):
    help = (
        "Makes the database scenario_NAME: migrated, filled by run() of scenarios/NAME.py, analysed; and "
        "tries what the file expects of it. Done again it keeps the database as it is. Without NAME it "
        "lists the scenarios. The application's own database is never touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="a file of scenarios/, without .py")
        parser.add_argument(
            "--reset", action="store_true", help="bring back the freshly loaded state, of the same seed"
        )
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="run the scenario anew although its files are unchanged (it reads the clock, or others)",
        )
        parser.add_argument(
            "--seed",
            type=int,
            help="what all chance follows from (default: that of the loaded database, else 1)",
        )
        parser.add_argument(
            "--as", dest="alias", metavar="NAME", help="call the database scenario_NAME instead: a second one"
        )
        parser.add_argument(
            "--record-plans",
            action="store_true",
            help="write the present plans of EXPECT_PLAN into scenarios/NAME.plans.json; a later plan that "
            "is not as expected is shown beside them",
        )
        parser.add_argument(
            "--twice",
            action="store_true",
            help="only run the scenario twice with one seed, into databases that go, and show what differs; "
            "exit status 1 where something does",
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        then = parser.add_mutually_exclusive_group()
        then.add_argument(
            "--serve",
            nargs="?",
            type=int,
            const=launch.DEFAULT_PORT,
            metavar="PORT",
            help=f"then serve the application on it (default port: {launch.DEFAULT_PORT}; 0: any free port)",
        )
        then.add_argument(
            "--check",
            action="store_true",
            help="then only say whether what the file expects is so, also by the exit status",
        )
        then.add_argument("--shell", action="store_true", help="then open psql on it")
        then.add_argument(
            "--run",
            nargs=argparse.REMAINDER,
            metavar="COMMAND",
            help="then run this command of manage.py on it; stands last",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] is None:
            call_command("list_scenarios", stdout=self.stdout)
            return
        self.require_permission()
        self.result = self.stdout
        if options["json"]:
            self.stdout = OutputWrapper(StringIO())
        scenario = discovery.find(options["name"])
        if options["twice"]:
            self.compare_runs(scenario, options["seed"])
            return
        alias = options["alias"] or scenario.name
        if not discovery.NAME.fullmatch(alias):
            raise ScenarioError(f"--as {alias!r} cannot be a name: small letters, digits and underscores.")
        if options["run"] == []:
            raise ScenarioError("--run needs a command. Example: --run rooms price__lt=66")
        # A port that is in use is an error before anything is loaded.
        listener = launch.listen(options["serve"]) if options["serve"] is not None else None

        # What run() prints is no JSON.
        with redirect_stdout(sys.stderr if options["json"] else sys.stdout):
            loaded = self.load(scenario, alias, options)
        name = names.alias_of(loaded.database.name)
        if name != alias:
            self.stdout.write(f"scenario_{alias} is another developer's, so yours is called {name}.")
        alias = name
        failed = self.check_expectations(scenario, loaded, options)
        if options["reset"] and loaded.template:  # who resets once does it again
            databases.begin_spare(loaded.template)
        if listener:
            host, port = listener.getsockname()
            for label, path in domain.pages().items():
                self.stdout.write(f"{label}: http://{host}:{port}{path}")
            self.stdout.write("Ctrl-C ends the server; the database stays.")
            launch.serve(alias, listener)
        if options["shell"]:
            launch.shell(alias)
        load = scenario.name if alias == scenario.name else f"{scenario.name} --as {alias}"
        if failed or not (options["run"] or options["check"]):
            self.open_lines(alias, f"./manage.py load_scenario {load} --serve")
        if failed:
            message = (
                f"{failed} of what scenario {scenario.name} expects is not so, see above. Its database stays."
            )
            if loaded.how == "kept":  # a change by hand may be the cause
                message += f" Next: ./manage.py load_scenario {load} --reset brings back its first state."
            raise CommandError(message)
        if options["run"]:
            launch.command(alias, *options["run"])

    def load(self, scenario: discovery.Scenario, alias: str, options: dict[str, Any]) -> loading.Loaded:
        """Load, and print the result and the output of `run()`."""
        try:
            loaded = loading.load(
                scenario,
                target=names.target_name(alias),
                seed=options["seed"],
                reset=options["reset"],
                rebuild=options["rebuild"],
                say=self.say,
            )
        except loading.Failed as failure:
            failed = names.alias_of(failure.database)
            self.stderr.write(str(failure))
            self.open_lines(failed, f"SCENARIO={failed} ./manage.py runserver")
            message = (
                f"Scenario {scenario.name} failed, see above. Its database stays, with "
                f"{domain.label(failure.rooms)}, marked incomplete; the next load replaces it."
            )
            if failure.good:
                message += f" {names.alias_of(failure.good)}, which was good, is as it was."
            raise CommandError(message) from None
        metadata = loaded.database.metadata
        if loaded.how != "filled":
            with isolation.django_on(loaded.database.name):
                self.stdout.write(running.stored_output(), ending="")
        how = {
            "filled": f"filled in {loaded.seconds:.2f} s",
            "cloned": f"loaded from its template in {loaded.seconds:.2f} s",
            "kept": f"kept as it is, made {age(metadata.age)} ago",
        }[loaded.how]
        size = filesizeformat(loaded.database.size)
        self.stdout.write(
            f"Scenario {scenario.name}: {how}; {domain.label(metadata.rooms)}, {size}, seed {metadata.seed}."
        )
        if loaded.stale:
            next_step = f"Next: ./manage.py load_scenario {scenario.name} --reset"
            if options["seed"] is not None:
                next_step += f" --seed {options['seed']}"
            self.stdout.write(self.style.WARNING(f"It is stale: {loaded.stale}. {next_step}"))
        return loaded

    def check_expectations(
        self, scenario: discovery.Scenario, loaded: loading.Loaded, options: dict[str, Any]
    ) -> int:
        """Print each expectation as passed (✓) or failed (✗); return the number of failed ones."""
        checked: list[tuple[str, str]] = []
        with isolation.django_on(loaded.database.name):
            module = scenario.module(loaded.database.metadata.seed)
            if options["record_plans"] and (path := domain.record_plans(module)):
                self.say(f"Wrote {path}.")
            expected = expectations.expectations(module)
            client = expectations.client() if expected else None
            for expectation in expected:
                problem = expectation.problem(client)  # type: ignore[arg-type]  # there is one
                checked.append((expectation.label, problem))
                if problem:
                    self.stdout.write(self.style.ERROR(f"  ✗ {expectation.label}: {problem}"))
                else:
                    self.stdout.write(self.style.SUCCESS(f"  ✓ {expectation.label}"))
        if options["json"]:
            self.result.write(json.dumps(result(loaded, checked), indent=2))
        return sum(bool(problem) for _, problem in checked)

    def compare_runs(self, scenario: discovery.Scenario, seed: int | None) -> None:
        """Print what two runs of the scenario make different; CommandError where there is something."""
        found = twice.differences(scenario, domain.DEFAULT_SEED if seed is None else seed, self.say)
        for line in found:
            self.stdout.write(line)
        if found:
            raise CommandError(
                f"Two runs of {scenario.name} with one seed differ, see above. Next: take its chance from "
                "the words for filling or from Python's random, and state codes in processes that it starts"
            )
        self.stdout.write(f"Two runs of {scenario.name} with one seed are the same.")

    def open_lines(self, alias: str, app: str) -> None:
        """Print the command lines that open the database."""
        self.stdout.write(f"  SQL shell  SCENARIO={alias} ./manage.py dbshell")
        for label, arguments in domain.opened().items():
            self.stdout.write(f"  {label:<9}  SCENARIO={alias} ./manage.py {arguments}")
        self.stdout.write(f"  the app    {app}")


def result(loaded: loading.Loaded, checked: list[tuple[str, str]]) -> dict[str, Any]:
    """What `--json` prints."""
    metadata = loaded.database.metadata
    return {
        "scenario": metadata.scenario,
        "database": loaded.database.name,
        "how": loaded.how,
        "seconds": round(loaded.seconds, 3),
        "rows": metadata.rooms,
        "bytes": loaded.database.size,
        "seed": metadata.seed,
        "stale": loaded.stale,
        "expected": [{"label": label, "problem": problem} for label, problem in checked],
    }
