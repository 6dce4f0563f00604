"""The replicas of `web`: which serve, whether they respond, and new ones in the place of old ones."""

import re
import time
from collections.abc import Callable, Mapping, Sequence

from deploy.operations import process
from deploy.operations.docker import Docker
from deploy.operations.report import Failure, Report

START_SECONDS = 180
"""A replica is up within ten, on a host that has nothing else to do."""

PASSING = re.compile("does not respond|no response|the database does not answer")
"""Reasons that time may mend; with any other one a replica fails at the third look."""


class Replicas:
    """The containers of `web`."""

    def __init__(self, docker: Docker, report: Report) -> None:
        self.docker = docker
        self.report = report

    def serving(self) -> list[str]:
        """The ids of those that run on nginx's network."""
        return [
            container["Id"]
            for container in self.docker.inspect(*self.docker.containers("web"))
            if container["State"]["Running"]
            and self.docker.project.front in container["NetworkSettings"]["Networks"]
        ]

    def remove_leftovers(self) -> None:
        """Remove those that serve nobody: left by a command that was killed, or stopped."""
        serving = self.serving()
        self.remove(set(self.docker.containers("web")) - set(serving))

    def remove(self, ids: set[str]) -> None:
        if ids:
            self.docker("rm", "--force", *ids, check=False)

    def failing(self, ids: Sequence[str], *, newer_schema: bool = False) -> str:
        """Why one of these does not answer what clients request; empty where all do."""
        options = ["--questions"] + (["--newer-schema"] if newer_schema else [])
        for one in ids:
            done = self.docker(
                "exec", one, "python", "deploy/healthcheck.py", *options, check=False, timeout=20
            )
            if not done:
                return done.text or "no response"
        return ""

    def start_beside(
        self,
        old: Sequence[str],
        count: int,
        image: str,
        variables: Mapping[str, str] | None = None,
        *,
        newer_schema: bool = False,
    ) -> list[str]:
        """
        Start new replicas on no network of nginx's, and wait until each answers what clients request.

        Failure where they don't; what was made is for the caller to remove (`added`).
        """
        environment = {"IMAGE": image, **(variables or {})}
        scale = f"web={len(old) + count}"
        # Not --no-deps: Compose would take containers that were made so for changed ones, and make them anew.
        self.docker.compose(
            "up", "--no-start", "--no-recreate", "--scale", scale, "web", variables=environment, check=False
        )
        # That made one of `migrate` too; a later `up` makes it anew, of the version that serves then.
        self.docker.compose("rm", "--force", "migrate", check=False)
        new = self.added(old)
        if len(new) != count:
            raise Failure(f"{len(new)} of {count} new replicas could be made")
        for one in new:
            self.docker("network", "disconnect", self.docker.project.front, one)
            self.docker("start", one)
        if reason := self.still_failing(new, newer_schema=newer_schema):
            for one in new:
                self.report.show(self.docker("logs", "--tail", "5", one, check=False).text)
            raise Failure(f"the new version does not answer ({reason}; its last lines are above) and is gone")
        return new

    def still_failing(self, ids: Sequence[str], *, newer_schema: bool = False) -> str:
        """`failing`, after the time that a busy host may take; what time cannot mend is told soon."""
        deadline = time.monotonic() + START_SECONDS
        looks = 3
        while reason := self.failing(ids, newer_schema=newer_schema):
            looks = 3 if PASSING.search(reason) else looks - 1
            restarts = max(container["RestartCount"] for container in self.docker.inspect(*ids))
            if not looks or restarts >= 3 or time.monotonic() > deadline:
                break
            time.sleep(1)
        return reason

    def expect_all(self, version: str, ids: Sequence[str]) -> None:
        """Failure where one of these, which nginx has, does not answer what clients request."""
        if reason := self.still_failing(ids):
            raise Failure(f"{version} serves, but a replica does not answer ({reason})", "docker compose ps")

    def added(self, old: Sequence[str]) -> list[str]:
        """The replicas that are not the old ones, also one that an interrupted step has made."""
        return [one for one in self.docker.containers("web") if one not in old]

    def change_over(self, old: Sequence[str], new: Sequence[str], record: Callable[[], None]) -> None:
        """Show the new replicas to nginx, write down that they serve, and let the old ones finish and go."""
        for one in new:
            self.docker("network", "connect", "--alias", "web", self.docker.project.front, one)
        record()
        time.sleep(3)  # nginx asks for the replicas' addresses every second
        self.report.step("Stopping the old …")
        for one in old:
            # /readyz says so from now on
            self.docker("exec", one, "touch", "/dev/shm/rentomatic-draining", check=False)  # noqa: S108
            self.docker("stop", "--time", "40", one, check=False)  # requests in flight are finished
            self.docker("rm", "--force", one, check=False)

    def replace(
        self,
        count: int | None = None,
        variables: Mapping[str, str] | None = None,
        record: Callable[[], None] = lambda: None,
    ) -> None:
        """
        New replicas of the version that serves in the place of all that run, without a failed request.

        As many as there are, unless `count` says otherwise. Where one fails, the old ones go on.
        """
        old = self.serving()
        try:
            new = self.start_beside(old, count or len(old), self.docker.project.image, variables)
        except BaseException:
            with process.held():
                self.remove(set(self.added(old)))
            raise
        with process.held():
            self.change_over(old, new, record)
