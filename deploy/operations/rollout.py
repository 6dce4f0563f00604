"""`rollout`: a version in the place of the one that serves; also the first start."""

import argparse
import os

from deploy.operations import doctor, hosts, overlays, pitr, pooling, process
from deploy.operations.classify import hazards
from deploy.operations.docker import Docker
from deploy.operations.migrations import Migrations, Plan
from deploy.operations.nginx import Nginx
from deploy.operations.project import Project, now
from deploy.operations.rehearsal import Rehearsal
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report

HELP = """\
Bring in the version in this folder, without a failed request; also the first start. With IMAGE one that is
there: docker images.

It migrates, starts as many new replicas as there are old ones, on a network without nginx, and requests of
each what clients request. Only then nginx gets them, .env names their version as the one that serves, and the
old ones finish and go. When something fails before, or Ctrl-C ends it, the old version goes on serving and
the new migrations are taken back.

Migrations are read before they run. One that would block requests, that the old version cannot live with, or
that cannot be taken back is refused with the safe way; --accept runs it all the same. --rehearse first runs
them on a copy of the database, which is dropped: how long each step takes, what it locks, whether the version
that serves works on the new schema, and whether there is a way back. What would go wrong there is refused,
also with --accept. With --dry-run it ends with what it has found."""

STAYS = "the old version goes on serving"
MEND = "mend it, then ./deploy/rentomatic rollout"
KEPT = 5
"""How many versions are kept, to go back to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image", nargs="?", metavar="IMAGE", help="a version of `docker images`; default: build one"
    )
    parser.add_argument("--accept", action="store_true", help="run migrations that are not safe, too")
    parser.add_argument(
        "--rehearse", action="store_true", help="run the migrations on a copy of the database first"
    )
    parser.add_argument("--no-doctor", action="store_true", help="whatever doctor finds on the host")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    with project.lock("rollout", options.wait):
        overlays.choose(project, report, dry=options.dry_run)
        Rollout(Docker(project), report, options).run()


class Rollout:
    """One rollout, from the build to the last old replica."""

    def __init__(self, docker: Docker, report: Report, options: argparse.Namespace) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.options = options
        self.replicas = Replicas(docker, report)
        self.nginx = Nginx(docker)
        self.image: str = options.image or ""
        self.built = False

    def run(self) -> None:
        if self.options.dry_run:
            try:
                self.tell_what_would_happen()
            finally:
                if self.built:
                    with process.held():
                        self.docker("image", "rm", self.image, check=False)
            return
        hosts.expect_the_database(self.project)
        self.replicas.remove_leftovers()
        old = self.replicas.serving()
        if not old and self.project.image:
            raise Failure(
                f"nothing is running; {self.project.image} served last",
                "docker compose up -d --wait, then ./deploy/rentomatic rollout; or, to start with this "
                "folder's version, remove IMAGE from .env",
            )
        if old and not self.options.no_doctor:
            doctor.before_rollout(self.docker)
        if self.image:
            self.docker.expect_image(self.image, "./deploy/rentomatic rollout IMAGE")
        else:
            self.build()
        if pooling.wanted(self.project):
            pooling.build(self.docker, self.report)
        if old:
            self.replace(old)
        else:
            self.start()
        # What lost its name, by a build that was interrupted or an image that was removed while it ran.
        self.docker("image", "prune", "--force", "--filter", f"label={self.docker.label}", check=False)

    def tell_what_would_happen(self) -> None:
        old = self.replicas.serving()
        self.report.say(f"Would {'take ' + self.image if self.image else 'build an image of this folder'}.")
        if self.image:
            self.docker.expect_image(self.image, "./deploy/rentomatic rollout IMAGE")
        elif self.options.rehearse:
            self.build()
        if self.image:
            plan = self.plan()
            self.report.data["migrations"] = plan.pending
            self.report.say(f"Would migrate: {', '.join(plan.pending) or 'nothing'}.")
            for hazard in hazards(plan.forwards, plan.backwards):
                self.report.say(f"Not safe: {hazard}")
            if self.options.rehearse and old:
                self.rehearse(plan)
        self.report.say(f"Would start {len(old) or 'the first'} new replicas beside {len(old)} old ones.")

    def build(self) -> None:
        self.report.step("Building …")
        commit = ""
        try:
            found = process.run(["git", "rev-parse", "--short", "HEAD"], folder=self.project.folder)
            commit = f"-{found.stdout.strip()}" if found else ""
        except FileNotFoundError:
            pass
        self.image = f"{self.project.name}:{now()}{commit}"
        base = self.project.setting("PYTHON_IMAGE")
        done = self.docker(
            "build",
            "--quiet",
            "--tag",
            self.image,
            "--label",
            self.docker.label,
            *(["--build-arg", f"PYTHON_IMAGE={base}"] if base else []),
            ".",
            check=False,
            environment={**os.environ, "DOCKER_BUILDKIT": "1"},
        )
        if not done:
            self.report.show(done.text)
            raise Failure("the build failed; what served before goes on", MEND)
        self.built = True

    def start(self) -> None:
        """The first start: everything, or nothing."""
        self.report.step("Starting …")
        slot = self.nginx.prepare()
        if slot:
            self.nginx.switch(slot)
        try:
            if pooling.wanted(self.project):
                # It asks the database who may log in, and the replicas log in by it.
                self.docker.compose("up", "--detach", "--wait", "db", variables={"IMAGE": self.image})
                pooling.start(self.docker, self.report)
            up = self.docker.compose(
                "--progress",
                "plain",
                "up",
                "--detach",
                "--wait",
                variables={"IMAGE": self.image},
                check=False,
            )
            web = self.docker.containers("web")
            reason = self.replicas.still_failing(web) if up else self.replicas.failing(web)
            if not up:
                reason = "\n".join([*up.text.splitlines()[-3:], reason])
        except BaseException:
            with process.held():
                self.docker.compose("down", variables={"IMAGE": self.image}, check=False)
            raise
        if reason:
            self.report.show(reason)
            services = [] if self.project.is_web_host else ["migrate"]
            logs = ["logs", "--no-color", "--tail", "10", *services, "web", "nginx"]
            self.report.show(self.docker.compose(*logs, variables={"IMAGE": self.image}, check=False).text)
            self.docker.compose("down", variables={"IMAGE": self.image}, check=False)
            raise Failure(
                "the first start failed (above); nothing is running",
                hosts.next_step(self.project, reason, MEND),
            )
        if pitr.wanted(self.project):
            pitr.prepare(self.docker)
        self.record([])
        self.report.say(f"Done: {self.image} serves at {self.project.setting('SITE_ADDRESS')}/rooms")

    def replace(self, old: list[str]) -> None:
        back: dict[str, str] = {}
        slot = None
        try:
            slot = self.nginx.prepare()
            plan = self.plan()
            self.refuse_what_is_not_safe(plan)
            if self.options.rehearse and not self.rehearse(plan):
                raise Failure("the rehearsal found what would go wrong (above); nothing was migrated")
            if pooling.wanted(self.project):
                pooling.start(self.docker, self.report)
            back = plan.back
            if not self.project.is_web_host:
                self.migrate()
            if pooling.wanted(self.project):
                pooling.reconnect(self.docker)
            self.report.step(f"Starting {len(old)} new beside {len(old)} old …")
            new = self.replicas.start_beside(old, len(old), self.image)
        except Failure as failure:
            failure.next_step = hosts.next_step(self.project, failure.reason, failure.next_step)
            self.give_up(failure, old, back)
        except BaseException:
            self.give_up(Failure("interrupted", status=130), old, back)
        with process.held(forget=True):
            self.replicas.change_over(old, new, lambda: self.record(plan.pending))
            if slot:
                self.nginx.reload(slot)
                if not self.nginx.running():  # its container is of a compose.yml before this program
                    self.report.warn(
                        "nginx goes on with its former configuration. Next: ./deploy/rentomatic apply "
                        "--accept, at a quiet time"
                    )
            self.finish(new)

    def plan(self) -> Plan:
        """The migrations to come; none on a web host, whose site's host has migrated."""
        return Plan() if self.project.is_web_host else Migrations(self.docker, self.image).plan()

    def migrate(self) -> None:
        self.report.step("Migrating …")
        done = Migrations(self.docker, self.image).apply()
        if not done:
            self.report.show(done.text)
            raise Failure("the migration failed (above)")

    def refuse_what_is_not_safe(self, plan: Plan) -> None:
        found = hazards(plan.forwards, plan.backwards)
        for hazard in found:
            self.report.warn(str(hazard))
        self.report.data |= {"migrations": plan.pending, "hazards": [hazard.as_dict() for hazard in found]}
        if found and not self.options.accept:
            raise Failure(
                f"{len(found)} of the steps of the migrations are not safe (above); nothing was migrated",
                "take the safe way that is named, or ./deploy/rentomatic rollout --accept",
            )

    def rehearse(self, plan: Plan) -> bool:
        """Whether nothing would go wrong on a copy of the database."""
        if not plan.pending:
            self.report.say("No migration is pending, none is rehearsed.")
            return True
        return Rehearsal(self.docker, self.report, self.image).run()

    def give_up(self, failure: Failure, old: list[str], back: dict[str, str]) -> None:
        """Everything as it was, then Failure with the reason."""
        with process.held(forget=True):
            self.replicas.remove(set(self.replicas.added(old)))
            Migrations(self.docker, self.image).take_back(back, self.report)
            if self.built:
                self.docker("image", "rm", self.image, check=False)
        raise Failure(f"{failure.reason}; {STAYS}", failure.next_step or MEND, failure.status)

    def record(self, migrated: list[str]) -> None:
        """Write down that this version serves from now on."""
        before = self.project.image
        self.project.record("IMAGE", self.image)
        self.project.note("rollout", image=self.image, before=before, migrations=migrated)

    def finish(self, new: list[str]) -> None:
        self.replicas.expect_all("the new version", new)
        for name in self.docker.images()[KEPT:]:
            if name != self.image:
                self.docker("image", "rm", name, check=False)
        self.report.data |= {"image": self.image, "replicas": len(new)}
        self.report.say(f"Done: {len(new)} replicas of {self.image}. The database was left as it was.")
        if others := hosts.web_hosts(self.project):
            self.report.say(f"Next: the same release on {', '.join(map(hosts.written, others))}")
