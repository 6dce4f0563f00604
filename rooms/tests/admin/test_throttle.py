"""Wrong passwords: delays, then lockouts, without effect on other users."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_access import log_in


class Clock:
    """A clock for login attempts that the test advances."""

    def __init__(self):
        self.time = timezone.now()

    def __call__(self):
        return self.time

    def let_pass(self, seconds):
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("axes.handlers.proxy.now", clock)
    monkeypatch.setattr("django.utils.timezone.now", clock)
    return clock


def fail(times, username="boss", address="127.0.0.1", agent="guesser"):
    """Store failed login attempts."""
    AccessAttempt.objects.create(
        username=username, ip_address=address, user_agent=agent, failures_since_start=times
    )


@pytest.mark.django_db
def test_wrong_passwords_are_delayed_then_locked_out(client, boss, clock):
    assert [log_in(client).status_code for _ in range(5)] == [200] * 5
    for seconds in (2, 4, 8, 16, 32):
        early = log_in(client, right=True)
        assert (early.status_code, early["Retry-After"]) == (429, str(seconds))
        assert f"Wait {seconds} seconds" in page_text(early)
        clock.let_pass(seconds)
        last = log_in(client)
    assert (last.status_code, last["Retry-After"]) == (429, "600")
    assert "Wait 10 minutes" in page_text(last)
    assert log_in(client, right=True).status_code == 429
    assert "_auth_user_id" not in client.session
    clock.let_pass(601)
    assert log_in(client, right=True).status_code == 302


@pytest.mark.django_db
def test_the_log_says_whose_logins_fail_and_from_where(client, boss, clock, caplog):
    log_in(client)
    text = " ".join(record.getMessage() for record in caplog.records if record.name.startswith("axes"))
    assert "boss" in text
    assert "127.0.0.1" in text
    stored = AccessAttempt.objects.get()
    assert "wrong" not in f"{text} {stored.get_data} {stored.post_data}"


@pytest.mark.django_db
def test_a_delayed_login_attempt_is_not_counted(client, boss, clock):
    for _ in range(5):
        log_in(client)
    assert {log_in(client).status_code for _ in range(10)} == {429}
    clock.let_pass(2.5)
    assert log_in(client, right=True).status_code == 302


@pytest.mark.django_db
def test_a_wait_is_told_in_minutes_from_two_minutes_on(client, boss, clock):
    fail(10)
    clock.let_pass(480)
    assert "Wait 2 minutes" in page_text(log_in(client))
    clock.let_pass(1)
    assert "Wait 119 seconds" in page_text(log_in(client))


@pytest.mark.django_db
def test_attempts_from_another_ip_address_lock_out_no_user(client, boss, settings):
    settings.BEHIND_PROXY = True
    fail(10, address="10.0.0.1")
    assert log_in(client, right=True, HTTP_X_FORWARDED_FOR="10.0.0.1").status_code == 429
    assert log_in(client, right=True, HTTP_X_FORWARDED_FOR="10.0.0.2").status_code == 302


@pytest.mark.django_db
def test_an_ip_address_is_locked_out_after_a_hundred_failures(client, boss):
    for number in range(10):
        assert log_in(client, username=f"guess{number}").status_code == 200
    assert log_in(client, right=True).status_code == 302
    fail(90, username="someone")  # the login reset the failures of its own user, not the ten of others
    assert log_in(Client(), right=True).status_code == 429
    assert log_in(Client(), right=True, REMOTE_ADDR="10.0.0.9").status_code == 302


@pytest.mark.django_db
def test_fifty_failures_of_an_address_slow_it_down(client, boss, clock):
    fail(49, username="someone")
    log_in(client, username="someone else")
    assert log_in(client, right=True)["Retry-After"] == "2"
    clock.let_pass(2)
    assert log_in(client, right=True).status_code == 302


@pytest.mark.django_db
def test_a_known_browser_is_not_locked_out_by_others(boss, client):
    assert log_in(client, right=True).status_code == 302
    client.post("/admin/logout/")
    fail(10)
    fail(100, username="many names")
    assert log_in(client, right=True).status_code == 302
    assert log_in(Client(), right=True).status_code == 429


@pytest.mark.django_db
def test_a_known_browser_guesses_no_more_than_another(boss, viewer, client, clock):
    log_in(client, right=True)
    assert [log_in(client).status_code for _ in range(6)] == [200] * 5 + [429]
    assert log_in(Client(), right=True, REMOTE_ADDR="10.0.0.9").status_code == 302
    fail(10, username="vera")
    assert log_in(client, username="vera").status_code == 429  # known for another name


@pytest.mark.django_db
@pytest.mark.parametrize("cookie", ["", "x", "boss", '{"boss": "guesser"}', "eyJib3NzIjoiZ3Vlc3NlciJ9:1:x"])
def test_a_forged_cookie_makes_no_browser_known(boss, client, cookie):
    fail(10)
    client.cookies["known"] = cookie
    assert log_in(client, right=True).status_code == 429


@pytest.mark.django_db
def test_a_browser_is_remembered_for_a_year_and_five_names(client, boss):
    names = [f"user{number}" for number in range(6)]
    for name in names:
        User.objects.create_user(name, password="boss-of-rooms", is_staff=True)
        log_in(client, username=name, right=True)
        client.post("/admin/logout/")
    cookie = client.cookies["known"]
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (365 * 24 * 3600, True, "Lax")
    for name in names:
        fail(10, username=name)
    assert [log_in(client, username=name, right=True).status_code for name in names[:2]] == [429, 302]


@pytest.mark.django_db
def test_forwarded_addresses_count_behind_a_trusted_proxy_only(client, boss, settings):
    settings.BEHIND_PROXY = False
    fail(10)
    assert log_in(client, HTTP_X_FORWARDED_FOR="10.0.0.1").status_code == 429
    settings.BEHIND_PROXY = True
    assert log_in(client, HTTP_X_FORWARDED_FOR="10.0.0.1").status_code == 200


@pytest.mark.django_db
def test_an_ipv6_address_counts_as_its_network(client, boss, settings, clock):
    settings.BEHIND_PROXY = True
    for number in range(5):
        log_in(client, HTTP_X_FORWARDED_FOR=f"2001:db8:1:2:{number}::1")
    assert log_in(client, HTTP_X_FORWARDED_FOR="2001:db8:1:2:ffff::1").status_code == 429
    assert log_in(client, HTTP_X_FORWARDED_FOR="2001:db8:1:3::1").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("10.0.0.1", 429),
        ("6.6.6.6, 10.0.0.1", 429),
        ("6.6.6.6,10.0.0.1 ", 429),
        ("10.0.0.1, 10.0.0.2", 302),
        ("10.0.0.1, 2001:db8::1", 302),
        ("", 302),
    ],
)
def test_of_several_forwarded_addresses_the_last_is_the_clients(client, boss, settings, forwarded, status):
    settings.BEHIND_PROXY = True
    fail(10, address="10.0.0.1")
    assert log_in(client, right=True, HTTP_X_FORWARDED_FOR=forwarded).status_code == status


@pytest.mark.django_db
def test_behind_a_proxy_that_names_no_client_its_own_address_counts(client, boss, settings):
    settings.BEHIND_PROXY = True
    fail(10, address="10.0.0.9")
    assert log_in(client, right=True, REMOTE_ADDR="10.0.0.9").status_code == 429
    assert log_in(client, right=True, REMOTE_ADDR="10.0.0.8").status_code == 302
