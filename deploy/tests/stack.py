"""The whole stack of compose.yml, brought up from a copy of the project for the tests marked `compose`."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

PRICES = itertools.count()

LONG = os.environ.get("TEST_LONG") == "on"
"""Whether trials are run that take minutes."""

long = pytest.mark.skipif(not LONG, reason="takes minutes: TEST_LONG=on")


def needs_engine() -> None:
    """Skip the running test unless containers can be started; `needs` says when it fails instead."""
    needs("docker", "git")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("needs a running Docker engine")


class CountedLoad(rig.Load):
    """Load whose responses are counted in the file LOAD_REPORT, for the table in docs/deployment.md."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if report := os.environ.get("LOAD_REPORT"):
            failed = [began for began, _, status in self.responses if status != 200]
            span = failed[-1] - failed[0] if failed else 0
            name = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2]
            with Path(report).open("a") as file:
                file.write(f"{name}: {len(failed)} of {len(self.responses)} failed, within {span:.1f} s\n")


class Stack:
    """A copy of the project with its own .env, image, containers and volume."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http, self.https = rig.free_port(), rig.free_port()
        self.url = f"https://localhost:{self.https}"
        # As from a fresh clone: what git has, and what it would take.
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.check_output(listed, cwd=rig.PROJECT, text=True).splitlines():
            if (rig.PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(rig.PROJECT / name, folder / name)
        self.setup_output = self.run("./deploy/rentomatic", "setup").stdout
        self.set("SITE_ADDRESS", self.url)
        self.set("HTTP_PORT", str(self.http))
        self.set("HTTPS_PORT", str(self.https))
        self.set("NGINX_RATE", "10000r/s")
        if os.environ.get("TEST_POOLER") == "on":
            self.set("POOLER", "on")

    def remove(self) -> None:
        """Containers, volume and images; each step for itself, for the stack may be half there."""
        self.compose("down", "--volumes", "--remove-orphans", check=False)
        name = self.setting("COMPOSE_PROJECT_NAME")
        names = "docker", "images", "--quiet", "--filter"
        images = self.run(*names, f"reference={name}", "--filter", f"reference={name}-pooler").stdout.split()
        if images:
            self.run("docker", "image", "rm", "--force", *images, check=False)

    def setting(self, name: str) -> str:
        """A variable's value in .env; empty where it has none."""
        found = re.findall(rf"^{name}=(.*)$", (self.folder / ".env").read_text(), re.M)
        return found[-1] if found else ""

    def set(self, name: str, value: str) -> None:
        """A variable in .env, in the place of the one that is there."""
        file = self.folder / ".env"
        lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{name}=")]
        file.write_text("\n".join([*lines, f"{name}={value}", ""]))

    def run(
        self, *command: str, check: bool = True, timeout: float = 900
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder, as an operator would who has nothing in the environment."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def operate(self, *words: str, check: bool = True) -> dict[str, Any]:
        """The result of a command of ./deploy/rentomatic."""
        done = self.run("./deploy/rentomatic", *words, "--json", check=check)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def findings(self, *checks: str) -> dict[str, dict[str, str]]:
        """What doctor finds, by the names of its checks."""
        return {one["name"]: one for one in self.operate("doctor", *checks, check=False)["checks"]}

    def finding(self, check: str) -> dict[str, str]:
        return self.findings(check)[check]

    def expect_ok(self, *checks: str) -> None:
        found = self.findings(*checks)
        assert {name: one["level"] for name, one in found.items()} == dict.fromkeys(checks, "ok"), found

    def compose(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.run("docker", "compose", *arguments, check=check)

    def up(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.compose("up", "--detach", "--wait", *arguments, check=check)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What `docker inspect` knows of a service's containers."""
        ids = self.compose("ps", "--all", "--quiet", service).stdout.split()
        return json.loads(self.run("docker", "inspect", *ids).stdout) if ids else []

    def processes(self, service: str) -> list[int]:
        """The first process of each of a service's containers, once they all have one.

        The engine calls a container running while it waits to start it again; its process is 0 then, and a
        signal to 0 would go to the process group of the tests.
        """
        found: list[int] = []

        def all_run() -> bool:
            found[:] = [container["State"]["Pid"] for container in self.containers(service)]
            return bool(found) and all(found)

        rig.wait_until(all_run, f"containers of {service} that run", 60)
        return found

    def kill(self, service: str) -> None:
        """Kill the first process of each container, as the kernel would; the engine starts them again."""
        for process in self.processes(service):
            os.kill(process, signal.SIGKILL)

    def inside(self, service: str, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.compose("exec", "-T", service, *command, check=check)

    def sql(self, statement: str, service: str = "db") -> str:
        """Run a statement in the application's database; returns the bare values."""
        command = ["psql", "-U", "postgres", "-d", "application", "-Atc", statement]
        return self.inside(service, *command).stdout.strip()

    def get(self, path: str, **options: Any) -> rig.Response:
        return rig.get(self.https, path, tls=True, **options)

    def load(self) -> rig.Load:
        """Clients that never request the same URL twice, so that nothing comes from the micro-cache."""

        def request() -> int:
            time.sleep(0.02)  # they are to notice failures, not to take the processor from what they look at
            return self.get(f"/rooms?filter_price__gte={next(PRICES)}").status

        return CountedLoad(request)

    def lines(self) -> list[dict[str, Any]]:
        """nginx's access log."""
        log = self.compose("logs", "--no-log-prefix", "--no-color", "nginx").stdout
        return [json.loads(line[line.index("{") :]) for line in log.splitlines() if '{"time"' in line]
