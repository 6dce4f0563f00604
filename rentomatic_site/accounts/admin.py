"""
The admin's pages of users, with their second factor, which an administrator takes away from who has lost it.

Whoever has done something is not deleted: the history names people.
"""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts import second_factor
from rentomatic_site.middleware import client_address

admin.site.unregister(User)


@admin.register(User)
class PersonAdmin(UserAdmin):
    """Django's, with the second factor of each person."""

    list_display = (*UserAdmin.list_display, "has_second_factor")  # type: ignore[misc]  # of a generic class

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        devices = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        people: QuerySet[User] = super().get_queryset(request)
        return people.annotate(has_device=Exists(devices))

    @admin.display(boolean=True, description=_("second factor"), ordering="has_device")
    def has_second_factor(self, user: Any) -> bool:
        return bool(user.has_device)

    @admin.display(description=_("Second factor"))
    def second_factor_link(self, user: Any) -> str:
        if not user.has_device:
            return gettext("Not set up.")
        url = reverse("admin:auth_user_second_factor", args=[user.pk])
        return format_html(gettext('Set up. <a href="{}">Take it away…</a>'), url)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Django would delete the entries of the history with their user; they protect the user instead."""
        own_entries = LogEntry.objects.filter(user_id=OuterRef("pk"))
        users = User.objects.filter(Exists(own_entries), pk__in=[user.pk for user in objs])
        protected = [f"the history of {user}: take “Active” from this user instead" for user in users]
        if protected:
            return [], {}, set(), protected
        return super().get_deleted_objects(objs, request)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        (name, options), *others = fieldsets
        return [(name, {**options, "fields": (*options["fields"], "second_factor_link")}), *others]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*super().get_readonly_fields(request, obj), "second_factor_link")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.second_factor_view)
        return [
            path("<int:pk>/second-factor/", view, name="auth_user_second_factor"),
            *super().get_urls(),
        ]

    def second_factor_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks, and by POST removes a person's second factor; only a superuser removes a superuser's."""
        user = self.get_object(request, str(pk))
        if user is None:
            raise Http404
        doer: Any = request.user
        if not self.has_change_permission(request, user) or (user.is_superuser and not doer.is_superuser):
            raise PermissionDenied
        if user.pk == doer.pk:
            return redirect("admin:second_factor_remove")
        if request.method == "POST":
            address = client_address(request)
            if second_factor.remove(user, by=doer, how=" by an administrator", address=address):
                text = gettext("The second factor of %(user)s is removed, and their sessions have ended.")
                messages.success(request, text % {"user": user.get_username()})
            else:
                text = gettext("There was no second factor of %(user)s.")
                messages.info(request, text % {"user": user.get_username()})
            return redirect("admin:auth_user_change", pk)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Take away the second factor of %(user)s") % {"user": user.get_username()},
            "person": user,
            "required": second_factor.is_required(user),
        }
        return TemplateResponse(request, "admin/accounts/take_away.html", context)
