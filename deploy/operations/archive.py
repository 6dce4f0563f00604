"""`archive`: what `restore --at` needs, to BACKUP_TO and back."""

import argparse

from deploy.operations.backup import megabytes
from deploy.operations.pitr.elsewhere import WHOLE, Elsewhere, files
from deploy.operations.project import Project
from deploy.operations.report import Report

HELP = """\
Bring the archive of PITR=on to BACKUP_TO/archive, or from there to a new host.

--copy brings there what is not there yet, encrypted with backup_key: WAL segments and base backups that are
whole, once, and what changed of the rest. It adds, overwrites nothing that is whole, and removes nothing. It
needs no container, and the site goes on. With ARCHIVE_COPY_EVERY=1min in .env ./deploy/rentomatic schedule
lets systemd do it.

--fetch brings the newest copy into PITR_FOLDER, beside what is there, and says to which second `restore --at`
can go then. Each file is authenticated. Where one is damaged or gone, nothing is changed; --accept leaves it
out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--copy", action="store_true", help="bring to BACKUP_TO what is not there yet")
    action.add_argument("--fetch", action="store_true", help="bring the newest copy into PITR_FOLDER")
    parser.add_argument("--accept", action="store_true", help="fetch also where files are damaged or gone")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    elsewhere = Elsewhere(project)
    place = f"{elsewhere.target.place}/archive"
    if options.dry_run:
        if options.copy:
            kept = files(elsewhere.archive.folder, WHOLE)
            size = megabytes(sum(status.st_size for status in kept.values()))
            report.say(f"Would copy to {place} what it has not got of {len(kept)} files ({size}).")
        else:
            report.say(f"Would fetch the newest copy of {place} into {elsewhere.archive.folder}.")
        return
    if options.copy:
        elsewhere.copy(report, options.wait)
        return
    with project.lock("archive --fetch", options.wait):
        elsewhere.fetch(report, accept=options.accept, wait=options.wait)
