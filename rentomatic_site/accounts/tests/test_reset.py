"""A new password by e-mail, and what it must not do."""

import re
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts import reset
from rentomatic_site.accounts.tests.conftest import (
    ACCOUNT,
    CODE,
    LOGIN,
    code,
    give_password,
    give_second_factor,
    is_logged_in,
    log_in,
    wrong_code,
)
from rooms.tests.admin.pages import page_text

# The e-mail is sent by a thread with a connection of its own, which sees what is committed.
pytestmark = pytest.mark.django_db(transaction=True)

RESET = "/admin/password_reset/"
NEW = "a-new-boss-of-rooms"


@pytest.fixture(autouse=True)
def by_email(settings):
    settings.EMAIL_URL = "smtp://mail.example.com"
    settings.SITE_ADDRESS = "https://rooms.example.com:8443"
    settings.ALLOWED_HOSTS = ["*"]


@pytest.fixture
def boss(boss):
    boss.email = "boss@example.com"
    boss.save()
    return boss


def ask(email="boss@example.com", **headers):
    """The response; the e-mail, if there is one, is sent."""
    response = Client().post(RESET, {"email": email}, **headers)
    reset.sender.submit(int).result()
    return response


def link(mail):
    return re.search(r"https://rooms\.example\.com:8443(/admin/password_reset/\S+)", mail.body)[1]


def open_link(path):
    """A client and the URL of the form, without the token in it."""
    client = Client()
    return client, client.get(path)["Location"]


def set_password(path, new=NEW):
    client, form = open_link(path)
    return client, client.post(form, {"new_password1": new, "new_password2": new})


def test_a_link_comes_by_email_and_sets_the_password(boss, mailoutbox):
    assert ask()["Location"] == f"{RESET}done/"
    (mail,) = mailoutbox
    assert mail.to == ["boss@example.com"]
    assert mail.subject == "A new password for rooms.example.com:8443"
    assert "Your name there is boss." in mail.body
    _, done = set_password(link(mail))
    assert done["Location"] == f"{RESET}complete/"
    boss.refresh_from_db()
    assert boss.check_password(NEW)
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "New password asked for by e-mail, from 127.0.0.1.",
        "Password set by the link of an e-mail, from 127.0.0.1.",
    ]


def test_the_response_is_the_same_whether_there_is_an_account(boss, mailoutbox):
    responses = [ask(email) for email in ("boss@example.com", "nobody@example.com")]
    shown = [(each.status_code, each["Location"], each.content, each.cookies) for each in responses]
    assert shown[0] == shown[1]
    assert [mail.to for mail in mailoutbox] == [["boss@example.com"]]


def test_the_request_itself_looks_up_no_account(boss, django_assert_num_queries):
    """So that its time tells nothing: the thread's connection does."""
    with django_assert_num_queries(0):
        ask()


@pytest.mark.parametrize(
    "headers", [{"HTTP_HOST": "evil.example"}, {"HTTP_X_FORWARDED_HOST": "evil.example"}]
)
def test_the_link_is_of_the_site_whatever_host_the_request_names(boss, mailoutbox, headers):
    ask(**headers)
    assert "evil" not in mailoutbox[0].body + mailoutbox[0].subject
    assert link(mailoutbox[0])


def test_an_account_gets_one_email_in_five_minutes(boss, mailoutbox):
    ask()
    ask()
    assert len(mailoutbox) == 1
    LogEntry.objects.update(action_time=timezone.now() - timedelta(minutes=6))
    ask()
    assert len(mailoutbox) == 2


@pytest.mark.parametrize("changes", [{"is_active": False}, {"password": "!none"}])
def test_who_cannot_log_in_by_a_password_gets_no_email(boss, mailoutbox, changes):
    User.objects.filter(pk=boss.pk).update(**changes)
    ask()
    assert mailoutbox == []


