"""What a site is besides its database: .env, secrets and certificate, as an encrypted part of a backup."""

import io
import os
import shutil
import tarfile
from pathlib import Path

from deploy.operations import environment, manifest, seal
from deploy.operations.docker import Docker
from deploy.operations.project import OF_THE_SERVERS, Project, now
from deploy.operations.report import Failure, Report
from deploy.operations.seal import Key

NOT_ALONG = {seal.NAME, seal.FORMER}
"""A key within what it encrypts opens nothing."""

LIMIT = 10_000_000
"""Bytes of a file that is taken back; they have some kilobytes."""


def save(project: Project, dump: Path, key: Key) -> Path:
    """Write the part of a backup; returns its path."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in (project.environment, *sorted(project.secrets.iterdir()), *certificates(project)):
            if path.is_file() and path.name not in NOT_ALONG:
                archive.add(path, arcname=str(path.relative_to(project.folder)))
    path = dump.with_name(f"{dump.name}.settings")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        with seal.writing(file, key) as stored:
            stored.write(packed.getvalue())
        os.fsync(descriptor)
    return path


def certificates(project: Project) -> list[Path]:
    return sorted((project.deploy / "certificates").glob("*.pem"))


def restore(docker: Docker, dump: Path, report: Report, dry: bool) -> None:
    """The settings of a backup in the place of this folder's, on a host that has no site yet."""
    project = docker.project
    found = manifest.read(dump)
    key = manifest.key_of(dump, found, seal.keys(project))
    manifest.check_parts(dump, found)
    if key is None or "settings" not in found.parts:
        raise Failure(
            f"{dump.name} is not encrypted, and so has no settings; nothing was changed",
            "./deploy/rentomatic setup, which makes new ones",
        )
    if docker.folders():
        raise Failure(
            "this folder has a site with settings of its own; nothing was changed",
            "docker compose down, which keeps the data, then the same again",
        )
    with dump.with_name(found.parts["settings"].name).open("rb") as file, seal.reading(file, key) as plain:
        files = unpack(plain.read())
    if dry:
        report.say(f"Would write {', '.join(files)}.")
        return
    text = files.pop(".env").decode()
    text = environment.changed(text, "PROJECT_FOLDER", str(project.folder))
    text = environment.changed(text, "IMAGE", None)  # no image is here yet
    keep = project.deploy / "backups" / f"settings_before_{now()}"
    keep.mkdir(mode=0o700, parents=True)
    for name, content in {**files, ".env": text.encode()}.items():
        path = project.folder / name
        if path.exists():
            shutil.copy2(path, keep / path.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        public = name == ".env" or path.name in {"fullchain.pem", *OF_THE_SERVERS}
        environment.replace(path, content.decode(), 0o644 if public else 0o600)
        give(path, environment.parse(text).get("RUN_AS", ""))
    report.say(
        f"Written: {len(files) + 1} files. Those that were here are in {keep.relative_to(project.folder)}."
    )
    report.say("Next:\n    ./deploy/rentomatic rollout\n    ./deploy/rentomatic restore " + str(dump))
    if environment.parse(text).get("ARCHIVE_COPY_EVERY"):
        report.say("or, to the last second that was copied:\n    ./deploy/rentomatic archive --fetch")


def unpack(packed: bytes) -> dict[str, bytes]:
    """The files of the part, by their paths within the project."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            parts = Path(member.name).parts
            allowed = member.name == ".env" or parts[:2] in {
                ("deploy", "secrets"),
                ("deploy", "certificates"),
            }
            content = archive.extractfile(member)
            if allowed and len(parts) in {1, 3} and ".." not in parts and content and member.size < LIMIT:
                files[member.name] = content.read()
    return files


def give(path: Path, owner: str) -> None:
    """To whom the containers run as, where we may."""
    user, _, group = owner.partition(":")
    if os.getuid() == 0 and path.name != ".env" and user.isdigit() and group.isdigit():
        os.chown(path, int(user), int(group))
