"""`./manage.py prune_jobs`: ends the undo of what is older than UNDO_DAYS."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from rooms.admin.jobs import prune
from rooms.models import JobRoom


class Command(BaseCommand):
    help = (
        "End the undo of jobs that are older than UNDO_DAYS: what their rooms were is deleted. Rooms, "
        "history and the list of jobs stay as they are. Jobs that somebody is undoing are left out. To be "
        "run once a day; safe to repeat and to interrupt."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say how much would be deleted")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        days = settings.UNDO_DAYS
        if not days:
            self.stdout.write("UNDO_DAYS is 0: undo reaches back for ever, and nothing was deleted.")
            return
        jobs = list(prune.old_jobs(days))
        if dry_run:
            number = JobRoom.objects.filter(job__in=jobs).count()
        else:
            number = sum(prune.prune(job) for job in jobs)
        verb = "would be deleted" if dry_run else "deleted"
        self.stdout.write(
            f"Undo reaches back {days} days: records of {number:,} rooms in {len(jobs):,} older jobs {verb}."
        )
