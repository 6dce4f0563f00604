"""Logging in with a second factor, from the password to the code, and what guesses and repeats come to."""

import logging
import re

import pytest
from axes.models import AccessAttempt
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts.models import RecoveryCode, Session
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
from rentomatic_site.testing.concurrency import at_once
from rooms.tests.admin.pages import page_text

pytestmark = pytest.mark.django_db


def test_password_and_code_log_in_and_lead_where_one_wanted(client, boss, codes):
    asked = give_password(client, boss, "/admin/rooms/room/?o=3")
    assert asked["Location"] == "/admin/login/code/?next=%2Fadmin%2Frooms%2Froom%2F%3Fo%3D3"
    assert "The password of boss is right" in page_text(client.get(asked["Location"]))
    done = client.post(asked["Location"], {"token": code()})
    assert (done.status_code, done["Location"]) == (302, "/admin/rooms/room/?o=3")
    assert is_logged_in(client)


def test_the_password_alone_opens_nothing(client, boss, codes):
    give_password(client, boss)
    assert "_auth_user_id" not in client.session
    for path in ("/admin/", "/admin/rooms/room/", ACCOUNT, "/admin/account/second-factor/"):
        assert client.get(path)["Location"].startswith(LOGIN), path
    boss.refresh_from_db()
    assert boss.last_login is None


def test_who_has_no_second_factor_logs_in_by_the_password(client, editor):
    assert give_password(client, editor)["Location"] == "/admin/"
    assert is_logged_in(client)
    assert client.get(CODE, follow=True).redirect_chain == [(f"{LOGIN}?", 302), ("/admin/", 302)]


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil"]
)
def test_no_step_of_the_login_leads_to_another_site(client, boss, codes, target):
    assert give_password(client, boss, target)["Location"] == "/admin/login/code/?next=%2Fadmin%2F"
    assert client.post(f"{CODE}?next={target}", {"token": code()})["Location"] == "/admin/"


