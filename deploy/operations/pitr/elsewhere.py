"""
What PITR_FOLDER holds, in another place: BACKUP_TO/archive, encrypted and authenticated by rclone's crypt.

Segments of WAL and base backups do not change any more, and go there once, under their names. What does
change (`served`, timelines' histories, the segments that are written to) goes after them as one file, the
head: with it, all that it names is there. It has two places, and takes them in turn, so that one is whole.
"""

import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploy.operations import backup_metrics, environment, pitr, process, seal
from deploy.operations.backup import free_bytes, megabytes
from deploy.operations.https import give
from deploy.operations.pitr import copying
from deploy.operations.pitr.archive import BASE, Archive
from deploy.operations.process import Done
from deploy.operations.project import Project, lock_file, now
from deploy.operations.report import Failure, Report
from deploy.operations.seal import Key
from deploy.operations.target import Target

COPY = "./deploy/rentomatic archive --copy"
FETCH = "./deploy/rentomatic archive --fetch"
REMOTE = "rentomatic_archive"
"""The name of the encrypted remote, which exists only in the environment of rclone."""

WHOLE = re.compile(rf"\d+/(wal/[0-9A-F]{{8}}-[^/]+/[0-9A-F]{{24}}|base/{BASE.pattern}/[\w.]+)")
CHANGING = re.compile(r"served|\d+/wal/[^/]+/(begun|[0-9A-F]{8}\.history|[0-9A-F]{24}\.partial)")
HEADS = ("head-0.tar.gz", "head-1.tar.gz")
LIST = "files.json"
COPIES = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}-([0-9a-f]{16})")
"""The folder of one archive's copies: when they began, a number by chance, and the id of the key."""

ONLY = ("--filter-from", "-", "--fast-list")
"""Of rclone copy: the files of Head.filter; a bucket is listed as a whole, and no file asked for."""

DAMAGED = ("failed to authenticate", "bad magic", "too short", "unexpected EOF")
"""rclone's words for what was not encrypted with the key, or has changed since."""


def files(folder: Path, pattern: re.Pattern[str]) -> dict[str, os.stat_result]:
    """The files of an archive whose path in it has that pattern; what is removed meanwhile is left out."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = str(Path(parent, name).relative_to(folder))
            if pattern.fullmatch(path):
                try:
                    found[path] = (folder / path).stat()
                except FileNotFoundError:
                    continue
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Head:
    """The head of a copy: its time, the whole files that belong to it with their sizes, and the others."""

    at: datetime
    whole: dict[str, int]
    packed: Path

    @classmethod
    def take(cls, folder: Path, packed: Path) -> "Head":
        """What changes is read first: a segment that becomes whole meanwhile is in both, or in the list."""
        at = datetime.now(UTC)
        with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
            for name in files(folder, CHANGING):
                try:
                    archive.add(folder / name, arcname=name)
                except FileNotFoundError:
                    continue
            whole = {name: status.st_size for name, status in files(folder, WHOLE).items()}
            text = json.dumps({"at": at.isoformat(), "whole": whole}).encode()
            listed = tarfile.TarInfo(LIST)
            listed.size = len(text)
            archive.addfile(listed, io.BytesIO(text))
        return cls(at, whole, packed)

    @classmethod
    def read(cls, packed: Path) -> "Head":
        """ValueError where it is not one, or not whole."""
        try:
            with tarfile.open(packed) as archive:
                member = archive.extractfile(LIST)
                assert member is not None
                found = json.load(member)
        except (tarfile.TarError, EOFError, OSError, KeyError) as error:
            raise ValueError(str(error)) from None
        whole = {name: size for name, size in found["whole"].items() if WHOLE.fullmatch(name)}
        return cls(datetime.fromisoformat(found["at"]), whole, packed)

    @property
    def filter(self) -> str:
        """The whole files, and no other ones, in rclone's words."""
        return "".join(f"+ /{name}\n" for name in self.whole) + "- *\n"

    @property
    def served(self) -> list[str]:
        with tarfile.open(self.packed) as archive:
            member = archive.extractfile("served")
            return member.read().decode().splitlines() if member else []

    def unpack(self, folder: Path) -> Iterator[str]:
        """Write what changes into a folder, with its times; yields the names."""
        with tarfile.open(self.packed) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None or not CHANGING.fullmatch(member.name):
                    continue
                path = folder / member.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.write_bytes(content.read())
                os.utime(path, (member.mtime, member.mtime))
                yield member.name


