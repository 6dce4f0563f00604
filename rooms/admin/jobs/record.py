"""Recording what is done to rooms as a job, which can be undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import messages
from django.db import connection, transaction
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext

from rooms.models import Job

TITLE_LENGTH = 200


def set_job(key: str) -> None:
    """In this transaction triggers note each changed room for this job; for none where empty."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('rooms.job', %s, true)", [key])


@contextmanager
def recorded(user: Any, title: str) -> Iterator[Job]:
    """
    Record the rooms that change inside as a job, in one transaction with the changes.

    Where nothing changed there is no job: its key is None afterwards.
    """
    with transaction.atomic():
        job = Job.objects.create(user_id=user.pk, title=title[:TITLE_LENGTH])
        set_job(str(job.pk))
        yield job
        set_job("")
        job.total = job.changed = job.rooms.count()
        job.state = Job.State.DONE
        if job.total:
            job.save()
        else:
            job.delete()


def with_undo(job: Job | None, text: str) -> str:
    """A message, with the link to the page where the job can be undone."""
    if job is None or job.pk is None:
        return text
    return format_html('{} <a href="{}">{}</a>', text, job.get_absolute_url(), gettext("Undo…"))


def report(request: HttpRequest, job: Job | None, text: str) -> None:
    messages.success(request, with_undo(job, text))
