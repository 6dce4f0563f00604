"""The volume of the database: the one that serves, and others in its place."""

import os
import re
from collections.abc import Sequence

from deploy.operations.docker import Docker
from deploy.operations.process import Done
from deploy.operations.project import now

DATA = "/var/lib/postgresql"


class Volumes:
    """Volumes of the engine or, where DATABASE_VOLUME is a folder, folders in it."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.project = docker.project
        folder = self.project.setting("DATABASE_VOLUME", "database")
        self.is_folder = "/" in folder
        self.under_way = self.project.deploy / ".recovering"
        self.variable = "DATABASE_VOLUME" if self.is_folder else "DATABASE_VOLUME_NAME"
        self.first = f"{self.project.name}_database"
        if self.is_folder:
            self.first = re.sub(r"/recovered-\w+$", "", folder)

    @property
    def image(self) -> str:
        return (
            self.project.setting("POSTGRES_IMAGE")
            or f"postgres:{self.project.setting('POSTGRES_VERSION', '18')}"
        )

    @property
    def current(self) -> str:
        return self.project.setting(self.variable, self.first)

    def new_name(self) -> str:
        return f"{self.first}/recovered-{now()}" if self.is_folder else f"{self.first}_{now()}"

    def variables(self, name: str) -> dict[str, str]:
        """Compose's, that make `db` use a volume."""
        return {self.variable: name}

    def record(self, name: str) -> None:
        """Which volume every later start of `db` uses."""
        self.project.record(self.variable, None if name == f"{self.project.name}_database" else name)

    def create(self, name: str) -> None:
        self.under_way.write_text(f"{name}\n")
        if self.is_folder:
            self.as_root(self.first, f"mkdir {DATA}/{os.path.basename(name)}")
            return
        labels = {"project": self.project.name, "volume": "database"}
        words = [
            word for key, text in labels.items() for word in ("--label", f"com.docker.compose.{key}={text}")
        ]
        self.docker("volume", "create", *words, name)

    def remove(self, name: str) -> None:
        if self.is_folder:
            self.as_root(self.first, f"rm -rf {DATA}/{os.path.basename(name)}")
        else:
            self.docker("volume", "rm", "--force", name, check=False)

    def removal(self, name: str) -> str:
        """The command for a volume that is not needed any more."""
        if not self.is_folder:
            return f"docker volume rm {name}"
        # The first folder holds those of the restores, too.
        version = self.project.setting("POSTGRES_VERSION", "18")
        return f"rm -r {name}/{version}" if name == self.first else f"rm -r {name}"

    def kept(self) -> list[str]:
        """Those besides the one that serves."""
        if self.is_folder:
            listed = self.shell(self.first, f"ls {DATA}").stdout.split()
            names = [f"{self.first}/{name}" for name in listed if name.startswith("recovered-")]
        else:
            label = f"label=com.docker.compose.project={self.project.name}"
            listed = self.docker("volume", "ls", "--quiet", "--filter", label).stdout.split()
            names = [
                name for name in listed if re.fullmatch(rf"{re.escape(self.first)}(_\d{{8}}T\d{{6}}Z)?", name)
            ]
        return [name for name in sorted(names) if name != self.current]

    def unfinished(self) -> list[str]:
        """That of a restore which was killed before it served."""
        name = self.under_way.read_text().strip() if self.under_way.exists() else ""
        return [name] if name and name in self.kept() else []

    def finish(self) -> None:
        """What was created is no longer one that may be removed."""
        self.under_way.unlink(missing_ok=True)

    def holds_data(self, name: str) -> bool:
        if not self.is_folder and not self.docker("volume", "inspect", name, check=False):
            return False
        version = self.project.setting("POSTGRES_VERSION", "18")
        return bool(self.shell(name, f"test -s {DATA}/{version}/docker/PG_VERSION"))

    def shell(
        self, name: str, script: str, *arguments: str, user: str = "postgres", mounts: Sequence[str] = ()
    ) -> Done:
        """Run a script in a container of its own, with a volume where `db` has it."""
        volumes = [word for one in (f"{name}:{DATA}", *mounts) for word in ("--volume", one)]
        words = ["run", "--rm", "--network", "none", "--user", user, *volumes, "--entrypoint", "sh"]
        return self.docker(*words, self.image, "-c", script, *arguments, check=False)

    def as_root(self, name: str, script: str, *arguments: str) -> Done:
        return self.shell(name, script, *arguments, user="0:0")
