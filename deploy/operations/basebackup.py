"""`basebackup`: a copy of the whole cluster, from which `restore --at` replays the WAL."""

import argparse

from deploy.operations import pitr
from deploy.operations.backup import megabytes
from deploy.operations.docker import Docker
from deploy.operations.pitr.archive import Archive
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Save the whole database cluster, from which ./deploy/rentomatic restore --at goes forward to a second.

With PITR=on in .env the service `archive` does so by itself, once a day (PITR_BASE_HOURS) and after each
restore, and keeps the newest seven (PITR_KEEP) with the WAL since the oldest of them. A newer one makes a
restore shorter: less WAL is replayed. Nothing is locked: the site goes on. Where it fails, older ones are as
they were."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    if not pitr.wanted(project):
        raise Failure(
            "no WAL is received; nothing was saved", "PITR=on in .env, then ./deploy/rentomatic apply"
        )
    if options.dry_run:
        report.say(f"Would save the cluster in {Archive(project).folder}.")
        return
    with project.lock("basebackup", options.wait):
        docker = Docker(project)
        report.step("Saving the cluster …")
        done = docker("exec", docker.running("archive"), "sh", "/archive.sh", "base", check=False)
        if not done:
            raise Failure(
                f"no base backup was made: {done.stderr.strip()[-1000:]}",
                "./deploy/rentomatic doctor, docker compose logs --tail 20 archive",
            )
        name = done.stdout.split()[-1]
        (folder,) = Archive(project).folder.glob(f"*/base/{name}")
        size = sum(path.stat().st_size for path in folder.iterdir())
        project.note("basebackup", folder=str(folder), bytes=size)
        report.data |= {"folder": str(folder), "bytes": size}
        report.say(f"{folder} ({megabytes(size)})")
