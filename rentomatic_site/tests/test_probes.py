"""/livez and /readyz, asked as a container's health check asks them."""

import pytest
from django.db import connection
from django.test import Client

from rentomatic_site import probes


@pytest.fixture
def probe(settings) -> Client:
    """A client from inside: a foreign host name, no TLS."""
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["rooms.example.com"]
    probes.database.forget()
    return Client(SERVER_NAME="10.1.2.3")


def test_livez_asks_nobody(probe, django_assert_num_queries):
    answer = probe.get("/livez")  # no database mark: a query would fail this test
    assert (answer.status_code, answer.json()) == (200, {"live": True})


@pytest.mark.django_db(transaction=True)
def test_readyz_is_200_when_the_migrations_are_applied(probe):
    answer = probe.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True})
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.django_db
def test_readyz_names_a_pending_migration(probe, monkeypatch):
    monkeypatch.setattr("rentomatic_site.probes.last_migrations", lambda: [("rooms", "9999_later")])
    answer = probe.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reason": "migrations pending: rooms.9999_later"}
    assert answer["Retry-After"] == "2"


@pytest.mark.django_db
def test_readyz_is_503_without_a_database_and_keeps_the_drivers_text(probe, monkeypatch, caplog):
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", 1)
    answer = probe.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reason": "the database does not answer"}
    assert "Connection refused" in caplog.text


@pytest.mark.django_db
def test_readyz_asks_the_database_once_in_a_second(probe, monkeypatch):
    asked = []
    monkeypatch.setattr(probes, "last_migrations", lambda: asked.append(1) or [])
    assert {probe.get("/readyz").status_code for _ in range(50)} == {200}
    assert len(asked) < 5  # one for each second that the fifty take


def test_readyz_is_503_within_a_second_while_another_probe_gets_no_answer(probe):
    with probes.database.lock:  # as the one that waits holds it
        answer = probe.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the database does not answer")


@pytest.mark.django_db
def test_readyz_is_503_while_draining(probe, settings, tmp_path):
    settings.DRAIN_FILE = str(tmp_path / "draining")
    assert probe.get("/readyz").status_code == 200
    (tmp_path / "draining").touch()
    answer = probe.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reason": "draining: this process is about to stop"}
    assert answer["Retry-After"] == "2"


def test_only_the_probes_pass_without_an_allowed_host(probe):
    assert probe.get("/rooms", secure=True).status_code == 400
