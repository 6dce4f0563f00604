"""What everybody did to the rooms, deleted ones too: a page and a file of the log entries, newest first."""

from collections.abc import Generator, Iterable
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext, override
from django.utils.translation import gettext_lazy as _

from rooms.admin.files.export import stream_csv
from rooms.admin.history import room_entries
from rooms.api.exports import STREAM_ROWS, streaming_cursor
from rooms.columns import COLUMNS
from rooms.models import Job, JobRoom
from rooms.naming import room_name, room_names

PER_PAGE = 100
MAX_ID = 2**31 - 1  # of the table's integer keys
MAX_BIG_ID = 2**63 - 1  # of jobs and rooms


class ActivityForm(forms.Form):
    """The filters of the page; all are optional."""

    who = forms.CharField(label=_("Who"), required=False, max_length=150, help_text=_("A username."))
    room = forms.CharField(
        label=_("Room"), required=False, max_length=36, help_text=_("A room's whole code.")
    )
    what = forms.ChoiceField(
        label=_("What"),
        required=False,
        choices=[
            ("", _("Everything")),
            ("added", _("Added")),
            ("changed", _("Changed")),
            ("deleted", _("Deleted")),
        ],
    )
    job = forms.IntegerField(
        label=_("Job"), required=False, min_value=1, max_value=MAX_BIG_ID, help_text=_("The number of a job.")
    )
    since = forms.DateField(required=False, label=_("From"), widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(required=False, label=_("To"), widget=forms.DateInput({"type": "date"}))
    """The first and the last day, in the operator's time zone."""
    before = forms.IntegerField(required=False, min_value=1, max_value=MAX_ID, widget=forms.HiddenInput)
    """The key of the last entry of the page before."""
    below = forms.IntegerField(required=False, min_value=1, max_value=MAX_BIG_ID, widget=forms.HiddenInput)
    """Of a job: the lowest key of the rooms of the page before."""

    @property
    def filters(self) -> dict[str, Any]:
        """The arguments of `find_entries`, without those of the page."""
        return {name: self.cleaned_data[name] for name in ("who", "room", "what", "since", "until")}

    def clean_room(self) -> str:
        code = self.cleaned_data["room"].strip()
        try:
            return str(COLUMNS["code"].parse(code)) if code else ""
        except ValueError as error:
            raise forms.ValidationError(gettext("The code %(error)s.") % {"error": error}) from None


FLAGS = {"added": ADDITION, "changed": CHANGE, "deleted": DELETION}


COLUMNS_OF_FILE = ("time", "user", "code", "what", "change")
Row = tuple[datetime, str, str, int, str]
"""Time, username, the room's code, flag and message of a log entry."""


def find_entries(
    who: str, room: str, what: str, since: date | None, until: date | None, before: int | None = None
) -> QuerySet[LogEntry]:
    """Newest first, as the indexes of 0013_activity have them. A query for the user, one for `before`."""
    entries = room_entries().select_related("user").order_by("-action_time", "-pk")
    if who:
        user = User.objects.filter(username=who).first()
        entries = entries.filter(user=user) if user else entries.none()
    if room:
        entries = entries.filter(object_repr=room)
    if what:
        entries = entries.filter(action_flag=FLAGS[what])
    if since:
        entries = entries.filter(action_time__gte=midnight(since))
    if until and until < date.max:
        entries = entries.filter(action_time__lt=midnight(until + timedelta(days=1)))
    if before:
        last = LogEntry.objects.filter(pk=before).first()
        if last is None:
            return entries.none()
        entries = entries.filter(
            Q(action_time__lt=last.action_time) | Q(pk__lt=before), action_time__lte=last.action_time
        )
    return entries


def midnight(day: date) -> datetime:
    """The begin of a day in the operator's time zone."""
    return timezone.make_aware(datetime.combine(day, time()))


SAME_TIME = timedelta(seconds=2)
"""How far the clocks of the web server and of the database may be apart."""


def find_entries_of_job(
    key: int, entries: QuerySet[LogEntry], below: int | None
) -> tuple[list[LogEntry], int | None]:
    """
    Those of the entries that a job wrote to a page of its rooms, and where the next page begins.

    A job changes its rooms about in the order of their keys, so the pages go from the last key down: a job of
    a million rooms is as quick as a save. Empty where its rooms are not recorded any more (prune_jobs).
    """
    job = Job.objects.filter(pk=key).first()
    if job is None or job.user_id is None:
        return [], None
    noted = JobRoom.objects.filter(job_id=key, room_id__lt=below or MAX_BIG_ID).order_by("-room_id")
    found = list(noted.values_list("room_id", flat=True)[: PER_PAGE + 1])
    keys = found[:PER_PAGE]
    begin, end = job.created_at - SAME_TIME, job.updated_at + SAME_TIME
    near = JobRoom.objects.filter(room_id__in=keys, job__user=job.user_id).select_related("job")
    jobs: dict[str, list[Job]] = {}
    for row in near.filter(job__created_at__lte=end, job__updated_at__gte=begin):
        jobs.setdefault(str(row.room_id), []).append(row.job)
    written = entries.filter(
        object_id__in=[str(room) for room in keys], user_id=job.user_id, action_time__range=(begin, end)
    )
    own = [entry for entry in written if job_of(entry, jobs[str(entry.object_id)]) == job]
    return own, keys[-1] if len(found) > PER_PAGE else None


def add_jobs(entries: Iterable[LogEntry], room_id: int) -> None:
    """Set `job` of each log entry of a room: the job that wrote it; None where there is none. One query."""
    jobs = list(
        Job.objects.filter(pk__in=JobRoom.objects.filter(room_id=room_id).values("job_id")).order_by("-pk")
    )
    for entry in entries:
        entry.job = job_of(entry, jobs)  # type: ignore[attr-defined]  # Django's entry has none


def job_of(entry: LogEntry, jobs: Iterable[Job]) -> Job | None:
    """The job that wrote the entry, of those that changed its room: the same person's, at the same time."""
    own = [job for job in jobs if job.user_id == entry.user_id and time_apart(entry, job) < SAME_TIME]
    return min(own, key=lambda job: time_apart(entry, job), default=None)


def time_apart(entry: LogEntry, job: Job) -> timedelta:
    """Zero for an entry that was written while the job ran."""
    return max(job.created_at - entry.action_time, entry.action_time - job.updated_at, timedelta())


def read(entries: QuerySet[LogEntry]) -> Generator[Row, None, None]:
    """All the entries, by a server-side cursor."""
    columns = ("action_time", "user__username", "object_repr", "action_flag", "change_message")
    sql, values = entries.values_list(*columns).query.sql_with_params()
    with streaming_cursor() as cursor:
        cursor.execute(sql, values)
        yield from chain.from_iterable(iter(lambda: cursor.fetchmany(STREAM_ROWS), []))


def read_job(key: int, entries: QuerySet[LogEntry]) -> Generator[Row, None, None]:
    """All those of the entries that a job wrote, page by page."""
    below = None
    while True:
        found, below = find_entries_of_job(key, entries, below)
        for entry in found:
            user = entry.user.get_username()
            yield entry.action_time, user, entry.object_repr, entry.action_flag, entry.change_message
        if below is None:
            return


def file_lines(rows: Iterable[Row]) -> Generator[bytes, None, None]:
    """The file, in chunks."""
    kinds, local = {flag: name for name, flag in FLAGS.items()}, timezone.localtime
    yield from stream_csv(
        COLUMNS_OF_FILE,
        (
            (local(at).isoformat(timespec="seconds"), who, code, kinds[flag], message(text))
            for at, who, code, flag, text in rows
        ),
    )


def message(text: str) -> str:
    """The change in words, in English as all files; Django's form stores it as JSON."""
    with override("en"):
        return LogEntry(change_message=text).get_change_message() if text.startswith("[") else text


class ActivityMixin:
    """The URL of the page, and the way to it from rooms that are deleted; for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("activity/", view(self.activity_view), name="rooms_room_activity"),
            path("activity.csv", view(self.activity_file), name="rooms_room_activity_file"),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def activity_view(self: Any, request: HttpRequest) -> HttpResponse:
        """A page of entries; two queries, five for those of a job, one more for a user or deleted rooms."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        form = ActivityForm(request.GET)
        shown: list[LogEntry] = []
        query = request.GET.copy()
        older = ""
        if form.is_valid():
            if form.cleaned_data["job"]:
                shown, last = find_entries_of_job(
                    form.cleaned_data["job"], find_entries(**form.filters), form.cleaned_data["below"]
                )
                if last:
                    query["below"] = str(last)
                    older = query.urlencode()
            else:
                found = find_entries(**form.filters, before=form.cleaned_data["before"])
                entries = list(found[: PER_PAGE + 1])
                shown = entries[:PER_PAGE]
                if len(entries) > PER_PAGE:
                    query["before"] = str(shown[-1].pk)
                    older = query.urlencode()
        names = room_names(str(entry.object_id) for entry in shown)
        return TemplateResponse(
            request,
            "admin/rooms/activity.html",
            {
                **self.admin_site.each_context(request),
                "title": gettext("Activity"),
                "opts": self.opts,
                "form": form,
                "entries": [(entry, names[str(entry.object_id)]) for entry in shown],
                "older": older,
                "query": request.GET.urlencode(),
                "may_export": self.has_export_permission(request),
            },
        )

    def activity_file(self: Any, request: HttpRequest) -> HttpResponse:
        """The entries of the page's filters, all of them, as CSV: streamed like an export of rooms."""
        if not (self.has_view_or_change_permission(request) and self.has_export_permission(request)):
            raise PermissionDenied
        form = ActivityForm(request.GET)
        if not form.is_valid():  # the page says what is wrong
            return HttpResponseRedirect(f"{reverse('admin:rooms_room_activity')}?{request.GET.urlencode()}")
        name = f"activity-{timezone.localdate():%Y-%m-%d}.csv"
        job, entries = form.cleaned_data["job"], find_entries(**form.filters)
        lines = file_lines(read_job(job, entries) if job else read(entries))
        response: HttpResponse = self.send_file(request, lines, "text/csv", name)
        return response

    def history_view(
        self: Any, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Django's page of a room's history, with the job of each change."""
        response: Any = super().history_view(request, object_id, extra_context)  # type: ignore[misc]  # of ModelAdmin
        if hasattr(response, "context_data"):
            context = response.context_data
            add_jobs(context["action_list"], context["object"].pk)
            context["title"] = gettext("History: %(room)s") % {"room": room_name(context["object"])}
            context["subtitle"] = str(context["object"])
        return response  # type: ignore[no-any-return]  # typed as Django's

    def _get_obj_does_not_exist_redirect(
        self: Any, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        """To the history of a room that was deleted."""
        entry = room_entries().filter(object_id=object_id, action_flag=DELETION).first()
        if entry is None or not self.has_view_or_change_permission(request):
            page: HttpResponse = super()._get_obj_does_not_exist_redirect(  # type: ignore[misc]  # of ModelAdmin
                request, opts, object_id
            )
            return page
        messages.warning(request, gettext("This room was deleted. This is its history."))
        query = QueryDict(mutable=True)
        query["room"] = entry.object_repr
        return HttpResponseRedirect(f"{reverse('admin:rooms_room_activity')}?{query.urlencode()}")
