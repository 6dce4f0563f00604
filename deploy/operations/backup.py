"""`backup`: the database of the running stack, in a file that has been read back."""

import argparse
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from deploy.operations import backup_metrics, manifest, process, seal, site_settings, snapshot
from deploy.operations.database import Database, literal
from deploy.operations.docker import Docker
from deploy.operations.manifest import Manifest
from deploy.operations.project import Project, now
from deploy.operations.report import Failure, Report
from deploy.operations.snapshot import Snapshot
from deploy.operations.target import Target

HELP = """\
Save the database of the running stack.

Writes FOLDER/rentomatic-DATE.dump (default: deploy/backups), which only you can read, with a manifest beside
it: version, schema, numbers of rows in the dump's own snapshot, and checksums. Reads the contents back, and
keeps the newest of those that this command has written. Nothing is locked: the site goes on. Where it fails,
older backups are as they were.

With a key, which ./deploy/rentomatic rotate backup_key makes, all is encrypted, and .env, secrets and
certificate go along. Where BACKUP_TO in .env names another place, what is not there yet is copied to it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="where to (default: deploy/backups)")
    parser.add_argument(
        "--keep",
        metavar="NUMBER",
        default=os.environ.get("KEEP", "14"),
        help="how many backups are kept (default: KEEP of the environment, else 14)",
    )
    parser.add_argument(
        "--copy", action="store_true", help="make none, and copy to BACKUP_TO what is not there yet"
    )


def run(options: argparse.Namespace, report: Report) -> None:
    keep = number_to_keep(options.keep)
    target = Path(options.folder).resolve() if options.folder else None
    project = Project()
    target = target or project.deploy / "backups"
    elsewhere = Target(project)
    refuse_unencrypted(project, elsewhere)
    if options.copy:
        copy(project, elsewhere, target, report, dry=options.dry_run)
        return
    docker = Docker(project)
    if options.dry_run:
        database = Database(docker)
        query = f"SELECT pg_database_size({literal(project.database)}) AS bytes"
        (row,) = database.rows(query)
        gone = [str(path) for path in surplus(target, keep - 1, datetime.now(UTC))]
        report.data |= {"database_bytes": row["bytes"], "would_remove": gone}
        report.say(f"Would save {project.database} ({megabytes(row['bytes'])}) in {target}.")
        report.say(f"Would remove: {', '.join(gone) or 'nothing'}.")
        return
    with project.lock("backup", options.wait):
        file = save(project, docker, target, report)
        removed = surplus(target, keep, manifest.taken_at(file) or datetime.now(UTC))
        for old in removed:
            remove(old)
        size = file.stat().st_size
        project.note("backup", file=str(file), bytes=size)
        if target == project.deploy / "backups":
            backup_metrics.write(project)
        report.data |= {"file": str(file), "bytes": size, "removed": [str(path) for path in removed]}
        report.say(f"{shown(file, project)} ({megabytes(size)})")
    if elsewhere:
        copy(project, elsewhere, target, report)


def refuse_unencrypted(project: Project, elsewhere: Target) -> None:
    """Before anything is made: what leaves this host is encrypted."""
    if elsewhere and not seal.keys(project):
        raise Failure(
            f"backups go to {elsewhere.place}, and there is no key to encrypt them; no backup was made",
            "./deploy/rentomatic rotate backup_key",
        )


def copy(project: Project, elsewhere: Target, folder: Path, report: Report, dry: bool = False) -> None:
    """Bring to BACKUP_TO what is not there; without the project's lock, so that a slow place stops nobody."""
    if not elsewhere:
        raise Failure("BACKUP_TO in .env names no place", "docs/deployment.md#elsewhere", status=2)
    if dry:
        report.say(f"Would copy to {elsewhere.place}: {', '.join(elsewhere.missing(folder)) or 'nothing'}.")
        return
    report.step(f"Copying to {elsewhere.place} …")
    report.data["copied"] = elsewhere.copy(folder, report)
    project.note("copy", place=elsewhere.place, files=report.data["copied"])
    if folder == project.deploy / "backups":
        backup_metrics.write(project)


def number_to_keep(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) == 0:
        raise Failure(
            f"{text!r} is no number of backups to keep; nothing was saved and nothing removed",
            "./deploy/rentomatic backup --keep 14",
            status=2,
        )
    return int(text)


