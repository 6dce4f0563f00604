"""
The pages of logging in and of one's own account: the password, the code, the second factor, the sessions.

Who has a second factor is not logged in by the password: the session only knows whose password was right,
for ten minutes, until a code is.
"""

import time
from math import ceil
from typing import Any

import django_otp
from django.contrib import admin, messages
from django.contrib.auth import login
from django.contrib.auth import views as auth_views
from django.contrib.auth.models import User
from django.contrib.auth.views import RedirectURLMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.utils.translation import gettext, ngettext
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django_otp.util import random_hex

from rentomatic_site.accounts import second_factor
from rentomatic_site.accounts.audit import entries_of, record, show_message
from rentomatic_site.accounts.forms import CodeForm, LoginForm, SetUpForm, read_key, sign_key
from rentomatic_site.accounts.sessions import browser_name, end_sessions, sessions_of
from rentomatic_site.logins import too_many_attempts
from rentomatic_site.middleware import client_address

PENDING = "password_accepted"
PENDING_FOR = 600
"""Seconds between the password and the code."""
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
ENTRIES = 10


# --- Logging in


class LoginView(auth_views.LoginView):
    """The password; it logs in where there is no second factor."""

    template_name = "admin/login.html"
    authentication_form = LoginForm
    next_page = "admin:index"

    def form_valid(self, form: Any) -> HttpResponseRedirect:
        user = form.get_user()
        if second_factor.device_of(user) is None:
            return super().form_valid(form)  # type: ignore[return-value]  # a redirect
        self.request.session[PENDING] = {
            "user": user.pk,
            "until": time.time() + PENDING_FOR,
            "password": user.get_session_auth_hash(),
        }
        query = QueryDict(mutable=True)
        query["next"] = self.get_success_url()
        return redirect(f"{reverse('admin:login_code')}?{query.urlencode()}")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        request = self.request
        return super().get_context_data(
            **admin.site.each_context(request),
            title=gettext("Log in"),
            subtitle=None,
            app_path=request.get_full_path(),
            username=request.user.get_username(),
            **kwargs,
        )


def user_at_code(request: HttpRequest) -> User | None:
    """Who has given the password and not the code yet."""
    state = request.session.get(PENDING)
    if state and state["until"] > time.time():
        user = User.objects.filter(pk=state["user"], is_active=True).first()
        if user and constant_time_compare(state["password"], user.get_session_auth_hash()):
            return user
    # Logged in before the second factor was asked for.
    current: Any = request.user
    return current if current.is_authenticated and not current.is_verified() else None


@method_decorator([never_cache, csrf_protect, sensitive_post_parameters()], name="dispatch")
class CodeView(RedirectURLMixin, View):
    """The code, after the password."""

    request: HttpRequest
    next_page = "admin:index"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        user = user_at_code(request)
        device = second_factor.device_of(user) if user else None
        if user is None or device is None:
            return redirect(f"{reverse('admin:login')}?{request.META['QUERY_STRING']}")
        form = CodeForm(request, user, request.POST if request.method == "POST" else None)
        if request.method == "POST":
            waiting = wait_for(request, device)
            if waiting:
                return waiting
            if form.is_valid():
                return self.log_in(form.verified, recovered=len(form.cleaned_data["token"]) > 6)
        context = {
            **admin.site.each_context(request),
            "has_permission": False,
            "title": gettext("Second factor"),
            "form": form,
            "account": user,
        }
        return TemplateResponse(request, "admin/accounts/code.html", context)

    def log_in(self, user: Any, *, recovered: bool) -> HttpResponse:
        self.request.session.pop(PENDING, None)
        device = user.otp_device
        login(self.request, user, backend=MODEL_BACKEND)
        django_otp.login(self.request, device)
        if recovered:
            left = user.recovery_codes.count()
            text = ngettext(
                "You used a recovery code; %(number)s is left. Under Account you make new ones.",
                "You used a recovery code; %(number)s are left. Under Account you make new ones.",
                left,
            )
            messages.warning(self.request, text % {"number": left})
        return HttpResponseRedirect(self.get_success_url())


def wait_for(request: HttpRequest, device: Any) -> HttpResponse | None:
    """The page (429) while codes of the app are refused, after wrong ones; recovery codes never are."""
    token = second_factor.normalize(request.POST.get("token", ""))
    until = second_factor.wait_until(device)
    if until is None or len(token) > 6:
        return None
    return too_many_attempts(request, ceil((until - timezone.now()).total_seconds()))


# --- One's own account


