"""
The pages of jobs: the list of them, and one job: how far it came, with buttons that continue and cancel it,
and what an undo would do.
"""

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import get_text_list
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from rooms.admin.actions import bulk, large
from rooms.admin.actions.bulk import MAX_SHOWN, warn_of_changes
from rooms.admin.actions.delete import DELETE
from rooms.admin.actions.prices import PRICES
from rooms.admin.jobs import undo
from rooms.admin.jobs.record import report
from rooms.admin.locks import StaleVersionError, is_lock_timeout, offer_retry_on_lock_timeout
from rooms.admin.numbers import grouped
from rooms.admin.recorded import show_title
from rooms.counting import Count
from rooms.models import Job

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

OPERATIONS = {"prices": PRICES, "delete": DELETE}
PROGRESS = {
    "prices": ngettext_lazy(
        "%(done)s of %(total)s room changed", "%(done)s of %(total)s rooms changed", "number"
    ),
    "delete": ngettext_lazy(
        "%(done)s of %(total)s room deleted", "%(done)s of %(total)s rooms deleted", "number"
    ),
    "undo": ngettext_lazy(
        "%(done)s of %(total)s room brought back", "%(done)s of %(total)s rooms brought back", "number"
    ),
}

SECONDS = 1.0
"""Work of one request of the page's script, which shows the progress and can be cancelled in between."""
SECONDS_WITHOUT_SCRIPT = 5.0
"""Work of one click; REQUEST_TIMEOUT is 15 s."""
PER_PAGE = 100
RIGHTS = {"add": _("add rooms"), "change": _("change rooms"), "delete": _("delete rooms")}


class JobMixin:
    """The URLs of jobs, for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("jobs/", view(self.job_list_view), name="rooms_room_jobs"),
            path("jobs/<int:pk>/", view(self.job_view), name="rooms_room_job"),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def job_list_view(self: Any, request: HttpRequest) -> HttpResponse:
        """The jobs, newest first; one query."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        jobs = Job.objects.select_related("user").order_by("-pk")
        before = request.GET.get("before", "")
        if before.isascii() and before.isdecimal() and len(before) < 19:
            jobs = jobs.filter(pk__lt=int(before))
        shown = list(jobs[: PER_PAGE + 1])
        return TemplateResponse(
            request,
            "admin/rooms/jobs.html",
            {
                **self.admin_site.each_context(request),
                "title": gettext("Jobs"),
                "opts": self.opts,
                "jobs": [(job, Count(job.changed)) for job in shown[:PER_PAGE]],
                "older": shown[PER_PAGE - 1].pk if len(shown) > PER_PAGE else None,
                "undo_days": settings.UNDO_DAYS,
            },
        )

    @offer_retry_on_lock_timeout
    def job_view(self: Any, request: HttpRequest, pk: int) -> HttpResponse:
        """
        One job; POST continues, cancels or undoes it. JSON for the page's script.

        Those who see rooms see it; only who began it continues or cancels it.
        """
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        job = Job.objects.select_related("user", "undoes").filter(pk=pk).first() if pk < 2**63 else None
        if job is None:
            raise Http404
        if request.method == "POST":
            if "undo" in request.POST:
                return undo_job(self, request, job)
            return advance(self, request, job)
        return show(self, request, job)


def is_running(job: Job) -> bool:
    return job.state == Job.State.RUNNING and not large.is_expired(job)


def may(model_admin: "RoomAdmin", request: HttpRequest, permissions: list[str]) -> bool:
    return all(getattr(model_admin, f"has_{name}_permission")(request) for name in permissions)


