"""The page of a bulk change in batches: how far it came, and the buttons that continue and cancel it."""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from rooms.admin.actions import large
from rooms.admin.actions.delete import DELETE
from rooms.admin.actions.prices import PRICES
from rooms.admin.locks import is_lock_timeout
from rooms.models import BulkChange

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

OPERATIONS = {"prices": PRICES, "delete": DELETE}

SECONDS = 1.0
"""Work of one request of the page's script, which shows the progress and can be cancelled in between."""
SECONDS_WITHOUT_SCRIPT = 5.0
"""Work of one click; REQUEST_TIMEOUT is 15 s."""


class ProgressMixin:
    """The URL of bulk changes, for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.bulk_change_view)
        return [
            path("bulk/<int:pk>/", view, name="rooms_room_bulk_change"),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def bulk_change_view(self: Any, request: HttpRequest, pk: int) -> HttpResponse:
        """
        The progress, or (POST) the next batches; JSON for the page's script.

        Those who may make such a change see it; only who began it continues or cancels it.
        """
        change = BulkChange.objects.select_related("user").filter(pk=pk).first()
        if change is None:
            raise Http404
        operation = OPERATIONS[change.operation]
        if not getattr(self, f"has_{operation.permission}_permission")(request):
            raise PermissionDenied
        if request.method == "POST":
            if change.user_id != request.user.pk:
                raise PermissionDenied
            return advance(self, request, change, operation)
        state = describe(change, operation)
        return TemplateResponse(
            request,
            "admin/rooms/bulk_change.html",
            {
                **self.admin_site.each_context(request),
                "title": operation.title(change.parameters),
                "opts": self.opts,
                "change": change,
                "state": state,
                "mine": change.user_id == request.user.pk,
                "begins": "start" in request.GET,
            },
        )


def advance(
    model_admin: "RoomAdmin", request: HttpRequest, change: BulkChange, operation: large.Operation
) -> HttpResponse:
    scripted = request.headers.get("Accept") == "application/json"
    waits = False
    if "cancel" in request.POST:
        change = large.cancel(change)
    else:
        rooms = large.selection(model_admin, request, change)
        try:
            change = large.run(change, operation, rooms, SECONDS if scripted else SECONDS_WITHOUT_SCRIPT)
        except OperationalError as error:
            if not is_lock_timeout(error):
                raise
            waits = True
            change.refresh_from_db()
    if scripted:
        return JsonResponse(describe(change, operation, waits=waits))
    return HttpResponseRedirect(large.page_url(change))


def describe(change: BulkChange, operation: large.Operation, *, waits: bool = False) -> dict[str, Any]:
    """The state for the page and its script."""
    done = f"{change.changed:,} of {change.total:,} rooms {operation.participle}"
    if waits:
        text = f"{done}. Other work holds the next rooms; this goes on when it is finished."
    elif change.state == change.State.RUNNING:
        text = f"{done}."
    elif change.state == change.State.CANCELLED:
        text = f"Stopped: {done}. The others are as they were."
    elif change.left:
        text = f"{done}. Others changed or deleted {change.left:,} since the preview; these were left alone."
    else:
        text = f"{done}."
    return {
        "running": change.state == change.State.RUNNING,
        "changed": change.changed,
        "total": change.total,
        "waits": waits,
        "text": text,
    }
