"""`adopt_scenario`: make a scenario's database from a dump, as pytest does with that of a failed test."""

import subprocess
from typing import Any

from django.core.management import CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from rentomatic_site.scenarios import ScenarioError, databases, discovery, locks, names
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.databases import TARGET, Metadata


class Command(ScenarioCommand):
    help = (
        "Makes the database scenario_OTHER from a dump of pg_dump, in SQL, on standard input; one of that "
        "name is replaced. pytest keeps the database of a failed test so. The scenario's file is not run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the scenario that it is a database of")
        parser.add_argument("--as", dest="alias", metavar="OTHER", required=True, help="its name")

    def handle(self, *args: Any, **options: Any) -> None:
        self.require_permission()
        if not discovery.NAME.fullmatch(options["name"]) or not names.ALIAS.fullmatch(options["alias"]):
            raise ScenarioError("A name has small letters, digits and underscores.")
        target = names.target_name(options["alias"])
        metadata = Metadata(TARGET, options["name"], error="kept by a test that failed")
        with locks.lock_target(target, self.say), locks.lock_templates(options["name"], self.say) as server:
            name = databases.create(server, options["name"], None, metadata)
            try:
                restore(name)
                databases.promote(server, name, target, metadata)
            except BaseException:
                databases.drop(server, name)
                raise
        self.stdout.write(f"SCENARIO={options['alias']} ./manage.py dbshell")


def restore(name: str) -> None:
    """Let psql read the dump from standard input."""
    connection = connections[DEFAULT_DB_ALIAS]
    arguments, environment = connection.client_class.settings_to_cmd_args_env(
        {**connection.settings_dict, "NAME": name},
        [
            "--quiet",
            "--no-psqlrc",
            "--single-transaction",
            "--set",
            "ON_ERROR_STOP=1",
            "--output",
            "/dev/null",
        ],
    )
    done = subprocess.run(arguments, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ScenarioError(f"The dump cannot be restored: {done.stderr.strip()}")