def show(model_admin: "RoomAdmin", request: HttpRequest, job: Job) -> HttpResponse:
    context: dict[str, Any] = {
        **model_admin.admin_site.each_context(request),
        "title": show_title(job.title),
        "opts": model_admin.opts,
        "job": job,
        "state": describe(job),
        "mine": job.user_id == request.user.pk,
        "begins": "start" in request.GET,
        "undone_by": job.undone_by.select_related("user").order_by("pk"),
    }
    if not is_running(job):
        found = undo.preview(job)
        missing = [name for name in found.permissions if not may(model_admin, request, [name])]
        refused = undo.noted_rooms(job, fitting=False, limit=MAX_SHOWN) if found.refused else []
        context |= {
            "preview": found,
            "number": Count(found.total),
            "refused": refused,
            "refused_number": Count(found.refused),
            "fitting": undo.noted_rooms(job, fitting=True, limit=MAX_SHOWN) if found.total else [],
            "missing": get_text_list([RIGHTS[name] for name in missing], gettext("and")),
            "in_batches": found.total + found.refused > bulk.MAX_ROOMS,
            "pruned": not found.total and not found.refused,
        }
    return TemplateResponse(request, "admin/rooms/job.html", context)


def undo_job(model_admin: "RoomAdmin", request: HttpRequest, job: Job) -> HttpResponse:
    """Undo what the preview showed, at once or in batches; show the preview again where it is another now."""
    if is_running(job):
        messages.warning(request, gettext("This is still going on. Stop it first, then undo what is done."))
        return HttpResponseRedirect(job.get_absolute_url())
    found = undo.preview(job)
    if not may(model_admin, request, found.permissions):
        raise PermissionDenied
    shown = request.POST.get("fingerprint", "")
    if not found.total or found.fingerprint != shown:
        warn_of_changes(request)
        return HttpResponseRedirect(job.get_absolute_url())
    if found.total + found.refused > bulk.MAX_ROOMS:
        return large.start(undo.begin(job, request.user, found))
    try:
        undoing = undo.undo_at_once(job, request.user, shown)
    except (StaleVersionError, IntegrityError):  # somebody changed one of them, or took a code, meanwhile
        warn_of_changes(request)
        return HttpResponseRedirect(job.get_absolute_url())
    report(request, undoing, gettext("Undone: %(changes)s.") % {"changes": found.summary})
    return HttpResponseRedirect(undoing.get_absolute_url())


def advance(model_admin: "RoomAdmin", request: HttpRequest, job: Job) -> HttpResponse:
    """Continue or cancel a change in batches."""
    if not job.operation or job.user_id != request.user.pk:
        raise PermissionDenied
    undoes = job.operation == "undo"
    needed = job.parameters["permissions"] if undoes else [OPERATIONS[job.operation].permission]
    if not may(model_admin, request, needed):
        raise PermissionDenied
    scripted = request.headers.get("Accept") == "application/json"
    waits = False
    if "cancel" in request.POST:
        job = large.cancel(job)
    else:
        try:
            seconds = SECONDS if scripted else SECONDS_WITHOUT_SCRIPT
            if undoes:
                job = large.run(job.pk, lambda: undo.undo_batch(job.pk), seconds)
            else:
                rooms = large.selection(model_admin, request, job)
                operation = OPERATIONS[job.operation]
                job = large.run(job.pk, lambda: large.run_batch(job.pk, operation, rooms), seconds)
        except OperationalError as error:
            if not is_lock_timeout(error):
                raise
            waits = True
            job.refresh_from_db()
    if scripted:
        return JsonResponse(describe(job, waits=waits))
    return HttpResponseRedirect(job.get_absolute_url())


def describe(job: Job, *, waits: bool = False) -> dict[str, Any]:
    """The state for the page and its script."""
    progress = PROGRESS.get(job.operation, PROGRESS["prices"])
    done = progress % {"number": job.total, "done": grouped(job.changed), "total": grouped(job.total)}
    if waits:
        text = gettext("%(done)s. Other work holds the next rooms; this goes on when it is finished.")
    elif job.state != Job.State.DONE and not is_running(job):
        text = gettext("Stopped: %(done)s. The others are as they were.")
    elif job.state == Job.State.DONE and job.left:
        text = ngettext(
            "%(done)s. Others changed or deleted %(left)s since the preview; it was left alone.",
            "%(done)s. Others changed or deleted %(left)s since the preview; these were left alone.",
            job.left,
        )
    else:
        text = "%(done)s."
    return {
        "running": is_running(job),
        "changed": job.changed,
        "total": job.total,
        "waits": waits,
        "text": text % {"done": done, "left": grouped(job.left)},
    }
