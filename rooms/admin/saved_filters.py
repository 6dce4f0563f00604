"""Filters of the list that staff keep under a name, for themselves or for all."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from rooms.admin.filters import PARAMETERS
from rooms.models import SavedFilter

KEPT = PARAMETERS | {"q", "o"}
"""The parameters of the list that are saved: filters, search and order, not the page."""
MAX_SAVED = 50
"""Of one user."""


class SavedFilterForm(forms.ModelForm):
    class Meta:
        model = SavedFilter
        fields = ("name", "query", "shared")

    def clean_query(self) -> str:
        given, kept = QueryDict(self.cleaned_data["query"]), QueryDict(mutable=True)
        for name, values in given.lists():
            if name in KEPT and any(values):
                kept.setlist(name, values)
        if not kept:
            raise forms.ValidationError(gettext("The list has no filter, search or order to save."))
        return kept.urlencode()


def saved_filters(user: Any) -> QuerySet[SavedFilter]:
    """Those that a user sees, by name."""
    seen = SavedFilter.objects.filter(Q(user_id=user.pk) | Q(shared=True))
    return seen.select_related("user").order_by("name", "pk")


class SavedFilterMixin:
    """The URLs that save and remove a filter, for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("filters/", view(require_POST(self.save_filter)), name="rooms_room_save_filter"),
            path(
                "filters/<int:pk>/delete/",
                view(require_POST(self.delete_filter)),
                name="rooms_room_delete_filter",
            ),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def save_filter(self: Any, request: Any) -> HttpResponse:
        """Save the list under a name; one of the same name is replaced."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        form = SavedFilterForm(request.POST)
        query = request.POST.get("query", "")
        own = SavedFilter.objects.filter(user_id=request.user.pk)
        if not form.is_valid():
            for errors in form.errors.values():
                messages.error(
                    request, gettext("Not saved: %(reason)s") % {"reason": " ".join(map(str, errors))}
                )
        elif own.exclude(name=form.cleaned_data["name"]).count() >= MAX_SAVED:
            reason = gettext("you have %(number)s filters. Remove one first.") % {"number": MAX_SAVED}
            messages.error(request, gettext("Not saved: %(reason)s") % {"reason": reason})
        else:
            query = form.cleaned_data["query"]
            values = {"query": query, "shared": form.cleaned_data["shared"]}
            own.update_or_create(values, user_id=request.user.pk, name=form.cleaned_data["name"])
            messages.success(request, gettext("Saved as “%(name)s”.") % {"name": form.cleaned_data["name"]})
        return HttpResponseRedirect(
            f"{reverse('admin:rooms_room_changelist')}?{QueryDict(query).urlencode()}"
        )

    def delete_filter(self: Any, request: Any, pk: int) -> HttpResponse:
        """Remove a filter of one's own."""
        if pk < 2**63:
            SavedFilter.objects.filter(pk=pk, user_id=request.user.pk).delete()
        return HttpResponseRedirect(reverse("admin:rooms_room_changelist"))
