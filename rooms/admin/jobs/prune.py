"""Ending the undo of old jobs: their rooms take 0.3 kB each. The jobs stay, since histories name them."""

from datetime import timedelta

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from rooms.admin.actions import large
from rooms.models import Job, JobRoom

BATCH = 5_000

PRUNE = """
DELETE FROM room_job_room WHERE job_id = %(job)s AND room_id <= (
    SELECT max(room_id) FROM (
        SELECT room_id FROM room_job_room WHERE job_id = %(job)s ORDER BY room_id LIMIT %(batch)s
    ) AS batch
)
"""


def old_jobs(days: int) -> QuerySet[Job]:
    """Jobs of more than so many days ago with recorded rooms, without those that somebody is undoing."""
    now = timezone.now()
    going_on = Q(state=Job.State.RUNNING, created_at__gte=now - large.LIFETIME)
    undoing = Job.objects.filter(going_on, undoes=OuterRef("pk"))
    recorded = JobRoom.objects.filter(job_id=OuterRef("pk"))
    old = Job.objects.filter(created_at__lt=now - timedelta(days=days)).exclude(going_on)
    return old.filter(Exists(recorded), ~Exists(undoing)).order_by("pk")


def prune(job: Job) -> int:
    """Forget what the job's rooms were, in batches, each a transaction; how many rooms they were."""
    number = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(PRUNE, {"job": job.pk, "batch": BATCH})
            if not cursor.rowcount:
                return number
            number += cursor.rowcount
