"""The admin of the rooms: one room's page, and how the parts in the other modules are joined."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied
from django.db import IntegrityError, OperationalError
from django.db.models import QuerySet
from django.forms import Form, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rooms.admin import history
from rooms.admin.actions.prices import change_prices
from rooms.admin.actions.selection import bulk, check_keys, delete_rooms
from rooms.admin.files.resource import RoomCSV, RoomXLSX
from rooms.admin.files.uploads import SpreadsheetMixin
from rooms.admin.form import RoomForm
from rooms.admin.list_filters import FILTERS, PARAMETERS, complain, complaints
from rooms.admin.listing import RoomChangeList, RoomPaginator, searched
from rooms.admin.locks import StaleVersionError, is_held, keeps_the_form
from rooms.columns import COLUMNS, Column
from rooms.models import Room


def list_column(column: Column) -> Callable[[Room], str]:
    """A column of the list, with its unit in the heading."""

    @admin.display(description=f"{column.name}, {column.symbol}", ordering=column.name, empty_value="missing")
    def value(room: Room) -> Any:
        found = getattr(room, column.name)
        return None if found is None else column.display(found)

    value.__name__ = column.name
    return value


@admin.register(Room)
class RoomAdmin(SpreadsheetMixin, admin.ModelAdmin):
    """Rooms for staff, quick with a million of them; no edit overwrites another."""

    form = RoomForm
    fieldsets = [
        (None, {"fields": [("code", "price", "size"), "loaded_version"]}),
        ("Place", {"fields": [("latitude", "longitude"), "map"], "classes": ["place"]}),
    ]
    record_fieldset = ("Record", {"fields": [("added", "changed", "version")]})
    readonly_fields = ["map", "added", "changed", "version"]
    save_as = True

    list_display = ["code", *[list_column(column) for column in COLUMNS.values() if column.limits], "changed"]
    list_filter = FILTERS
    ordering = ["-updated_at"]
    search_fields = ["code"]
    search_help_text = "A price or size (66, 66€, 50m²), or a code or its beginning (f853578c)."
    list_per_page = 100
    list_max_show_all = 500
    paginator = RoomPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ["change_prices", "export_csv", "export_xlsx", "delete_selected"]

    # --- The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RoomChangeList]:
        return RoomChangeList

    @keeps_the_form
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        page = super().changelist_view(request, {"title": "Rooms", **(extra_context or {})})
        if page.status_code == 200:
            for complaint in complaints(request):
                messages.error(request, complaint)
        return page

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only what the filters offer; Django would take any lookup, regular expressions too."""
        return lookup in PARAMETERS

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Room], search_term: str
    ) -> tuple[QuerySet[Room], bool]:
        try:
            return searched(queryset, search_term), False
        except ValueError as error:
            complain(request, str(error))
            return queryset, False

    @admin.display(description="last change, UTC", ordering="updated_at")
    def changed(self, room: Room) -> str:
        return history.moment(room.updated_at)

    @admin.display(description="added, UTC")
    def added(self, room: Room) -> str:
        return history.moment(room.created_at)

    # --- One room

    @admin.display(description="map")
    def map(self, room: Room | None) -> SafeString:
        """The place of the map, which a script fills; without scripts the two numbers are all there is."""
        return format_html(
            '<div class="room-map" data-tiles="{}" data-attribution="{}" data-place="{}" '
            'data-code="{}"></div>',
            settings.MAP_TILES_URL,
            settings.MAP_TILES_ATTRIBUTION,
            f"{room.latitude}, {room.longitude}" if room and room.pk else "",
            room.code if room and room.pk else "",
        )

    def get_fieldsets(self, request: HttpRequest, obj: Room | None = None) -> Any:
        """A room that isn't stored yet has no record to show."""
        return [*self.fieldsets, self.record_fieldset] if obj else self.fieldsets

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)
        form.held = getattr(request, "room_is_held", False)
        return form

    @keeps_the_form
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        if request.method == "POST" and object_id and self.has_add_permission(request):
            room = self.get_object(request, unquote(object_id))
            if room is None and "price" in request.POST:
                return self.offer_to_add(request, object_id)
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except (StaleVersionError, IntegrityError):
            # Somebody saved between the form's check and our write, which is undone. Now the check sees it.
            return super().changeform_view(request, object_id, form_url, extra_context)
        except OperationalError as error:
            if request.method != "POST" or not is_held(error):
                raise
            request.room_is_held = True  # type: ignore[attr-defined]
            response = super().changeform_view(request, object_id, form_url, extra_context)
            if response.status_code == 200:
                self.tell_held(request, response)
            return response

    def tell_held(self, request: HttpRequest, response: Any) -> None:
        """The form is good, and comes back (409) all the same: a warning, not mistakes to correct."""
        response.status_code = 409
        form = response.context_data["adminform"].form
        if form.has_error(NON_FIELD_ERRORS, "held") and len(form.errors) == 1:
            messages.warning(request, form.HELD)
            response.context_data["errors"] = None

    @keeps_the_form
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """The page of the action on selected rooms, for one: it sees when the room was changed meanwhile."""
        room = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, room):
            raise PermissionDenied
        if room is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        page = bulk(delete_rooms)(self, request, Room.objects.filter(pk=room.pk))
        return page or HttpResponseRedirect(
            add_preserved_filters(
                {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts},
                reverse("admin:rooms_room_changelist"),
            )
        )

    def offer_to_add(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The room was deleted while somebody was editing it: what was typed goes into a new room's form."""
        entry = (
            LogEntry.objects.filter(
                content_type=ContentType.objects.get_for_model(Room),
                object_id=unquote(object_id),
                action_flag=DELETION,
            )
            .select_related("user")
            .first()
        )
        who = f"{entry.user.get_username()} deleted this room" if entry else "This room was deleted"
        messages.warning(
            request, f"{who} while you had it open. What you typed is below; saving adds the room again."
        )
        typed = {name: request.POST.get(name, "") for name in COLUMNS}
        return HttpResponseRedirect(f"{reverse('admin:rooms_room_add')}?{urlencode(typed)}")

    def save_model(self, request: HttpRequest, obj: Room, form: ModelForm, change: bool) -> None:
        if not change:
            obj.save()
            return
        unchanged_since = Room.objects.filter(pk=obj.pk, version=form.cleaned_data["loaded_version"])
        if not unchanged_since.update(**history.values(obj)):
            raise StaleVersionError

    def construct_change_message(
        self, request: HttpRequest, form: Form, formsets: Any, add: bool = False
    ) -> Any:
        if add:
            return super().construct_change_message(request, form, formsets, add)
        return ", ".join(
            history.change_in_words(name, form.initial[name], form.cleaned_data[name])
            for name in form.changed_data
            if name in COLUMNS
        )

    def log_change(self, request: HttpRequest, obj: Room, message: Any) -> Any:
        """A save that changed nothing is no line of history."""
        return super().log_change(request, obj, message) if message else None

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Room]) -> list[LogEntry]:
        """The history keeps what a deleted room was."""
        return history.log(request.user, DELETION, ((room, history.in_words(room)) for room in queryset))

    # --- Actions on selected rooms

    def response_action(self, request: HttpRequest, queryset: QuerySet[Room], *location: Any) -> Any:
        check_keys(request)
        if complaints(request):
            return None  # to the list, which tells them
        return super().response_action(request, queryset, *location)

    @admin.action(description="Change prices…", permissions=["change"])
    def change_prices(self, request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        return bulk(change_prices)(self, request, queryset)

    @admin.action(description="Export as CSV", permissions=["export"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        return self.export_as(request, queryset, RoomCSV())

    @admin.action(description="Export as XLSX", permissions=["export"])
    def export_xlsx(self, request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        return self.export_as(request, queryset, RoomXLSX())

    @admin.action(description="Delete…", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        return bulk(delete_rooms)(self, request, queryset)
