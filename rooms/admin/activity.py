"""What everybody did to the rooms, deleted ones too: a page over the log entries, newest first."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from rooms.columns import COLUMNS
from rooms.models import Room

PER_PAGE = 100
MAX_ID = 2**31 - 1  # of the table's integer keys


class ActivityForm(forms.Form):
    """The filters of the page; all are optional."""

    who = forms.CharField(required=False, max_length=150, help_text="A username.")
    room = forms.CharField(required=False, max_length=36, help_text="A room's whole code.")
    what = forms.ChoiceField(
        required=False,
        choices=[("", "Everything"), ("added", "Added"), ("changed", "Changed"), ("deleted", "Deleted")],
    )
    before = forms.IntegerField(required=False, min_value=1, max_value=MAX_ID, widget=forms.HiddenInput)
    """The key of the last entry of the page before."""

    def clean_room(self) -> str:
        code = self.cleaned_data["room"].strip()
        try:
            return str(COLUMNS["code"].parse(code)) if code else ""
        except ValueError as error:
            raise forms.ValidationError(f"The code {error}.") from None


FLAGS = {"added": ADDITION, "changed": CHANGE, "deleted": DELETION}


def room_entries() -> QuerySet[LogEntry]:
    return LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Room))


def find_entries(who: str, room: str, what: str, before: int | None) -> QuerySet[LogEntry]:
    """Newest first; the order of the keys is that of the time, and is read from their index."""
    entries = room_entries().select_related("user").order_by("-pk")
    if who:
        entries = entries.filter(user__username=who)
    if room:
        entries = entries.filter(object_repr=room)
    if what:
        entries = entries.filter(action_flag=FLAGS[what])
    if before:
        entries = entries.filter(pk__lt=before)
    return entries


class ActivityMixin:
    """The URL of the page, and the way to it from rooms that are deleted; for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.activity_view)
        return [path("activity/", view, name="rooms_room_activity"), *super().get_urls()]  # type: ignore[misc]  # of ModelAdmin

    def activity_view(self: Any, request: HttpRequest) -> HttpResponse:
        """A page of entries; two queries."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        form = ActivityForm(request.GET)
        entries: list[LogEntry] = []
        if form.is_valid():
            entries = list(find_entries(**form.cleaned_data)[: PER_PAGE + 1])
        shown = entries[:PER_PAGE]
        rooms = Room.objects.filter(pk__in=[entry.object_id for entry in shown])
        there = {str(pk) for pk in rooms.values_list("pk", flat=True)}
        older = ""
        if len(entries) > PER_PAGE:
            query = request.GET.copy()
            query["before"] = str(shown[-1].pk)
            older = query.urlencode()
        return TemplateResponse(
            request,
            "admin/rooms/activity.html",
            {
                **self.admin_site.each_context(request),
                "title": "Activity",
                "opts": self.opts,
                "form": form,
                "entries": [(entry, entry.object_id in there) for entry in shown],
                "older": older,
            },
        )

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
        messages.warning(request, "This room was deleted. This is its history.")
        query = QueryDict(mutable=True)
        query["room"] = entry.object_repr
        return HttpResponseRedirect(f"{reverse('admin:rooms_room_activity')}?{query.urlencode()}")
