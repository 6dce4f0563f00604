"""`rollback`: a kept version in the place of the one that serves."""

import argparse

from deploy.operations import hosts, process
from deploy.operations.classify import irreversible, unsafe
from deploy.operations.docker import Docker
from deploy.operations.migrations import Migrations, targets
from deploy.operations.project import Project
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report

HELP = """\
Go back to a version that is kept, without a failed request: to IMAGE, or to the one that served before.

New replicas of that version take the place of those that serve, each after a trial. The migrations that it
does not know are taken back when it serves, by the version that has them. It is refused, and nothing is
changed, where one of them cannot be taken back, or where that version does not work on the present schema.
What is lost with the columns and tables of a migration is named first, and needs --accept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", nargs="?", metavar="IMAGE", help="a version of `docker images`; default: the last"
    )
    parser.add_argument("--accept", action="store_true", help="lose what only the newer schema can hold")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    with project.lock("rollback", options.wait):
        docker = Docker(project)
        image = options.image or version_before(project)
        Rollback(docker, report, image, options).run()


def version_before(project: Project) -> str:
    """The version that served before the present one, by the journal."""
    for note in reversed(project.notes()):
        if note.get("image") == project.image and note.get("before"):
            return str(note["before"])
    raise Failure(
        "no version served before this one; nothing was changed",
        "docker images, then ./deploy/rentomatic rollback IMAGE",
    )


class Rollback:
    """One rollback."""

    def __init__(self, docker: Docker, report: Report, image: str, options: argparse.Namespace) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.image = image
        self.options = options
        self.replicas = Replicas(docker, report)

    def run(self) -> None:
        serving = self.project.image
        if self.image == serving:
            raise Failure(f"{self.image} is what serves; nothing was changed", "docker images")
        self.docker.expect_image(self.image, "./deploy/rentomatic rollback IMAGE")
        back = self.migrations_to_take_back(serving)
        self.report.data |= {"image": self.image, "taken_back": back}
        if self.options.dry_run:
            self.report.say(
                f"Would go back to {self.image} and take back: {', '.join(back) or 'no migration'}."
            )
            return
        self.replicas.remove_leftovers()
        old = self.replicas.serving()
        if not old:
            raise Failure("nothing is running; nothing was changed", "docker compose up -d --wait")
        self.report.step(f"Starting {len(old)} of {self.image} beside {len(old)} …")
        try:
            newer = bool(back) or self.project.is_web_host
            new = self.replicas.start_beside(old, len(old), self.image, newer_schema=newer)
        except BaseException as error:
            with process.held():
                self.replicas.remove(set(self.replicas.added(old)))
            if isinstance(error, Failure):
                raise Failure(
                    f"{error.reason}; what served goes on", "docker images, then another one"
                ) from None
            raise
        with process.held(forget=True):
            self.replicas.change_over(old, new, lambda: self.record(serving))
            if back:
                self.take_back(serving, back, new)
            self.report.say(f"Done: {len(new)} replicas of {self.image}.")

    def record(self, before: str) -> None:
        self.project.record("IMAGE", self.image)
        self.project.note("rollback", image=self.image, before=before)

    def migrations_to_take_back(self, serving: str) -> list[str]:
        """What is applied and unknown to the version; Failure where it must stay or may not be lost."""
        if self.project.is_web_host:
            return []  # the site's host takes them back, when no host needs them any more
        plan = Migrations(self.docker, self.image).plan()
        if plan.pending:
            raise Failure(
                f"{self.image} has migrations that are not applied: {', '.join(plan.pending)}; nothing was "
                "changed",
                f"./deploy/rentomatic rollout {self.image}",
            )
        if not plan.unknown:
            return []
        self.expect_that_no_host_needs(plan.unknown)
        known = Migrations(self.docker, serving).plan(*plan.unknown)
        for name, sql in known.backwards.items():
            if words := irreversible(sql):
                raise Failure(
                    f"{name} cannot be taken back ({words}), and {self.image} does not know it; nothing was "
                    "changed",
                    "mend the code and roll out, or restore the backup from before",
                )
        losses = [
            f"{name}: {step}"
            for name, sql in known.backwards.items()
            for rule, step in unsafe(sql, set())
            if rule.kind == "incompatible"
        ]
        for loss in losses:
            self.report.warn(f"lost with {loss}")
        if losses and not self.options.accept:
            raise Failure(
                "taking back the migrations loses what is stored in them (above); nothing was changed",
                "./deploy/rentomatic backup, then ./deploy/rentomatic rollback --accept",
            )
        return plan.unknown

    def expect_that_no_host_needs(self, migrations: list[str]) -> None:
        """Failure while a web host serves the version that these were made for."""
        own = hosts.own(self.docker)
        found = hosts.ask_all(self.project)
        if serving := [name for name, one in found.items() if one.release and one.release == own.release]:
            raise Failure(
                f"{', '.join(serving)} serves the version that needs {', '.join(migrations)}; nothing was "
                "changed",
                "./deploy/rentomatic rollback there, then here",
            )

    def take_back(self, serving: str, back: list[str], new: list[str]) -> None:
        """By the version that has them, now that nobody uses what they have made."""
        self.report.step("Taking back the migrations …")
        migrations = Migrations(self.docker, serving)
        stay = [name for name in migrations.plan().applied if name not in back]
        if migrations.take_back(targets(stay, back), self.report):
            self.replicas.expect_all(self.image, new)