def test_a_link_works_once_and_for_an_hour(boss, mailoutbox, monkeypatch):
    ask()
    path = link(mailoutbox[0])
    later = timezone.now().replace(tzinfo=None) + timedelta(minutes=62)
    with monkeypatch.context() as patch:
        patch.setattr("django.contrib.auth.tokens.PasswordResetTokenGenerator._now", lambda self: later)
        assert "link was invalid" in page_text(Client().get(path))
    set_password(path)
    assert "link was invalid" in page_text(Client().get(path))


def test_a_forged_link_is_refused(boss, mailoutbox):
    ask()
    path = link(mailoutbox[0])
    assert "link was invalid" in page_text(Client().get(path[:-2] + "x/"))
    assert "link was invalid" in page_text(Client().get("/admin/password_reset/x/x-y/"))


def test_the_address_of_the_form_has_no_token(boss, mailoutbox):
    ask()
    path = link(mailoutbox[0])
    _, form = open_link(path)
    assert form.endswith("/set-password/")


def test_a_new_password_ends_all_sessions_and_logs_nobody_in(boss, mailoutbox):
    stolen = log_in(boss)
    ask()
    client, _ = set_password(link(mailoutbox[0]))
    assert not is_logged_in(stolen)
    assert not is_logged_in(client)
    assert boss.sessions.count() == 0


def test_a_link_that_is_opened_in_a_browser_that_is_logged_in_works(boss, mailoutbox):
    client = log_in(boss)
    ask()
    form = client.get(link(mailoutbox[0]))["Location"]
    done = client.post(form, {"new_password1": NEW, "new_password2": NEW})
    assert done["Location"] == f"{RESET}complete/"
    assert not is_logged_in(client)


def test_a_new_password_does_not_replace_the_second_factor(boss, mailoutbox):
    give_second_factor(boss)
    ask()
    client, _ = set_password(link(mailoutbox[0]))
    client.post(LOGIN, {"username": "boss", "password": NEW})
    assert client.get(ACCOUNT)["Location"].startswith(LOGIN)
    client.post(CODE, {"token": code()})
    assert is_logged_in(client)


def test_a_new_password_ends_the_waits_after_wrong_ones(boss, mailoutbox):
    give_second_factor(boss)
    client = Client()
    give_password(client, boss)
    client.post(CODE, {"token": wrong_code()})
    AccessAttempt.objects.update(failures_since_start=10)
    assert give_password(client, boss).status_code == 429
    ask()
    client, _ = set_password(link(mailoutbox[0]))
    assert client.post(LOGIN, {"username": "boss", "password": NEW})["Location"].startswith(CODE)
    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_a_weak_password_is_refused_with_the_reason(boss, mailoutbox):
    ask()
    _, page = set_password(link(mailoutbox[0]), new="12345678")
    assert "too common" in page_text(page)


def test_an_email_server_that_is_away_is_no_error_of_the_page(boss, settings, caplog):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    assert ask().status_code == 302
    assert "Failed to send password reset email" in caplog.text


@pytest.mark.parametrize(
    "email", ["", "x", "boss@example.com\nBcc: x@example.com", "x" * 400 + "@example.com"]
)
def test_what_is_no_email_address_is_a_form_error(boss, mailoutbox, email):
    assert ask(email).status_code == 200
    assert mailoutbox == []


@pytest.mark.parametrize("contact", ["", "Ann, extension 12"])
def test_without_an_email_server_the_page_says_whom_to_ask(settings, contact, boss, mailoutbox):
    settings.EMAIL_URL = ""
    settings.LOGIN_CONTACT = contact
    shown = Client().get(RESET)
    assert f"Ask {contact or 'whoever manages the users here'} for a new password" in page_text(shown)
    assert 'name="email"' not in shown.content.decode()
    assert ask().status_code == 200
    assert mailoutbox == []


def test_the_login_page_leads_to_the_new_password():
    assert f'href="{RESET}"' in Client().get(LOGIN).content.decode()
