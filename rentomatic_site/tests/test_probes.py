"""/livez and /readyz, requested as by a container's health check."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.staticfiles import storage as static_storage
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client, override_settings
from django.urls import resolve, reverse

from rentomatic_site import probes
from rentomatic_site.release import PACKAGES, identity, release
from rentomatic_site.testing.rig import wait_until

SKIPPED = shutil.ignore_patterns("tests", "*.pmtiles", "*.pyc")


@pytest.fixture
def probe(settings) -> Iterator[Client]:
    """A client from inside: a foreign host name, no TLS."""
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["rooms.example.com"]
    probes.database.forget()
    yield Client(SERVER_NAME="10.1.2.3")
    probes.load_parts.cache_clear()


@pytest.fixture
def recorder(transactional_db) -> Iterator[MigrationRecorder]:
    """The table of applied migrations, for all connections; as it was afterwards."""
    recorder = MigrationRecorder(connection)
    before = list(recorder.migration_qs)
    yield recorder
    recorder.migration_qs.all().delete()
    recorder.migration_qs.bulk_create(before)


def test_livez_makes_no_query(probe):
    response = probe.get("/livez")  # without pytest.mark.django_db a query fails
    assert (response.status_code, response.json()) == (200, {"live": True})


@pytest.mark.django_db(transaction=True)
def test_readyz_is_200_when_the_migrations_are_applied(probe):
    response = probe.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, **identity()})
    assert response["Cache-Control"] == "no-store"


@pytest.mark.django_db(transaction=True)
def test_readyz_says_which_release_and_which_secret_key_this_is(probe, settings, tmp_path):
    before = probe.get("/readyz").json()
    settings.SECRET_KEY = "another-" + settings.SECRET_KEY
    after = probe.get("/readyz").json()
    assert (after["release"], after["key"] == before["key"]) == (before["release"], False)
    for package in PACKAGES:
        shutil.copytree(settings.BASE_DIR / package, tmp_path / package, ignore=SKIPPED)
    settings.BASE_DIR = tmp_path
    copied = release.__wrapped__()
    with (tmp_path / "rooms/templates/rooms/base.html").open("a") as page:
        page.write("<!-- later -->")
    assert len({copied, release.__wrapped__()}) == 2


def test_readyz_names_a_pending_migration(probe, recorder):
    # Not the app's last one: a gap counts too.
    recorder.record_unapplied("rooms", "0002_groups")
    response = probe.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {
        "ready": False,
        "reason": "migrations pending: rooms.0002_groups",
        **identity(),
    }
    assert response["Retry-After"] == "2"


def test_readyz_is_503_where_the_schema_is_newer_than_the_code(probe, recorder):
    recorder.record_applied("rooms", "9999_later")
    response = probe.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "the schema is newer than this version: rooms.9999_later"


def test_readyz_is_200_with_some_of_what_a_squashed_migration_replaces(
    probe, recorder, settings, tmp_path, monkeypatch
):
    names = [path.stem for path in Path(apps.get_app_config("rooms").path, "migrations").glob("0*.py")]
    (tmp_path / "squashed_rooms").mkdir()
    (tmp_path / "squashed_rooms" / "__init__.py").touch()
    (tmp_path / "squashed_rooms" / "0001_all.py").write_text(
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        f"    replaces = {[('rooms', name) for name in names]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"rooms": "squashed_rooms"}
    recorder.record_applied("rooms", "0001_all")
    recorder.record_unapplied("rooms", names[0])
    probes.migrations.cache_clear()
    try:
        assert probe.get("/readyz").json()["ready"] is True
    finally:
        probes.migrations.cache_clear()


def test_readyz_takes_no_notice_of_an_app_that_was_removed(probe, recorder):
    recorder.record_applied("formerly", "0001_initial")
    assert probe.get("/readyz").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("template", ["{% broken %}", "{% load nowhere %}"])
def test_readyz_is_503_where_a_template_does_not_compile(probe, template, monkeypatch, tmp_path, caplog):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text(template)
    monkeypatch.setattr(apps.get_app_config("rooms"), "path", str(tmp_path))
    monkeypatch.setitem(django_settings.TEMPLATES[0], "DIRS", [tmp_path / "templates"])
    probes.load_parts.cache_clear()
    with override_settings(TEMPLATES=django_settings.TEMPLATES):
        response = probe.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"].startswith("URLs, templates or static files cannot be loaded")
    assert "Invalid block tag" in caplog.text or "is not a registered tag library" in caplog.text


@pytest.mark.django_db
def test_readyz_is_503_where_the_urls_cannot_be_imported(probe, tmp_path, monkeypatch, caplog):
    (tmp_path / "broken_urls.py").write_text("import nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    probes.load_parts.cache_clear()
    with override_settings(ROOT_URLCONF="broken_urls"):
        assert probe.get("/readyz").status_code == 503
    assert "No module named 'nowhere'" in caplog.text


@pytest.mark.django_db
def test_readyz_is_503_until_static_files_are_collected(probe, tmp_path, caplog):
    probes.load_parts.cache_clear()
    storage = "whitenoise.storage.CompressedManifestStaticFilesStorage"
    with override_settings(STORAGES={"staticfiles": {"BACKEND": storage}}, STATIC_ROOT=str(tmp_path)):
        assert probe.get("/readyz").status_code == 503
        assert "Missing staticfiles manifest entry" in caplog.text
        call_command("collectstatic", "--noinput", verbosity=0)
        static_storage.staticfiles_storage._setup()
        assert probe.get("/readyz").status_code == 200
        name = static_storage.staticfiles_storage.stored_name("rooms/rooms.css")
        (tmp_path / name).unlink()
        probes.load_parts.cache_clear()
        assert probe.get("/readyz").status_code == 503
    assert "rooms/rooms.css" in caplog.text


@pytest.mark.django_db
def test_readyz_is_503_without_a_database_and_keeps_the_drivers_text(probe, monkeypatch, caplog):
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", 1)
    response = probe.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "the database does not answer"
    assert "Connection refused" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(("fresh", "expected"), [(3600, 1), (0, 50)], ids=["kept", "outdated"])
def test_readyz_queries_the_database_where_the_last_result_is_outdated(probe, monkeypatch, fresh, expected):
    monkeypatch.setattr(probes.Database, "FRESH", fresh)
    queries, migrations = [], probes.migrations
    monkeypatch.setattr(probes, "migrations", lambda: queries.append(1) or migrations())
    assert {probe.get("/readyz").status_code for _ in range(50)} == {200}
    assert len(queries) == expected


def test_readyz_is_503_within_a_second_while_another_probe_gets_no_response(probe):
    with probes.database.lock:  # as the one that waits holds it
        response = probe.get("/readyz")
    assert (response.status_code, response.json()["reason"]) == (503, "the database does not answer")


@pytest.mark.django_db
def test_readyz_is_503_while_draining(probe, settings, tmp_path):
    settings.DRAIN_FILE = str(tmp_path / "draining")
    assert probe.get("/readyz").status_code == 200
    (tmp_path / "draining").touch()
    response = probe.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "draining: this process is about to stop"
    assert response["Retry-After"] == "2"


@pytest.mark.parametrize("name", ["livez", "readyz"])
@pytest.mark.django_db
def test_a_probe_is_a_named_url_whose_view_responds(probe, rf, name):
    match = resolve(reverse(name))
    assert match.func(rf.get(reverse(name))).status_code == probe.get(reverse(name)).status_code == 200


def test_only_the_probes_pass_without_an_allowed_host(probe):
    assert probe.get("/rooms", secure=True).status_code == 400


@pytest.mark.django_db
def test_readyz_leaves_no_connection_to_the_database_open(probe):
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"

    def count() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(sessions)
            return cursor.fetchone()[0]

    gc.collect()
    gc.disable()  # it would close what was forgotten, some time later
    try:
        before = count()
        for _ in range(3):
            probes.database.forget()
            assert probe.get("/readyz").status_code == 200
        wait_until(lambda: count() <= before, "an end of the probes' sessions")
    finally:
        gc.enable()
