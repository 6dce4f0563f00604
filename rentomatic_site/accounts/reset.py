"""
A new password by e-mail, where EMAIL_URL is set; else the page says whom to ask.

The response says nothing about accounts, nor does its time: the account is looked up, and the e-mail sent, by
a thread of its own. The link's host is of SITE_ADDRESS, never of the request.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import views
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import get_language, override
from django.views.decorators.cache import never_cache
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts.audit import entries_of, record
from rentomatic_site.accounts.sessions import end_sessions
from rentomatic_site.middleware import client_address

logger = logging.getLogger(__name__)

ASKED = "New password asked for by e-mail"
MAIL_EVERY = timedelta(minutes=5)
"""An account gets no more e-mails, however many are asked for."""

sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="password-reset")


class ResetForm(PasswordResetForm):
    """Leaves out who has got an e-mail lately."""

    address = ""

    def get_users(self, email: str) -> Iterator[User]:
        for user in super().get_users(email):
            asked = entries_of(user).filter(change_message__startswith=ASKED)
            if not asked.filter(action_time__gte=timezone.now() - MAIL_EVERY).exists():
                record(user, ASKED, address=self.address)
                yield user


def send_link(email: str, address: str, language: str) -> None:
    """Send the link to the accounts of this e-mail address, if there are any; failures are logged."""
    site = urlsplit(settings.SITE_ADDRESS)
    form = ResetForm({"email": email})
    form.address = address
    try:
        with override(language):
            if not form.is_valid():
                return
            form.save(
                domain_override=site.netloc,
                use_https=site.scheme == "https",
                subject_template_name="accounts/password_reset_subject.txt",
                email_template_name="accounts/password_reset_email.txt",
                extra_email_context={"minutes": str(settings.PASSWORD_RESET_TIMEOUT // 60)},
            )
    except Exception:
        logger.exception("The e-mail for a new password could not be sent.")
    finally:
        connections.close_all()


class AdminPage:
    """The context of the admin's pages, for those who are not logged in."""

    request: Any

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = {**admin.site.each_context(self.request), "has_permission": False}
        return super().get_context_data(**context, **kwargs)  # type: ignore[misc, no-any-return]  # of a view


@method_decorator(never_cache, name="dispatch")
class ResetView(AdminPage, views.PasswordResetView):
    """Asks for the e-mail address; without EMAIL_URL it says whom to ask."""

    template_name = "admin/accounts/reset.html"
    success_url = reverse_lazy("password_reset_done")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            by_email=bool(settings.EMAIL_URL), contact=settings.LOGIN_CONTACT, **kwargs
        )

    def form_valid(self, form: Any) -> HttpResponse:
        if settings.EMAIL_URL:
            sender.submit(
                send_link, form.cleaned_data["email"], client_address(self.request), get_language() or ""
            )
            return HttpResponseRedirect(self.get_success_url())
        return self.render_to_response(self.get_context_data(form=form))


class SentView(AdminPage, views.PasswordResetDoneView):
    pass


class ConfirmView(AdminPage, views.PasswordResetConfirmView):
    """
    Sets the new password. All sessions end, and so do the waits after wrong passwords and codes, whose sender
    may have known the former password. It logs nobody in, so the second factor is asked for as ever.
    """

    success_url = reverse_lazy("password_reset_complete")

    def form_valid(self, form: Any) -> HttpResponse:
        user: Any = self.user
        with transaction.atomic():
            response = super().form_valid(form)
            # This browser's own session is not valid any more, if it is the user's: by the password's hash.
            end_sessions(user, keep=self.request.session.session_key)
            AccessAttempt.objects.filter(username=user.get_username()).delete()
            TOTPDevice.objects.filter(user=user).update(
                throttling_failure_count=0, throttling_failure_timestamp=None
            )
            record(user, "Password set by the link of an e-mail", address=client_address(self.request))
        return response


class CompleteView(AdminPage, views.PasswordResetCompleteView):
    pass
