"""BACKUP_TO: another place for the backups, a folder, a bucket or another machine, which rclone reaches."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.operations import manifest, process
from deploy.operations.process import Done
from deploy.operations.project import Project, lock_file
from deploy.operations.report import Failure, Report

OPTIONS = ["--contimeout", "15s", "--timeout", "60s", "--retries", "2", "--low-level-retries", "3"]
# A bucket that is gone is an error; rclone would make another one, that nobody looks after.
OPTIONS += ["--s3-no-check-bucket", "--log-level", "ERROR"]

CAUSES = {
    "directory not found": "it is not there",
    "NoSuchBucket": "the bucket is not there",
    "InvalidAccessKeyId": "the credentials are refused",
    "SignatureDoesNotMatch": "the credentials are refused",
    "AccessDenied": "the credentials are refused",
    "Forbidden": "the credentials are refused",
    "unable to authenticate": "the credentials are refused",
    "knownhosts:": "the other machine is not the one of known_hosts",
    "no space left": "it is full",
    "remaining disk space": "it is full",
    "QuotaExceeded": "it is full",
    "connection refused": "nobody answers there",
    "no such host": "its name is not known",
    "i/o timeout": "it does not answer",
    "didn't find section": "rclone.conf has no such remote",
}
"""What rclone and the far side write, and what that means."""

COPY = "./deploy/rentomatic backup --copy"


class Target:
    """The place that BACKUP_TO names, in rclone's words: /mnt/nas/rooms, store:bucket/rooms, nas:rooms."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.place = project.backup_to
        self.config = project.secrets / "rclone.conf"
        seconds = project.setting("BACKUP_TIMEOUT", "3600")
        if not re.fullmatch(r"[1-9][0-9]{0,5}", seconds):
            raise Failure(
                f"BACKUP_TIMEOUT={seconds} is no number of seconds; nothing was done",
                "in .env BACKUP_TIMEOUT=3600",
                status=2,
            )
        self.seconds = int(seconds)

    def __bool__(self) -> bool:
        return bool(self.place)

    def rclone(
        self, *arguments: str, timeout: float = 0, variables: Mapping[str, str] | None = None, text: str = ""
    ) -> Done:
        """Run it with more variables in its environment, and a text to read."""
        # What is not there is an empty configuration; rclone would look for one of the user's.
        config = str(self.config) if self.config.exists() else "/dev/null"
        try:
            return process.run(
                ["rclone", "--config", config, *OPTIONS, *arguments],
                environment={**os.environ, **(variables or {})},
                text=text,
                timeout=timeout or self.seconds,
            )
        except FileNotFoundError:
            raise Failure("rclone is missing, which BACKUP_TO needs", "apt install rclone") from None

    def expect(self, done: Done, what: str, again: str = COPY) -> None:
        """Failure with the cause, and the command that is to be typed again, where rclone has failed."""
        if done:
            return
        found = [meaning for words, meaning in CAUSES.items() if words.lower() in done.stderr.lower()]
        reason = found[0] if found else " ".join(done.stderr.split())[-400:]
        if done.returncode == 124:
            reason = f"{done.stderr} (BACKUP_TIMEOUT)"
        command = f"rclone --config {self.config} lsf {self.place}"
        raise Failure(f"{what} {self.place}: {reason}", f"{command}, then {again}")

    def sizes(self, again: str = COPY) -> dict[str, int]:
        """The files that are there; Failure where the place is not."""
        # Times would be a request for each file of a bucket.
        words = ("lsjson", "--files-only", "--no-modtime", self.place)
        listed = self.rclone(*words, timeout=min(120, self.seconds))
        self.expect(listed, "nothing can be read from", again)
        found: list[dict[str, Any]] = json.loads(listed.stdout)
        return {one["Name"]: one["Size"] for one in found}

    def missing(self, folder: Path) -> dict[str, list[Path]]:
        """
        Of each encrypted backup of a folder the files that are not there, or not whole.

        The dump comes last, so that one which is there has all its parts.
        """
        there = self.sizes()
        found = {}
        for dump in manifest.backups(folder):
            files = [*sorted(dump.parent.glob(f"{dump.name}.*")), dump]
            files = [path for path in files if there.get(path.name) != path.stat().st_size]
            if files and self.encrypted(dump):
                found[dump.name] = files
        return found

    def encrypted(self, dump: Path) -> bool:
        try:
            return bool(manifest.read(dump).key)
        except Failure:
            return False

    def copy(self, folder: Path, report: Report) -> list[str]:
        """
        Bring there what is not there yet; returns the names of the backups that were brought.

        Nothing is removed there: who has taken over this host cannot take the backups, too, where the place
        lets it only add.
        """
        with lock_file(self.project.deploy / ".lock-copy", "backup --copy"):
            missing = self.missing(folder)
            for name, files in missing.items():
                for path in files:
                    done = self.rclone("copyto", str(path), f"{self.place}/{path.name}")
                    if not done:  # a full disk keeps what it has got
                        self.rclone("deletefile", f"{self.place}/{path.name}", timeout=60)
                    self.expect(done, f"{name} is kept here, but could not be copied to")
                report.say(f"Copied {name} to {self.place}.")
            return list(missing)

    def fetch(self, name: str, report: Report) -> Path:
        """A backup of there, in deploy/backups; the dump comes last."""
        there = self.sizes()
        if name not in there:
            raise Failure(
                f"{self.place} has no {name}; nothing was changed",
                f"rclone --config {self.config} lsf {self.place}",
            )
        report.step(f"Fetching {name} from {self.place} …")
        folder = self.project.deploy / "backups"
        folder.mkdir(mode=0o700, exist_ok=True)
        for one in [*(other for other in there if other.startswith(f"{name}.")), name]:
            partial = folder / f".{one}.partial"
            done = self.rclone("copyto", f"{self.place}/{one}", str(partial))
            self.expect(done, f"{one} could not be fetched from")
            partial.chmod(0o600)
            partial.replace(folder / one)
        return folder / name
