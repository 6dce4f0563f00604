"""The engine and Compose, as commands; a failure of theirs is a Failure with their own words."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

from deploy.operations import process
from deploy.operations.process import Done
from deploy.operations.project import Project
from deploy.operations.report import Failure

SERVERS = ("db", "replica1", "replica2")
"""The services of the database's servers, as far as there are replicas."""

# .env alone says which project and which version this folder's are, not a variable that came from elsewhere.
NOT_INHERITED = {"COMPOSE_PROJECT_NAME", "IMAGE"}


def environment_options(variables: Mapping[str, str] | None) -> list[str]:
    """`--env NAME=text` for each variable that a container is to have."""
    return [word for name, text in (variables or {}).items() for word in ("--env", f"{name}={text}")]


class Docker:
    """The containers of a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.label = f"rentomatic.project={project.name}"
        """On each image that is built here."""
        for folder in self.folders():
            if os.path.realpath(folder) != str(project.folder):
                raise Failure(
                    f"the project {project.name} has containers of {folder}; nothing was done",
                    "give one of the two another COMPOSE_PROJECT_NAME in .env",
                )

    def folders(self) -> set[str]:
        """The folders from which the project's containers were made."""
        label = '{{.Label "com.docker.compose.project.working_dir"}}'
        listed = self("ps", "--all", "--filter", self.of_project(), "--format", label)
        return {line for line in listed.stdout.splitlines() if line}

    def of_project(self) -> str:
        return f"label=com.docker.compose.project={self.project.name}"

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> Done:
        """`docker …`"""
        try:
            done = process.run(["docker", *arguments], folder=self.project.folder, **options)
        except FileNotFoundError:
            raise Failure("docker is not installed", "apt install docker.io docker-compose-v2") from None
        if check and not done:
            raise Failure(f"docker {arguments[0]} failed: {done.text[-1000:]}", "docker compose ps --all")
        return done

    def compose(self, *arguments: str, variables: Mapping[str, str] | None = None, **options: Any) -> Done:
        """`docker compose …`; `variables` win over .env."""
        inherited = {name: text for name, text in os.environ.items() if name not in NOT_INHERITED}
        return self("compose", *arguments, environment=inherited | dict(variables or {}), **options)

    def config(self, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What Compose makes of its files and .env."""
        done = self.compose("config", "--format", "json", variables=variables)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, of any state; not those of `run`."""
        filters = [self.of_project(), f"label=com.docker.compose.service={service}"]
        filters.append("label=com.docker.compose.oneoff=False")
        words = [word for one in filters for word in ("--filter", one)]
        return self("ps", "--all", "--quiet", "--no-trunc", *words).stdout.split()

    def inspect(self, *ids: str) -> list[dict[str, Any]]:
        """What the engine knows of containers; those that have gone meanwhile are left out."""
        if not ids:
            return []
        result: list[dict[str, Any]] = json.loads(self("inspect", *ids, check=False).stdout or "[]")
        return result

    def running(self, service: str) -> str:
        """The id of a service's running container."""
        for container in self.inspect(*self.containers(service)):
            if container["State"]["Running"]:
                return str(container["Id"])
        raise Failure(f"{service} is not running; nothing was changed", "docker compose up -d --wait")

    @property
    def primary(self) -> str:
        """The service of the server that accepts writes: by .env, or with Patroni by what the servers say."""
        if self.project.automatic:
            for name in SERVERS:
                for container in self.containers(name):
                    query = ["psql", "--username", "postgres", "-Atc", "SELECT pg_is_in_recovery()"]
                    if self("exec", container, *query, check=False, timeout=5).stdout.strip() == "f":
                        return name
        return self.project.primary

    def task(
        self,
        service: str,
        *command: str,
        variables: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        volumes: Sequence[str] = (),
        stdin: IO[bytes] | None = None,
    ) -> Done:
        """
        Run a command in a new container of a service, which is removed also when we are interrupted.

        `variables` are Compose's, `environment` is the container's, `volumes` are as Docker's -v takes them.
        """
        name = f"{self.project.name}-task-{os.getpid()}"
        inside = environment_options(environment)
        inside += [word for volume in volumes for word in ("--volume", volume)]
        words = ["run", "--rm", "--no-deps", "-T", "--name", name, *inside, service, *command]
        try:
            return self.compose(*words, variables=variables, stdin=stdin, check=False)
        except BaseException:
            with process.held():
                self("rm", "--force", "--volumes", name, check=False)
            raise

    def expect_image(self, image: str, next_step: str) -> None:
        """Failure with the versions that are kept, where this one is not."""
        if not self("image", "inspect", image, check=False):
            kept = ", ".join(self.images()) or "none"
            raise Failure(f"there is no image {image}; kept are: {kept}", next_step)

    def images(self) -> list[str]:
        """The versions that are kept, newest first."""
        listed = self("images", "--format", "{{.Repository}}:{{.Tag}}", self.project.name).stdout.split()
        return sorted((name for name in listed if not name.endswith(":<none>")), reverse=True)
