"""The admin site with the pages of logging in and of one's own account."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from rentomatic_site.accounts import audit, second_factor
from rentomatic_site.accounts.sessions import end_sessions
from rentomatic_site.middleware import client_address


class AdminSite(admin.AdminSite):
    """Asks for the second factor at the login, and before every page where it is required and missing."""

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        checked = super().admin_view(view, cacheable)

        def respond(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if self.has_permission(request) and request.path != reverse("admin:logout"):
                step = missing_step(request.user)
                if step:
                    back = request.get_full_path() if request.method == "GET" else reverse("admin:index")
                    return redirect(f"{step}?{urlencode({'next': back})}")
            response: HttpResponse = checked(request, *args, **kwargs)
            return response

        return update_wrapper(respond, view)

    def account_view(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        """`admin_view` for the pages at which the second factor is set up: these need none yet."""
        return super().admin_view(view)

    def get_urls(self) -> list[Any]:
        from rentomatic_site.accounts import pages

        account = self.account_view
        own: list[URLPattern] = [
            path("login/code/", pages.CodeView.as_view(), name="login_code"),
            path("account/", account(pages.account), name="account"),
            path("account/second-factor/", account(pages.set_up), name="second_factor"),
            path("account/second-factor/remove/", account(pages.remove), name="second_factor_remove"),
            path("account/recovery-codes/", account(pages.recovery_codes), name="recovery_codes"),
        ]
        return own + super().get_urls()

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        from rentomatic_site.accounts import pages

        if request.method == "GET" and self.has_permission(request):
            return redirect("admin:index")
        return pages.LoginView.as_view()(request)  # type: ignore[return-value]  # never streamed

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        response = super().password_change(request, extra_context)
        user: Any = request.user
        if request.method == "POST" and response.status_code == 302:
            end_sessions(user, keep=request.session.session_key)
            audit.record(user, "Password changed", address=client_address(request))
        return response


def missing_step(user: Any) -> str:
    """The URL at which the user gives the code, or sets up a second factor; "" where neither is needed."""
    if user.is_verified() or not second_factor.is_required(user):
        return ""
    return reverse("admin:login_code" if second_factor.device_of(user) else "admin:second_factor")
