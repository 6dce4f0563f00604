"""
nginx's configuration: filled in from compose.yml and .env, tried, and taken by a reload.

The result is in deploy/rendered, one folder for what serves and one for what is tried; the link `current`
says which is which. nginx's container does not change with it, so that no connection is refused.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.operations import hosts, https, process
from deploy.operations.docker import Docker
from deploy.operations.report import Failure

IN_CONTAINER = "/etc/nginx/rendered"
SLOTS = ("a", "b")


def fill_in(template: str, variables: dict[str, str]) -> str:
    """The text with `${NAME}` replaced for each given name; everything else stays."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], found[0]), template)


class Nginx:
    """The configuration of the container `nginx`."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.folder = docker.project.deploy / "rendered"
        self.current = self.folder / "current"

    def render(self, variables: dict[str, str] | None = None) -> dict[str, str]:
        """The files that compose.yml and .env ask for."""
        configured = self.docker.config(variables)["x-nginx"]
        # Compose writes a dollar twice, as it would have to stand in its file.
        values = {name: str(text).replace("$$", "$") for name, text in configured.items()}
        values["NGINX_UPSTREAM"] += hosts.upstreams(self.docker.project)
        folder = self.docker.project.deploy / "nginx"
        templates = {path.stem: path for path in folder.glob("*.template")}
        if self.docker.project.is_web_host:
            balance = {name: path for name, path in templates.items() if name.startswith("balance-")}
            templates = balance | {path.stem: path for path in (folder / "web").glob("*.template")}
        return {name: fill_in(path.read_text(), values) for name, path in sorted(templates.items())}

    def serving(self) -> dict[str, str]:
        """The files that nginx has loaded."""
        return {path.name: path.read_text() for path in self.current.glob("*.conf")}

    def certificates(self) -> str:
        """A digest of the certificate and the key."""
        digest = hashlib.sha256()
        for name in ("fullchain.pem", "privkey.pem"):
            path = self.docker.project.deploy / "certificates" / name
            digest.update(path.read_bytes() if path.exists() else b"")
        return digest.hexdigest()

    def loaded_certificates(self) -> str:
        path = self.current / "certificates.sha256"
        return path.read_text() if path.exists() else ""

    def differences(self) -> list[str]:
        """What a reload would change: files, and the certificate."""
        wanted, serving = self.render(), self.serving()
        names = [name for name in sorted(wanted | serving) if wanted.get(name) != serving.get(name)]
        if not https.renews(self.docker.project) and self.certificates() != self.loaded_certificates():
            names.append("certificate")  # which is else loaded by nginx's container itself
        return names

    def write(self) -> str:
        """Write the wanted files where nothing reads them yet; returns the slot."""
        serving = self.current.readlink().name if self.current.is_symlink() else ""
        slot = next(name for name in SLOTS if name != serving)
        folder = self.folder / slot
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for name, text in self.render().items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)  # the container's user reads it, whatever the umask is
        (folder / "certificates.sha256").write_text(self.certificates())
        for path in (self.folder, folder):
            path.chmod(0o755)
        return slot

    def switch(self, slot: str) -> None:
        """Let nginx's next start or reload find the files of a slot."""
        link = self.folder / ".current"
        link.unlink(missing_ok=True)
        link.symlink_to(slot)
        link.replace(self.current)

    def prepare(self) -> str | None:
        """
        Write what is wanted and let nginx try it; returns the slot, None where nothing differs.

        Failure with nginx's words where it would not take it.
        """
        if not self.differences():
            return None
        slot = self.write()
        for container in self.running():
            command = ["exec", container, "nginx", "-t", "-q", "-c", f"{IN_CONTAINER}/{slot}/nginx.conf"]
            tried = self.docker(*command, check=False)
            if not tried:
                raise Failure(
                    f"nginx does not accept its configuration: {tried.text}; it was not changed",
                    "mend the variable in .env, or deploy/nginx and deploy/certificates",
                )
        return slot

    def running(self) -> list[str]:
        """
        The containers that read deploy/rendered.

        One that an older version of compose.yml has made does not; `apply --accept` makes it anew.
        """
        return [
            container["Id"]
            for container in self.docker.inspect(*self.docker.containers("nginx"))
            if container["State"]["Running"]
            and any(mount["Destination"] == IN_CONTAINER for mount in container["Mounts"])
        ]

    def reload(self, slot: str) -> None:
        """Let nginx take a slot; returns when its new workers accept connections."""
        self.switch(slot)
        for container in self.running():
            self.reload_container(container)

    def reload_container(self, container: str) -> None:
        before = self.workers(container)
        self.docker("kill", "--signal", "HUP", container)
        if not process.wait_for(lambda: bool(self.workers(container) - before), 20, 0.2):
            raise Failure("nginx did not reload within 20 s", "docker compose logs --tail 20 nginx")

    @contextmanager
    def maintenance(self) -> Iterator[None]:
        """Show the maintenance page instead of the admin for the time of the block; reads go on."""
        file = self.folder / "maintenance"
        file.touch()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)

    def workers(self, container: str) -> set[str]:
        """The process ids of the workers that take new connections."""
        listed = self.docker("top", container, "-o", "pid,args", check=False).stdout
        lines = [line for line in listed.splitlines() if "nginx: worker process" in line]
        return {line.split()[0] for line in lines if "shutting down" not in line}