@pytest.mark.parametrize(("steps", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_half_a_minute_off(client, boss, codes, steps, accepted, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_015.0)
    give_password(client, boss)
    client.post(CODE, {"token": code(steps=steps)})
    assert is_logged_in(client) == accepted


def test_the_clock_of_a_phone_that_drifts_is_followed(boss, codes, monkeypatch):
    """Each login may be one step further off."""
    for login, steps in enumerate((1, 2, 3)):
        monkeypatch.setattr("time.time", lambda at=1_800_000_015.0 + 3600 * login: at)
        log_in(boss, code(steps=steps))


def test_a_code_is_good_for_one_login(client, boss, codes):
    token = code()
    log_in(boss, token)
    give_password(client, boss)
    assert "was used before" in page_text(client.post(CODE, {"token": token}))
    assert not is_logged_in(client)


def test_a_code_is_refused_after_a_later_one(client, boss, codes):
    earlier = code()
    log_in(boss, code(steps=1))
    give_password(client, boss)
    client.post(CODE, {"token": earlier})
    assert not is_logged_in(client)


@pytest.mark.parametrize(
    "written", ["{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}", " {0} ", "{0[0]}{0[1]}{0[2]}-{0[3]}{0[4]}{0[5]}"]
)
def test_spaces_and_hyphens_in_a_code_are_ignored(client, boss, codes, written):
    give_password(client, boss)
    client.post(CODE, {"token": written.format(code())})
    assert is_logged_in(client)


@pytest.mark.parametrize(
    "text", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "-12345", "x" * 5000, "\0", "0x1234"]
)
def test_what_is_no_code_is_a_form_error_that_counts_nothing(client, boss, codes, text):
    give_password(client, boss)
    assert client.post(CODE, {"token": text}).status_code == 200
    assert AccessAttempt.objects.count() == 0
    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_another_accounts_code_does_not_log_in(client, boss, editor, codes):
    give_second_factor(editor, key="aa" * 20)
    give_password(client, boss)
    client.post(CODE, {"token": code("aa" * 20)})
    assert not is_logged_in(client)


@pytest.mark.parametrize("changes", [{"is_active": False}, {"password": "!other"}])
def test_the_step_ends_where_the_account_or_its_password_changes(client, boss, codes, changes):
    give_password(client, boss)
    User.objects.filter(pk=boss.pk).update(**changes)
    assert client.post(CODE, {"token": code()})["Location"].startswith(LOGIN)
    assert "_auth_user_id" not in client.session


def test_the_code_has_to_come_within_ten_minutes(client, boss, codes, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    give_password(client, boss)
    monkeypatch.setattr("time.time", lambda: 1_800_000_601.0)
    assert client.post(CODE, {"token": code()})["Location"].startswith(LOGIN)


def test_a_code_without_a_password_is_no_login(client, boss, codes):
    assert client.post(CODE, {"token": code()})["Location"].startswith(LOGIN)


def test_each_step_of_the_login_gives_the_session_another_key(client, boss, codes):
    client.cookies["sessionid"] = "a" * 32
    give_password(client, boss)
    first = client.session.session_key
    assert first != "a" * 32
    client.post(CODE, {"token": code()})
    assert client.session.session_key != first
    assert not Session.objects.filter(session_key=first).exists()
    assert "password_accepted" not in client.session


def test_a_browser_is_known_and_marked_only_after_the_code(client, boss, codes):
    give_password(client, boss)
    assert {"known", "staff"} & set(client.cookies) == set()
    client.post(CODE, {"token": code()})
    assert {"known", "staff"} <= set(client.cookies)
    assert client.cookies["sessionid"]["httponly"]
    assert client.cookies["sessionid"]["samesite"] == "Lax"


def test_cookies_of_the_second_step_are_secure_with_https(client, boss, codes, settings):
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    give_password(client, boss, secure=True)
    client.post(CODE, {"token": code()}, secure=True)
    assert all(client.cookies[name]["secure"] for name in ("sessionid", "known", "staff"))


def test_logging_in_as_somebody_else_keeps_nothing_of_the_session(boss, editor, codes):
    client = log_in(editor)
    client.session["theirs"] = "kept"
    give_password(client, boss)
    client.post(CODE, {"token": code()})
    assert client.session["_auth_user_id"] == str(boss.pk)
    assert "theirs" not in client.session


# --- Guesses


def test_a_wrong_code_counts_once_as_a_failed_login(client, boss, codes):
    give_password(client, boss)
    token = wrong_code()
    assert "This code is wrong" in page_text(client.post(CODE, {"token": token}))
    attempt = AccessAttempt.objects.get()
    assert (attempt.username, attempt.failures_since_start) == ("boss", 1)
    assert token not in attempt.post_data + attempt.get_data
    assert TOTPDevice.objects.get().throttling_failure_count == 1


def test_a_right_password_does_not_forgive_wrong_codes(client, boss, codes, clock):
    for _ in range(3):
        give_password(client, boss)
        client.post(CODE, {"token": wrong_code()})
        clock.let_pass(60)
    assert AccessAttempt.objects.get().failures_since_start == 3
    give_password(client, boss)
    client.post(CODE, {"token": code()})
    assert AccessAttempt.objects.count() == 0
    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_wrong_codes_lock_the_login_as_wrong_passwords_do(boss, codes, clock):
    TOTPDevice.objects.update(throttling_failure_count=0)
    for _ in range(10):
        client = Client()
        give_password(client, boss)
        last = client.post(CODE, {"token": wrong_code()})
        TOTPDevice.objects.update(throttling_failure_count=0)
        clock.let_pass(35)
    assert (last.status_code, last["Retry-After"]) == (429, "600")
    assert give_password(Client(), boss).status_code == 429


def test_guesses_from_other_addresses_and_sessions_wait_ever_longer(boss, codes, clock, settings):
    settings.BEHIND_PROXY = True
    for number, seconds in enumerate((1, 2, 4, 8, 16)):
        client = Client(headers={"X-Forwarded-For": f"10.0.0.{number}"})
        give_password(client, boss)
        assert client.post(CODE, {"token": wrong_code()}).status_code == 200
        early = client.post(CODE, {"token": code()})
        assert (early.status_code, early["Retry-After"]) == (429, str(seconds))
        assert "Passwords or codes were wrong too often" in page_text(early)
        clock.let_pass(seconds)
    assert AccessAttempt.objects.filter(failures_since_start__gt=1).count() == 0  # waiting is no failure
    give_password(client, boss)
    client.post(CODE, {"token": code()})
    assert is_logged_in(client)


def test_a_recovery_code_is_accepted_while_the_app_has_to_wait(client, boss, codes):
    device = TOTPDevice.objects.get()
    device.throttling_failure_count = 15
    device.throttle_increment()
    give_password(client, boss)
    client.post(CODE, {"token": codes[0]})
    assert is_logged_in(client)
    device.refresh_from_db()
    assert device.throttling_failure_count == 0


def test_the_login_says_nothing_of_accounts_before_the_password_is_right(client, boss, codes):
    shown = []
    for name in ("boss", "nobody"):
        response = client.post(LOGIN, {"username": name, "password": "wrong"})
        shown.append((response.status_code, page_text(response).replace(name, "")))
    assert shown[0] == shown[1]


# --- Recovery codes


def test_a_recovery_code_logs_in_once_and_the_rest_is_counted(client, boss, codes):
    give_password(client, boss)
    page = client.post(CODE, {"token": codes[3].upper()}, follow=True)
    assert "You used a recovery code; 9 are left." in page_text(page)
    assert "9 recovery codes are left" in page_text(client.get(ACCOUNT))
    other = Client()
    give_password(other, boss)
    other.post(CODE, {"token": codes[3]})
    assert not is_logged_in(other)


def test_recovery_codes_are_stored_as_digests(boss, codes):
    stored = {row.digest for row in RecoveryCode.objects.all()}
    assert len(stored) == len(codes) == 10
    assert all(len(text) == 64 for text in stored)
    assert not {text.replace(" ", "") for text in codes} & stored


def test_a_recovery_code_of_another_account_is_wrong(client, boss, editor, codes):
    others = give_second_factor(editor, key="aa" * 20)
    give_password(client, boss)
    client.post(CODE, {"token": others[0]})
    assert not is_logged_in(client)
    assert RecoveryCode.objects.count() == 20


# --- What the log has, and what a login costs


def test_logins_by_recovery_code_are_in_the_history_and_the_log(client, boss, codes, caplog):
    give_password(client, boss)
    with caplog.at_level(logging.INFO, "rentomatic_site.accounts"):
        client.post(CODE, {"token": codes[0]})
    assert LogEntry.objects.get().change_message == "Recovery code used, from 127.0.0.1."
    assert "account boss: Recovery code used, by boss from 127.0.0.1" in caplog.text
    assert codes[0].replace(" ", "") not in caplog.text.replace(" ", "")


def test_the_login_page_reads_nothing_from_the_database(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get(LOGIN).status_code == 200


def statements(queries):
    """Verb and table of each statement, without savepoints."""
    asked = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    table = re.compile(r'^(SELECT|INSERT|UPDATE|DELETE)(?:.*?FROM| INTO)? "(\w+)"', re.DOTALL)
    found = [table.search(sql) for sql in asked]
    return [f"{match[1]} {match[2]}" for match in found]


def test_the_queries_of_a_login_are_known(client, boss, codes):
    with CaptureQueriesContext(connection) as password:
        give_password(client, boss)
    assert statements(password) == [
        "SELECT axes_accessattempt",  # of the name from the address
        "SELECT axes_accessattempt",  # of the address
        "SELECT auth_user",
        "SELECT otp_totp_totpdevice",
        "SELECT accounts_session",  # whether the key is in use
        "INSERT accounts_session",
    ]
    with CaptureQueriesContext(connection) as second:
        client.post(CODE, {"token": code()})
    assert statements(second) == [
        "SELECT accounts_session",
        "SELECT auth_user",
        "SELECT otp_totp_totpdevice",
        *["SELECT axes_accessattempt"] * 2,  # whether the login is locked
        "SELECT auth_user",
        "SELECT otp_totp_totpdevice",  # for update
        "UPDATE otp_totp_totpdevice",
        "SELECT accounts_session",
        "INSERT accounts_session",  # the session has another key from here on
        *["SELECT accounts_session", "DELETE accounts_session"],
        "UPDATE auth_user",
        *["SELECT axes_accessattempt"] * 2,  # the failures that it ends
        "UPDATE accounts_session",
    ]


def test_a_page_of_the_admin_reads_one_more_row_for_the_second_factor(boss, codes):
    with_code = log_in(boss, code())
    without = Client()
    without.force_login(boss)
    numbers = []
    for client in (without, with_code):
        client.get("/admin/auth/group/")
        with CaptureQueriesContext(connection) as queries:
            client.get("/admin/auth/group/")
        numbers.append(len(queries))
    assert numbers[1] == numbers[0] + 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["of the app", "for recovery"])
def test_of_two_logins_by_one_code_at_once_one_is_refused(boss, codes, kind):
    token = code() if kind == "of the app" else codes[0]
    clients = [Client(), Client()]
    for client in clients:
        give_password(client, boss)
    at_once(lambda client: client.post(CODE, {"token": token}), *clients)
    assert sorted(is_logged_in(client) for client in clients) == [False, True]
