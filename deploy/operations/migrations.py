"""The migrations between a version and the database, and how they are taken back."""

import json
from dataclasses import dataclass, field
from typing import Any

from deploy.operations.docker import Docker
from deploy.operations.process import Done
from deploy.operations.report import Failure, Report

# Runs in a container of the version: what is applied, what is not, what the version does not have, and the
# SQL of each migration that is not applied, both ways, or the name and the words of the exception.
INSPECT = """
import io, json
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
executor = MigrationExecutor(connection)
loader = executor.loader
whole = [m for m, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True)]
def name(key): return ".".join(key)
def sql(key, backwards):
    out = io.StringIO()
    try:
        call_command("sqlmigrate", *key, backwards=backwards, stdout=out, no_color=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return out.getvalue()
keys = [(m.app_label, m.name) for m in whole]
pending = [key for key in keys if key not in loader.applied_migrations]
replaced = {key for m in loader.disk_migrations.values() for key in m.replaces}
known = set(loader.disk_migrations) | replaced
labels = {app for app, _ in keys}
wanted = [tuple(text.split(".", 1)) for text in WANTED] or pending
print(json.dumps({
    "applied": [name(key) for key in keys if key in loader.applied_migrations],
    "pending": [name(key) for key in pending],
    "known": sorted(name(key) for key in known),
    "unknown": sorted(name(key) for key in set(loader.applied_migrations) - known if key[0] in labels),
    "forwards": {name(key): sql(key, False) for key in wanted},
    "backwards": {name(key): sql(key, True) for key in wanted},
}))
"""


@dataclass(frozen=True)
class Plan:
    """The migrations of a version as `app.name`, in the order in which they are applied."""

    applied: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """What is applied and not in this version: the schema is newer."""
    known: list[str] = field(default_factory=list)
    """What this version has, and what its squashed ones stand for."""
    forwards: dict[str, str] = field(default_factory=dict)
    backwards: dict[str, str] = field(default_factory=dict)
    """The SQL of the pending ones, or of those that were asked for."""

    @property
    def back(self) -> dict[str, str]:
        """For each app that has pending migrations, the last one that is applied, or `zero`."""
        return targets(self.applied, self.pending)


def targets(stay: list[str], go: list[str]) -> dict[str, str]:
    """For each app of the migrations that are to go, the last of those that stay, or `zero`."""
    last = dict(name.split(".", 1) for name in stay)
    return {app: last.get(app, "zero") for app in dict.fromkeys(name.split(".", 1)[0] for name in go)}


class Migrations:
    """What `migrate` does, in the version of an image."""

    def __init__(self, docker: Docker, image: str) -> None:
        self.docker = docker
        self.image = image

    def manage(self, *arguments: str) -> Done:
        return self.docker.task("migrate", "./manage.py", *arguments, variables={"IMAGE": self.image})

    def plan(self, *wanted: str) -> Plan:
        """What this version would do to the database, with the SQL of these migrations, or of the pending."""
        done = self.manage("shell", "--command", INSPECT.replace("WANTED", repr(list(wanted))))
        if not done:
            raise Failure(f"the migrations cannot be read: {done.text[-2000:]}")
        read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return Plan(**read)

    def apply(self) -> Done:
        """Wait for the database, make role and database, migrate: the service as it is."""
        return self.docker.task("migrate", variables={"IMAGE": self.image})

    def take_back(self, back: dict[str, str], report: Report) -> bool:
        """Migrate each app back to a migration; what cannot be taken back is said."""
        well = True
        for app, name in back.items():
            done = self.manage("migrate", app, name)
            report.show(done.text)
            if not done:
                well = False
                report.warn(
                    f"{app} could not be taken back to {name}; /readyz says so until a newer version serves"
                )
        return well