def surplus(folder: Path, keep: int, now: datetime) -> list[Path]:
    """
    The backups beyond the newest `keep`, oldest first.

    Only what has a name of ours counts, by the time in that name: a copy by hand or another program's file
    is neither removed nor takes the place of one, and neither is one from the future.
    """
    found = manifest.past(folder, now)
    return found[: max(0, len(found) - keep)]


def remove(dump: Path) -> None:
    """A backup and all that belongs to it; the dump first, without which the others are none."""
    dump.unlink()
    for path in dump.parent.glob(f"{dump.name}.*"):
        path.unlink()


def save(project: Project, docker: Docker, target: Path, report: Report) -> Path:
    """Write a backup and its digest; what was begun is removed where it fails."""
    database = Database(docker)
    if not database.exists(project.database):
        raise Failure(
            f"there is no database {project.database!r}; no backup was made", "docker compose ps db"
        )
    key = next(iter(seal.keys(project)), None)
    began = time.monotonic()
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        date = now()
        name = f"rentomatic-{date}.dump"
        partial = target / f".{name}.partial"
        remove_partial_ones(target)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failure(f"{target} cannot be written to: {error.strerror}; no backup was made") from None
    try:
        with os.fdopen(descriptor, "r+b") as file:
            report.step("Saving …")
            with seal.writing(file, key) as stored:
                held = dump(project, database, stored, target)
            report.step("Reading it back …")
            file.flush()
            os.fsync(descriptor)
            file.seek(0)
            # The contents list is at the start and refers to every part: a dump that was cut off is refused.
            with seal.reading(file, key) as stored:
                read = database.program("pg_restore", "--file", "/dev/null", stdin=stored)
            if not read:
                raise Failure(f"the dump cannot be read back ({read.text}); no backup was made", "df -h")
        described = Manifest(
            at=date,
            site=project.name,
            host=project.setting("SITE_HOST"),
            image=project.image,
            postgresql=held.facts["postgresql"],
            database_bytes=held.facts["database_bytes"],
            migrations=held.facts["migrations"],
            rows=held.rows,
            seconds=round(time.monotonic() - began, 1),
            parts={"dump": manifest.part(partial, name)},
        )
        with process.held():
            # The dump comes last: with it, all is there.
            if key is not None:
                settings = site_settings.save(project, target / name, key)
                described.parts["settings"] = manifest.part(settings)
            manifest.write(target / name, described.sealed(key))
            partial.replace(target / name)
    except OSError as error:
        raise Failure(
            f"{target} cannot be written to: {error.strerror}; no backup was made", f"df -h {target}"
        ) from None
    finally:
        remove_partial_ones(target)
    return target / name


def remove_partial_ones(target: Path) -> None:
    """What a killed backup has left: the lock says that none is under way in this project."""
    for path in target.glob(".rentomatic-*.dump*.partial"):
        path.unlink(missing_ok=True)
    for path in target.glob("rentomatic-*.dump.json.new"):
        path.unlink(missing_ok=True)


def dump(project: Project, database: Database, file: IO[bytes], target: Path) -> Snapshot:
    """
    pg_dump into a file. Ctrl-C ends pg_dump too, which runs in the container and outlives its `docker exec`.
    """
    name = f"rentomatic backup {os.getpid()}"
    try:
        held = snapshot.dump(database, project.database, name, file)
    except BaseException:
        with process.held():
            end_sessions(database, name)
        raise
    if not held.done:
        end_sessions(database, name)
        if "no space left" in held.words.lower() or free_bytes(target) < 1_000_000:
            primary = database.docker.primary
            where, next_step = disk_that_is_full(held.words, free_bytes(target), target, primary)
            raise Failure(f"{where} is full; no backup was made", next_step)
        raise Failure(f"pg_dump failed: {held.words}; no backup was made", "docker compose ps db")
    return held


def disk_that_is_full(words: str, free: int, target: Path, service: str) -> tuple[str, str]:
    """Whose disk is full, the one for backups or the database's, and the next step."""
    # docker writes our file and PostgreSQL its own: they say it in different words.
    if free < 1_000_000 or "write /dev/stdout" in words:
        return f"the disk of {target}", f"df -h {target}"
    command = f"docker compose exec {service} df -h /var/lib/postgresql"
    return f"the database's disk ({words.strip()})", command


def end_sessions(database: Database, application_name: str) -> None:
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE application_name = {literal(application_name)}",
        check=False,
        timeout=15,
    )


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size / 1000:.1f} kB"


def shown(file: Path, project: Project) -> str:
    """A path as it is shortest to read from the project's folder."""
    return str(file.relative_to(project.folder)) if file.is_relative_to(project.folder) else str(file)