def show(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    context |= {**admin.site.each_context(request), "title": title}
    return TemplateResponse(request, f"admin/accounts/{template}.html", context)


def needs_code(request: HttpRequest) -> HttpResponse | None:
    """The way to the code, for a session without one of a user who has a second factor."""
    user: Any = request.user
    if not user.is_verified() and second_factor.device_of(user):
        return redirect(f"{reverse('admin:login_code')}?next={request.path}")
    return None


def account(request: HttpRequest) -> HttpResponse:
    """The second factor, and the sessions, which a POST ends."""
    user: Any = request.user
    redirected = needs_code(request)
    if redirected:
        return redirected
    own_key = request.session.session_key
    sessions = sessions_of(user)
    if request.method == "POST":
        handle = request.POST.get("end", "")
        ended = [
            row
            for row in sessions
            if row.session_key != own_key and (row.handle == handle or "others" in request.POST)
        ]
        if "others" in request.POST:
            end_sessions(user, keep=own_key)  # also those that the page does not show
        for row in ended:
            row.delete()
        if ended:
            number = f"{len(ended)} {'session' if len(ended) == 1 else 'sessions'}"
            record(user, f"{number} ended", address=client_address(request))
            text = ngettext("%(number)s session ended.", "%(number)s sessions ended.", len(ended))
            messages.success(request, text % {"number": len(ended)})
        else:
            messages.info(request, gettext("That session had ended already."))
        return redirect("admin:account")
    device = user.otp_device
    return show(
        request,
        "account",
        gettext("Your account"),
        device=device,
        codes_left=user.recovery_codes.count() if device else 0,
        required=second_factor.is_required(user),
        sessions=[(row, browser_name(row.browser), row.session_key == own_key) for row in sessions],
        entries=[(entry, show_message(entry)) for entry in entries_of(user)[:ENTRIES]],
    )


@sensitive_post_parameters()
def set_up(request: HttpRequest) -> HttpResponse:
    """The QR code of a new key; a POST with its first code makes it the second factor."""
    user: Any = request.user
    redirected = needs_code(request)
    if redirected or user.is_verified():
        return redirected or redirect("admin:account")
    key = random_hex(20)
    form = SetUpForm(request, initial={"key": sign_key(user, key)})
    if request.method == "POST":
        form = SetUpForm(request, request.POST)
        if form.is_valid():
            codes = second_factor.set_up(
                request, form.cleaned_data["key"], form.cleaned_data["token"], client_address(request)
            )
            if codes:
                return show_codes(request, codes, first=True)
            form.add_error(
                "token", gettext("This is not the code of this key now. Is the clock of the phone right?")
            )
        shown = read_key(user, request.POST.get("key", ""))
        if shown:
            key = shown
        else:
            form.data = {**form.data.dict(), "key": sign_key(user, key)}  # type: ignore[attr-defined]  # a QueryDict
    return show(
        request,
        "set_up",
        gettext("Second factor"),
        form=form,
        qr=second_factor.qr_code(user, key),
        key=second_factor.app_key(key),
        required=second_factor.is_required(user),
        next=next_page(request),
    )


def next_page(request: HttpRequest) -> str:
    """The page of the site that the user came from, "" where there is none."""
    mixin = RedirectURLMixin()
    mixin.request = request  # type: ignore[attr-defined]  # as a view has it
    return mixin.get_redirect_url()


def show_codes(request: HttpRequest, codes: list[str], *, first: bool) -> HttpResponse:
    owner = f"{request.user.get_username()}, {request.get_host()}"
    text = gettext("Recovery codes of %(owner)s. Each is good for one login.") % {"owner": owner} + "\n\n"
    return show(
        request,
        "codes",
        gettext("Recovery codes"),
        codes=codes,
        file=text + "\n".join(codes),
        first=first,
        next=next_page(request),
    )


def checked_code(request: HttpRequest, template: str, title: str, **context: Any) -> Any:
    """The user, where the page's form brought a right code; else the response."""
    user: Any = request.user
    redirected = needs_code(request)
    if redirected:
        return redirected
    if not user.is_verified():
        return redirect("admin:account")
    form = CodeForm(request, user, request.POST if request.method == "POST" else None)
    if request.method == "POST":
        waiting = wait_for(request, user.otp_device)
        if waiting:
            return waiting
        if form.is_valid():
            return form.verified
    return show(request, template, title, form=form, required=second_factor.is_required(user), **context)


@sensitive_post_parameters()
def remove(request: HttpRequest) -> HttpResponse:
    """Removes one's own second factor, by a code of it."""
    user = checked_code(request, "remove", gettext("Remove the second factor"))
    if isinstance(user, HttpResponse):
        return user
    second_factor.remove(user, address=client_address(request), keep=request.session.session_key)
    messages.success(request, gettext("Your second factor is removed, and your other sessions have ended."))
    return redirect("admin:account")


@sensitive_post_parameters()
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """Makes new recovery codes, by a code of the app, and shows them once."""
    user = checked_code(request, "new_codes", gettext("New recovery codes"))
    if isinstance(user, HttpResponse):
        return user
    codes = second_factor.make_recovery_codes(user)
    record(user, "New recovery codes made", address=client_address(request))
    return show_codes(request, codes, first=False)