class Elsewhere:
    """The copies of an archive, in BACKUP_TO."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.archive = Archive(project)
        self.target = Target(project)
        self.keys = seal.keys(project)
        self.work = project.deploy / ".archive-head"
        """A folder for heads on their way."""
        if not self.target:
            raise Failure("BACKUP_TO in .env names no place", "docs/deployment.md#elsewhere", status=2)

    def rclone(self, key: Key, name: str, *arguments: str, text: str = "") -> Done:
        """With the remote for what a key encrypts in a folder of copies; no argument has the key."""
        password = self.target.rclone("obscure", "-", text=key.derived("archive").hex())
        self.target.expect(password, "rclone has refused the key of", COPY)
        options = {
            "TYPE": "crypt",
            "REMOTE": f"{self.target.place}/archive/{name}",
            "PASSWORD": password.stdout.strip(),
            "FILENAME_ENCRYPTION": "off",
            "DIRECTORY_NAME_ENCRYPTION": "false",
        }
        variables = {f"RCLONE_CONFIG_{REMOTE.upper()}_{option}": value for option, value in options.items()}
        return self.target.rclone(*arguments, variables=variables, text=text)

    # --- There

    def copy(self, report: Report, wait: float = 0) -> None:
        """
        Bring there what is not there yet.

        Nothing is removed there, and nothing that is whole is overwritten.
        """
        if not pitr.wanted(self.project):
            raise Failure("no WAL is received", "PITR=on in .env, then ./deploy/rentomatic apply")
        if not self.keys:
            raise Failure(
                f"the archive goes to {self.target.place}, and there is no key to encrypt it; "
                "nothing was copied",
                "./deploy/rentomatic rotate backup_key",
            )
        if not self.archive.served:
            raise Failure(
                f"nothing is kept in {self.archive.folder}; nothing was copied",
                "docker compose up -d archive; docker compose logs --tail 20 archive",
            )
        with self.working("archive --copy", wait):
            self.target.sizes(COPY)
            facts = self.begin()
            at, seen = datetime.now(UTC), self.seen()
            if facts["seen"] != seen:
                slot = 1 - facts["slot"]
                head = self.bring(facts["folder"])
                done = self.rclone(
                    self.keys[0], facts["folder"], "copyto", str(head.packed), f"{REMOTE}:{HEADS[slot]}"
                )
                self.target.expect(done, "the archive could not be copied to", COPY)
                facts |= {"slot": slot, "seen": seen}
            copying.note(self.project, **facts | {"at": at.isoformat()})
            backup_metrics.write(self.project)
        report.data |= {"at": at.isoformat(), "place": self.target.place}
        report.say(f"All that was kept at {at:%Y-%m-%d %H:%M:%S} UTC is in {self.target.place}/archive.")

    @contextmanager
    def working(self, command: str, wait: float = 0) -> Iterator[None]:
        """One at a time, with a folder for heads that only the operator reads."""
        with lock_file(self.project.deploy / ".lock-archive", command, wait):
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(mode=0o700)
            try:
                yield
            finally:
                shutil.rmtree(self.work)

    def seen(self) -> str:
        """By it all that is kept is known to be as it was: on an idle site nothing is brought again."""
        states = [
            (name, status.st_size, status.st_mtime_ns)
            for pattern in (WHOLE, CHANGING)
            for name, status in files(self.archive.folder, pattern).items()
        ]
        return hashlib.sha256(repr(states).encode()).hexdigest()

    def first(self) -> str:
        """The first line of `served`: another one is another archive."""
        with (self.archive.folder / "served").open() as file:
            return file.readline().strip()

    def begin(self) -> dict[str, Any]:
        """
        What is known of the last copy.

        Each host, archive and key has a folder of its own: no copy takes the place of another one's. It is
        written down at once, so that a first copy which is given up is gone on with.
        """
        facts = copying.copied(self.project)
        key = self.keys[0].id
        if facts.get("key") != key or facts.get("since") != self.first():
            facts |= {"folder": f"{now()}-{secrets.token_hex(4)}-{key}", "key": key, "since": self.first()}
            facts |= {"place": self.target.place, "slot": 1, "seen": ""}
            copying.note(self.project, **facts)
        return facts

    def bring(self, folder: str) -> Head:
        """Whole files that are not there yet; again where old ones were removed here meanwhile."""
        for _ in range(3):
            head = Head.take(self.archive.folder, self.work / "head.tar.gz")
            done = self.rclone(
                self.keys[0], folder, "copy", str(self.archive.folder), f"{REMOTE}:", "--size-only", *ONLY,
                text=head.filter,
            )  # fmt: skip
            if set(head.whole) <= set(files(self.archive.folder, WHOLE)):
                self.target.expect(done, "the archive could not be copied to", COPY)
                return head
        raise Failure(f"{self.archive.folder} changes all the time; nothing that is there has changed", COPY)

    # --- Back

    def fetch(self, report: Report, *, accept: bool = False, wait: float = 0) -> None:
        """Bring the newest copy of another archive into PITR_FOLDER, beside what is there."""
        self.target.sizes(FETCH)
        with self.working("archive --fetch", wait):
            found = self.newest(report)
            if found is None:
                report.say(f"{self.archive.folder} has all that is there already; nothing was changed.")
                return
            pitr.make_folder(self.project)
            self.bring_back(*found, report, accept)

    def newest(self, report: Report) -> tuple[Key, str, Head] | None:
        """The newest head that knows of more than this folder; Failure where none can be read."""
        listed = self.target.rclone("lsf", "--dirs-only", f"{self.target.place}/archive")
        if "directory not found" not in listed.stderr:
            self.target.expect(listed, "nothing can be read from", FETCH)
        matches = [COPIES.fullmatch(line.rstrip("/")) for line in listed.stdout.splitlines()]
        folders = {match[0]: match[1] for match in matches if match}
        of = {key.id: key for key in self.keys}
        heads = [
            (of[key], folder, head)
            for folder, key in folders.items()
            if key in of
            for head in self.heads(of[key], folder, report)
        ]
        if not heads:
            others = sorted(set(folders.values()) - set(of))
            why = f"; there are copies of the key {', '.join(others)}" if others else ""
            raise Failure(
                f"{self.target.place}/archive has no whole copy that the keys of this site open{why}; "
                "nothing was changed",
                "the backup_key of then, in deploy/secrets" if others else COPY,
            )
        try:
            here = set((self.archive.folder / "served").read_text().splitlines())
        except FileNotFoundError:
            here = set()
        unknown = [one for one in heads if set(one[2].served) - here]
        return max(unknown, key=lambda one: one[2].at, default=None)

    def heads(self, key: Key, folder: str, report: Report) -> Iterator[Head]:
        listed = self.rclone(key, folder, "lsf", "--files-only", f"{REMOTE}:")
        self.target.expect(listed, "nothing can be read from", FETCH)
        for name in sorted({*listed.stdout.split()} & {*HEADS}):
            packed = self.work / f"{folder}-{name}"
            done = self.rclone(key, folder, "copyto", f"{REMOTE}:{name}", str(packed))
            if not is_damage(done):
                self.target.expect(done, "nothing can be read from", FETCH)
            try:
                head = Head.read(packed)
            except ValueError:
                report.warn(f"{self.target.place}/archive/{folder}/{name}.bin is damaged or cut off")
                continue
            yield head

    def bring_back(self, key: Key, folder: str, head: Head, report: Report, accept: bool) -> None:
        here = self.archive.folder
        staged = here / ".fetched"
        staged.mkdir(mode=0o700, exist_ok=True)
        self.expect_room(head, files(staged, WHOLE))
        report.step(f"Fetching {megabytes(sum(head.whole.values()))} from {self.target.place}/archive …")
        done = self.rclone(key, folder, "copy", f"{REMOTE}:", str(staged), *ONLY, text=head.filter)
        if not is_damage(done):
            self.target.expect(done, "the archive could not be fetched from", FETCH)
        arrived = {name: status.st_size for name, status in files(staged, WHOLE).items()}
        lost = [name for name, size in head.whole.items() if arrived.get(name) != size]
        if lost and not accept:
            raise Failure(
                f"{len(lost)} of {len(head.whole)} files in {self.target.place}/archive/{folder} are damaged "
                f"or gone, the first is {lost[0]}; nothing was changed",
                f"{FETCH} --accept, which leaves them out; restore --at says what can be reached then",
            )
        with process.held():
            whole = [name for name in head.whole if name not in lost]
            for name in [*whole, *(one for one in head.unpack(staged) if one != "served")]:
                self.put(staged / name, here / name)
            self.merge_served(head)
            shutil.rmtree(staged)
        last = head.at.replace(microsecond=0) + timedelta(seconds=1)
        report.data |= {"at": head.at.isoformat(), "files": len(whole), "left_out": lost}
        report.say(f"Fetched: what was kept at {head.at:%Y-%m-%d %H:%M:%S} UTC, {len(whole)} files.")
        report.say("Next, the first of them where no site runs yet:\n    ./deploy/rentomatic rollout")
        report.say(f'    ./deploy/rentomatic restore --at "{last:%Y-%m-%d %H:%M:%S}"')

    def expect_room(self, head: Head, staged: dict[str, os.stat_result]) -> None:
        needed = sum(head.whole.values()) - sum(status.st_size for status in staged.values())
        free = free_bytes(self.archive.folder)
        if free < needed + 100_000_000:
            raise Failure(
                f"{self.archive.folder} has {megabytes(free)} free, and the archive has "
                f"{megabytes(needed)}; nothing was changed",
                f"df -h {self.archive.folder}; PITR_FOLDER in .env names another one",
            )

    def put(self, staged: Path, path: Path) -> None:
        """A file in its place, as the containers' own; what is here already stays."""
        if path.exists():
            return
        owner = self.project.setting("RUN_AS")
        for folder in reversed(path.relative_to(self.archive.folder).parents):
            there = self.archive.folder / folder
            if not there.exists():
                there.mkdir(mode=0o700)
                give(there, owner)
        staged.chmod(0o600)
        give(staged, owner)
        staged.replace(path)

    def merge_served(self, head: Head) -> None:
        """Last: with it, the archive knows of what came. Lines begin with their time."""
        path = self.archive.folder / "served"
        lines = set(head.served) | set(path.read_text().splitlines() if path.exists() else ())
        environment.replace(path, "\n".join([*sorted(lines), ""]), 0o600)
        give(path, self.project.setting("RUN_AS"))


def is_damage(done: Done) -> bool:
    return not done and any(words in done.stderr for words in DAMAGED)
