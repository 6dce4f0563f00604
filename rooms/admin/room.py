"""RoomAdmin: the pages of one room, and the list, actions and files of the other modules."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied
from django.core.paginator import Paginator
from django.db import IntegrityError, OperationalError
from django.db.models import QuerySet
from django.forms import Form, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import format_lazy
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext_lazy as _

from rooms.admin import history, inline
from rooms.admin.actions.bulk import check_keys
from rooms.admin.actions.delete import delete_selected
from rooms.admin.actions.prices import change_prices
from rooms.admin.activity import ActivityMixin
from rooms.admin.files.mixin import SpreadsheetMixin
from rooms.admin.files.resource import RoomCSV, RoomXLSX
from rooms.admin.filters import FILTERS, PARAMETERS
from rooms.admin.form import RoomForm
from rooms.admin.inline import InlineMixin
from rooms.admin.jobs.pages import JobMixin
from rooms.admin.jobs.record import recorded, with_undo
from rooms.admin.list_filters import add_filter_error, filter_errors
from rooms.admin.listing import RoomChangeList, RoomPaginator, apply_search
from rooms.admin.locks import StaleVersionError, is_lock_timeout, offer_retry_on_lock_timeout
from rooms.admin.map import MapMixin
from rooms.admin.neighbours import NeighbourMixin
from rooms.admin.numbers import show_column
from rooms.admin.place_filters import near_url
from rooms.admin.recorded import lazy_label
from rooms.admin.saved_filters import SavedFilterMixin, saved_filters
from rooms.columns import COLUMNS, Column
from rooms.models import Room
from rooms.naming import find_twin, room_name
from rooms.pages import names
from rooms.pages.map import tiles_context


def list_column(column: Column) -> Callable[[Room], str]:
    """A column of the list, with its unit in the heading."""

    @admin.display(
        description=format_lazy("{}, {}", lazy_label(column.name), gettext_lazy(column.symbol)),
        ordering=column.name,
    )
    def value(room: Room) -> Any:
        found = getattr(room, column.name)
        return gettext("missing") if found is None else show_column(column, found)

    value.__name__ = column.name
    return value


@admin.register(Room)
class RoomAdmin(
    ActivityMixin,
    JobMixin,
    InlineMixin,
    MapMixin,
    NeighbourMixin,
    SavedFilterMixin,
    SpreadsheetMixin,
    admin.ModelAdmin,
):
    """The admin of rooms, fast with a million of them; concurrent edits do not overwrite each other."""

    form = RoomForm
    fieldsets = [
        (None, {"fields": [("price", "size"), "code", "loaded_version"]}),
        (_("Place"), {"fields": [("latitude", "longitude"), "location_map"], "classes": ["place"]}),
    ]
    record_fieldset = (_("Record"), {"fields": [("added", "changed", "version")]})
    readonly_fields = ["location_map", "added", "changed", "version"]
    save_as = True

    list_display = [
        "named",
        *[list_column(column) for column in COLUMNS.values() if column.limits],
        "changed",
        "nearby",
    ]
    list_filter = FILTERS
    ordering = ["-updated_at"]
    search_fields = ["code"]
    search_help_text = _("A price or size (66, 66€, 50m²), or a code or its beginning (f853578c).")
    list_per_page = 100
    list_max_show_all = 500
    paginator = RoomPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = [change_prices, "export_csv", "export_xlsx", delete_selected]

    import_export_change_list_template = "admin/rooms/change_list.html"

    # --- The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RoomChangeList]:
        return RoomChangeList

    @offer_retry_on_lock_timeout
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {
            "title": gettext("Rooms"),
            "editable": inline.labels() if self.has_change_permission(request) else "",
            "saved_filters": saved_filters(request.user),
        }
        page = super().changelist_view(request, context | (extra_context or {}))
        if page.status_code == 200:
            if hasattr(page, "context_data"):
                page.context_data["filter_errors"] = filter_errors(request)
            for error in filter_errors(request):
                messages.error(request, error)
        return page

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """The filters' parameters only; Django allows any lookup, including regular expressions."""
        return lookup in PARAMETERS

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Room], search_term: str
    ) -> tuple[QuerySet[Room], bool]:
        try:
            return apply_search(queryset, search_term), False
        except ValueError as error:
            add_filter_error(request, str(error))
            return queryset, False

    @admin.display(description=_("room"), ordering="code")
    def named(self, room: Room) -> str:
        """The room as people name it, its distance in a list around a place, and its code, the order."""
        metres = getattr(room, "distance", None)
        away = (
            format_html(
                ' <span class="away">{}</span>',
                gettext("%(distance)s away") % {"distance": names.metres(metres)},
            )
            if metres is not None
            else ""
        )
        return format_html(
            '<span class="room-name">{}</span>{} <span class="code">{}</span>',
            room_name(room),
            away,
            room.code,
        )

    @admin.display(description=_("near"))
    def nearby(self, room: Room) -> str:
        """A link to the rooms around this one."""
        return format_html(
            '<a href="{}" class="nearby" title="{}">'
            '<span class="visually-hidden">{}</span><span aria-hidden="true">◎</span></a>',
            near_url(room),
            gettext("Rooms nearby"),
            gettext("Rooms near %(room)s") % {"room": room_name(room)},
        )

    @admin.display(description=_("last change"), ordering="updated_at")
    def changed(self, room: Room) -> str:
        """The time; beside it list.js finds the version that is shown."""
        return format_html(
            '<span data-version="{}">{}</span>', room.version, history.format_time(room.updated_at)
        )

    @admin.display(description=_("added"))
    def added(self, room: Room) -> str:
        return history.format_time(room.created_at)

    # --- One room

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet, per_page: int, *args: Any, **kwargs: Any
    ) -> Paginator:
        """Django paginates the history of a room by this, too: newest first."""
        if queryset.model is Room:
            return RoomPaginator(queryset, per_page, *args, **kwargs)
        return Paginator(queryset.order_by("-action_time", "-pk"), per_page, *args, **kwargs)

    @admin.display(description=_("map"))
    def location_map(self, room: Room | None) -> SafeString:
        """The element in which map.js shows a map; empty without scripts."""
        return format_html(
            '<div class="room-map" {} data-place="{}" data-code="{}"></div>',
            render_to_string("rooms/map_data.html", tiles_context()),
            f"{room.latitude}, {room.longitude}" if room and room.pk else "",
            room.code if room and room.pk else "",
        )

    def get_fieldsets(self, request: HttpRequest, obj: Room | None = None) -> Any:
        """A new room has no record (times and version) yet."""
        return [*self.fieldsets, self.record_fieldset] if obj else self.fieldsets

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, *args, **kwargs)
        form.locked = getattr(request, "room_is_locked", False)
        return form

    @offer_retry_on_lock_timeout
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
            response = super().changeform_view(request, object_id, form_url, extra_context)
        except (StaleVersionError, IntegrityError):
            # Another user saved between validation and writing. Validation now reports it.
            response = super().changeform_view(request, object_id, form_url, extra_context)
        except OperationalError as error:
            if request.method != "POST" or not is_lock_timeout(error):
                raise
            request.room_is_locked = True  # type: ignore[attr-defined]  # for the form
            response = super().changeform_view(request, object_id, form_url, extra_context)
            if response.status_code == 200:
                self.show_lock_conflict(request, response)
            return response
        context = getattr(response, "context_data", None) or {}
        if context.get("original"):
            context["subtitle"] = f"{room_name(context['original'])} · {context['original']}"
            context["near_url"] = near_url(context["original"])
        if "adminform" in context and context["adminform"].form.conflict:
            context["title"] = gettext("Changed by somebody else")
            if len(context["adminform"].form.errors) == 1:
                context["errors"] = None  # the table of the conflict says what to do
        return response

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """A room's code is redirected to its number: the public pages know no other."""
        if COLUMNS["code"].accepts(object_id) and (room := Room.objects.filter(code=object_id).first()):
            query = f"?{request.GET.urlencode()}" if request.GET else ""
            return HttpResponseRedirect(f"{reverse('admin:rooms_room_change', args=[room.pk])}{query}")
        return super().change_view(request, object_id, form_url, extra_context)

    def show_lock_conflict(self, request: HttpRequest, response: Any) -> None:
        """Return the valid form with 409, with a warning in place of errors to correct."""
        response.status_code = 409
        form = response.context_data["adminform"].form
        if form.has_error(NON_FIELD_ERRORS, "locked") and len(form.errors) == 1:
            messages.warning(request, form.LOCKED_MESSAGE)
            response.context_data["errors"] = None

    @offer_retry_on_lock_timeout
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """The confirmation page of the bulk action, which detects changes in the meantime."""
        room = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, room):
            raise PermissionDenied
        if room is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        response = delete_selected(self, request, Room.objects.filter(pk=room.pk))
        return response or HttpResponseRedirect(
            add_preserved_filters(
                {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts},
                reverse("admin:rooms_room_changelist"),
            )
        )

    def offer_to_add(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Redirect from a room that was deleted to the form of a new one, with the submitted values."""
        entry = (
            LogEntry.objects.filter(
                content_type=ContentType.objects.get_for_model(Room),
                object_id=unquote(object_id),
                action_flag=DELETION,
            )
            .select_related("user")
            .first()
        )
        text = gettext(
            "This room was deleted while you had it open. "
            "What you typed is below; saving adds the room again."
        )
        if entry:
            text = gettext(
                "%(who)s deleted this room while you had it open. "
                "What you typed is below; saving adds the room again."
            )
        messages.warning(request, text % {"who": history.person_of(entry)})
        submitted = {name: request.POST.get(name, "") for name in COLUMNS}
        return HttpResponseRedirect(f"{reverse('admin:rooms_room_add')}?{urlencode(submitted)}")

    def save_model(self, request: HttpRequest, obj: Room, form: ModelForm, change: bool) -> None:
        if "_next" in request.POST and change:
            self.note_next(request, obj.pk)
        title = f"Change a room: {self.format_edit(form)}" if change else "Add a room"
        with recorded(request.user, title) as request.job:  # type: ignore[attr-defined]  # for message_user
            request.saved = obj  # type: ignore[attr-defined]  # for message_user
            if not change:
                obj.save()
                self.hint_at_twin(request, obj)
                return
            unchanged_since = Room.objects.filter(pk=obj.pk, version=form.cleaned_data["loaded_version"])
            if not unchanged_since.update(**history.values(obj)):
                raise StaleVersionError

    def hint_at_twin(self, request: HttpRequest, room: Room) -> None:
        """A new room may have been there already: a link to the other one, beside the link to undo this."""
        twin = find_twin(room)
        if twin:
            messages.warning(
                request,
                format_html(
                    gettext('Another room has the same place, size and price: <a href="{}">{}, {}</a>.'),
                    reverse("admin:rooms_room_change", args=[twin.pk]),
                    room_name(twin),
                    twin,
                ),
            )

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **kwargs: Any) -> None:
        """The message that a room was saved names the room, and has a link to undo it."""
        room = getattr(request, "saved", None)
        if room:
            named = format_html("{}, {}", room_name(room), room)
            message = mark_safe(conditional_escape(message).replace(str(room), named))  # noqa: S308, both are escaped
        super().message_user(request, with_undo(getattr(request, "job", None), message), *args, **kwargs)

    def construct_change_message(
        self, request: HttpRequest, form: Form, formsets: Any, add: bool = False
    ) -> Any:
        if add:
            return super().construct_change_message(request, form, formsets, add)
        return self.format_edit(form)

    def format_edit(self, form: Form | ModelForm) -> str:
        """As in "price 39 → 45, size unknown → 20"."""
        return ", ".join(
            history.format_change(name, form.initial[name], form.cleaned_data[name])
            for name in form.changed_data
            if name in COLUMNS
        )

    def log_change(self, request: HttpRequest, obj: Room, message: Any) -> Any:
        """No log entry for a save without changes."""
        return super().log_change(request, obj, message) if message else None

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Room]) -> list[LogEntry]:
        """Log entries that contain the values of the deleted rooms."""
        return history.log_changes(
            request.user, DELETION, ((room, history.format_room(room)) for room in queryset)
        )

    # --- Actions on selected rooms

    def response_action(self, request: HttpRequest, queryset: QuerySet[Room], *location: Any) -> Any:
        check_keys(request)
        if filter_errors(request):
            return None  # to the list, which shows the errors
        return super().response_action(request, queryset, *location)

    @admin.action(description=_("Export as CSV"), permissions=["export"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        return self._do_file_export(RoomCSV(), request, queryset)

    @admin.action(description=_("Export as XLSX"), permissions=["export"])
    def export_xlsx(self, request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        return self._do_file_export(RoomXLSX(), request, queryset)
