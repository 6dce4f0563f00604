"""The folder that this program belongs to: its `.env`, secrets and journal, and the lock on all of it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.operations import environment
from deploy.operations.report import Failure, Report

FOLDER = Path(__file__).resolve().parent.parent.parent

OF_THE_SERVERS = {"postgres_verifier", "replicator_verifier", "replicator_password", "patroni_password"}
"""Secrets that the image's user `postgres` reads: others may read these files, not look into their folder."""

TIME = "%Y%m%dT%H%M%SZ"


def now() -> str:
    """The time in UTC as it stands in names and in the journal: 20261120T160000Z."""
    return datetime.now(UTC).strftime(TIME)


def parse_time(text: str) -> datetime:
    """The time that `now` has written."""
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)


class Project:
    """A folder with a `.env`; Failure where it is not one that `./deploy/rentomatic setup` has prepared."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.deploy = folder / "deploy"
        self.secrets = self.deploy / "secrets"
        self.environment = folder / ".env"
        self.journal = self.deploy / ".journal"
        self.name = self.setting("COMPOSE_PROJECT_NAME")
        if not self.name:
            raise Failure("no project's name is in .env", "./deploy/rentomatic setup")
        home = self.setting("PROJECT_FOLDER")
        if home != str(folder):
            raise Failure(
                f"the .env here is that of {home}, and so are the containers and the data that it names; "
                "nothing was done",
                "for a site of its own, mv .env .env.copied && ./deploy/rentomatic setup; if the folder has "
                f"moved, write PROJECT_FOLDER={folder} into .env",
            )

    # --- Variables

    @property
    def variables(self) -> dict[str, str]:
        try:
            return environment.parse(self.environment.read_text())
        except FileNotFoundError:
            return {}

    def setting(self, name: str, default: str = "") -> str:
        """A variable's value in .env, or the default where it has none."""
        return self.variables.get(name) or default

    def record(self, name: str, value: str | None) -> None:
        """Write a variable into .env; None takes it out."""
        text = environment.changed(self.environment.read_text(), name, value)
        environment.replace(self.environment, text)

    def choose_overlay(self, overlay: str, wanted: bool, report: Report, *, dry: bool) -> None:
        """Name a file in COMPOSE_FILE, after the others, or take it out."""
        before = self.setting("COMPOSE_FILE", "compose.yml").split(":")
        files = [name for name in before if name != overlay] + ([overlay] if wanted else [])
        if wanted and overlay in before:
            files = before
        if files != before:
            report.step(f"COMPOSE_FILE={':'.join(files)}")
            if not dry:
                self.record("COMPOSE_FILE", ":".join(files) if files != ["compose.yml"] else None)

    @property
    def image(self) -> str:
        """The version that serves."""
        return self.setting("IMAGE")

    @property
    def database(self) -> str:
        return self.setting("APPLICATION_DB", "application")

    @property
    def role(self) -> str:
        return self.setting("APPLICATION_USER", "application")

    @property
    def front(self) -> str:
        """The network on which nginx finds replicas."""
        return f"{self.name}_front"

    @property
    def primary(self) -> str:
        """
        The service of the database that accepts writes, as .env says; `promote` records others than `db`.

        With Patroni it is another question: Docker.primary.
        """
        return self.setting("DATABASE_SERVICE", "db")

    @property
    def backup_to(self) -> str:
        """The other place for backups and the archive, in rclone's words; empty where there is none."""
        return self.setting("BACKUP_TO").rstrip("/")

    @property
    def managed(self) -> bool:
        """Whether the database is somebody else's, and no container."""
        return "compose.managed.yml" in self.setting("COMPOSE_FILE")

    @property
    def is_web_host(self) -> bool:
        """Whether this host has `web` only, for the nginx and the database of another one."""
        return self.setting("ROLE") == "web"

    @property
    def has_database(self) -> bool:
        """Whether a container of ours is the database."""
        return not (self.managed or self.is_web_host)

    @property
    def automatic(self) -> bool:
        """Whether Patroni decides which server of the database is the primary."""
        return self.setting("REPLICAS") == "automatic"

    def switched_on(self, name: str, *, instead: str, values: tuple[str, ...] = ("on",)) -> bool:
        """Whether .env has one of these; Failure with a managed database, whose provider has `instead`."""
        value = self.setting(name, "off")
        if value not in {"off", *values}:
            raise Failure(
                f"{name}={value} in .env is not known; nothing was changed",
                ", ".join(f"{name}={one}" for one in values) + ", or off",
            )
        if value != "off" and self.managed:
            raise Failure(
                f"{name}={value} is for a database of ours, and .env names a managed one; "
                "nothing was changed",
                f"the provider's own {instead}; take {name} out of .env",
            )
        return value != "off"

    # --- Secrets

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    def write_secret(self, name: str, text: str) -> None:
        """
        Replace a secret's file.

        Running containers keep the old one, which is mounted; those that start later get this one.
        """
        environment.replace(self.secrets / name, text, 0o644 if name in OF_THE_SERVERS else 0o600)

    # --- What was done

    def note(self, command: str, **facts: Any) -> None:
        """A line of the journal."""
        with self.journal.open("a") as file:
            file.write(json.dumps({"at": now(), "command": command, **facts}) + "\n")

    def notes(self, command: str | None = None) -> list[dict[str, Any]]:
        """The journal, oldest first; lines that a full disk has cut are left out."""
        found = []
        try:
            lines = self.journal.read_text().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if command is None or entry.get("command") == command:
                found.append(entry)
        return found

    def proofs(self) -> list[dict[str, Any]]:
        """The journal's lines on backups that were read back: drills, and restores of a file."""
        return [
            note
            for note in self.notes()
            if note.get("command") == "drill" or (note.get("command") == "restore" and "file" in note)
        ]

    # --- One at a time

    @contextmanager
    def lock(self, command: str, wait: float = 0) -> Iterator[None]:
        """Let one command at a time change something; another one waits for it, or fails with status 3."""
        with lock_file(self.deploy / ".lock", command, wait):
            yield


@contextmanager
def lock_file(path: Path, command: str, wait: float = 0) -> Iterator[None]:
    """Hold the lock of a file. The kernel releases it when this process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = (
                        os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another command"
                    )
                    raise Failure(
                        f"{holder} is at work in this folder; nothing was changed",
                        "wait for its end, or try again with --wait 600",
                        status=3,
                    ) from None
            time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{command} (process {os.getpid()}, since {now()})".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
