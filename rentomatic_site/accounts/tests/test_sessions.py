"""One's own sessions: listed with browser, address and time, and ended."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.backends import db
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from rentomatic_site.accounts.models import Session
from rentomatic_site.accounts.sessions import browser_name
from rentomatic_site.accounts.tests.conftest import (
    ACCOUNT,
    PASSWORDS,
    give_password,
    is_logged_in,
    log_in,
)
from rooms.tests.admin.pages import page_text

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Windows"),
        (SAFARI, "Safari on iPhone"),
        (CHROME, "Chrome on Linux"),
        (CHROME + " Edg/142.0", "Edge on Linux"),
        (CHROME.replace("X11; Linux x86_64", "Linux; Android 15"), "Chrome on Android"),
        (CHROME.replace("X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15"), "Chrome on macOS"),
        ("curl/8.5", "Another program"),
        ("", "Another program"),
    ],
)
def test_a_browser_has_the_name_that_people_know(agent, name):
    assert browser_name(agent) == name


def test_sessions_are_listed_with_browser_address_and_time(boss, settings):
    settings.BEHIND_PROXY = True
    log_in(boss, headers={"User-Agent": SAFARI, "X-Forwarded-For": "2001:db8:1:2:3::4"})
    client = log_in(boss, headers={"User-Agent": FIREFOX, "X-Forwarded-For": "10.0.0.7"})
    text = page_text(client.get(ACCOUNT))
    assert "Firefox on Windows 10.0.0.7 now this one" in text
    assert "Safari on iPhone 2001:db8:1:2:: " in text


def test_keys_of_sessions_are_on_no_page(boss):
    other, client = log_in(boss), log_in(boss)
    content = client.get(ACCOUNT).content.decode()
    assert other.session.session_key not in content
    assert client.session.session_key not in content


def handle_of(client):
    return Session.objects.get(session_key=client.session.session_key).handle


def test_one_session_is_ended(boss):
    client, lost, kept = log_in(boss), log_in(boss), log_in(boss)
    page = client.post(ACCOUNT, {"end": handle_of(lost)}, follow=True)
    assert "1 session ended." in page_text(page)
    assert [is_logged_in(each) for each in (client, lost, kept)] == [True, False, True]
    assert LogEntry.objects.get().change_message == "1 session ended, from 127.0.0.1."
    assert "That session had ended already." in page_text(client.post(ACCOUNT, {"end": "x"}, follow=True))


def test_all_others_are_ended(boss, editor):
    client, *others = [log_in(boss) for _ in range(3)]
    colleague = log_in(editor)
    page = client.post(ACCOUNT, {"others": "yes"}, follow=True)
    assert "2 sessions ended." in page_text(page)
    assert [is_logged_in(each) for each in (client, *others, colleague)] == [True, False, False, True]
    assert "End all others" not in page_text(page)


def test_nobody_ends_a_colleagues_session(boss, editor):
    client, colleague = log_in(editor), log_in(boss)
    client.post(ACCOUNT, {"end": handle_of(colleague)})
    assert is_logged_in(colleague)


def test_ones_own_session_ends_by_logging_out_only(boss):
    client = log_in(boss)
    client.post(ACCOUNT, {"end": handle_of(client)})
    assert is_logged_in(client)
    key = client.session.session_key
    client.post("/admin/logout/")
    assert not Session.objects.filter(session_key=key).exists()


def test_sessions_end_with_a_form_of_the_site_only(boss):
    client, other = log_in(boss), log_in(boss)
    client.handler.enforce_csrf_checks = True
    assert client.post(ACCOUNT, {"others": "yes"}).status_code == 403
    assert is_logged_in(other)


def test_changing_the_password_ends_the_others_and_is_in_the_history(boss):
    other, client = log_in(boss), log_in(boss)
    new = "another-boss-of-rooms"
    form = {"old_password": PASSWORDS["boss"], "new_password1": new, "new_password2": new}
    assert client.post("/admin/password_change/", form).status_code == 302
    assert [is_logged_in(each) for each in (client, other)] == [True, False]
    assert Session.objects.filter(user=boss).count() == 1
    assert "Password changed, from 127.0.0.1." in page_text(client.get(ACCOUNT))


def test_sessions_of_a_former_password_are_not_listed(boss):
    log_in(boss)
    boss.set_password("set-on-the-command-line")
    boss.save()
    client = Client()
    client.post("/admin/login/", {"username": "boss", "password": "set-on-the-command-line"})
    assert client.get(ACCOUNT).context["sessions"][0][2] is True
    assert len(client.get(ACCOUNT).context["sessions"]) == 1


def test_the_time_of_a_session_is_written_once_in_five_minutes(boss, django_assert_num_queries):
    client = log_in(boss)
    seen = timezone.now() - timedelta(minutes=6)
    Session.objects.update(seen_at=seen)
    client.get("/admin/", headers={"User-Agent": FIREFOX})
    row = Session.objects.get()
    assert row.seen_at > seen
    assert row.browser == FIREFOX
    client.get("/admin/", headers={"User-Agent": SAFARI})
    assert Session.objects.get().seen_at == row.seen_at


def test_expired_sessions_are_removed_by_clearsessions(boss):
    client = log_in(boss)
    log_in(boss)
    Session.objects.exclude(session_key=client.session.session_key).update(
        expire_date=timezone.now() - timedelta(seconds=1)
    )
    assert len(client.get(ACCOUNT).context["sessions"]) == 1
    call_command("clearsessions")
    assert Session.objects.count() == 1


def test_deleting_a_user_ends_their_sessions(boss, editor):
    client = log_in(editor)
    editor.delete()
    assert not is_logged_in(client)
    assert Session.objects.count() == 0


def test_a_browser_of_any_length_is_stored(boss, client):
    assert give_password(client, boss, headers={"User-Agent": "é" * 4000}).status_code == 302
    assert len(Session.objects.get().browser) == 300


def test_the_store_is_djangos_for_the_contents(boss):
    """A session keeps its contents where Django's own store would look for them."""
    client = log_in(boss)
    row = Session.objects.get()
    assert db.SessionStore().decode(row.session_data)["_auth_user_id"] == str(boss.pk)
    assert client.session.get_expiry_age() == 36000
