"""Connections that the server ends, limits, and migrations that race."""

import os
import signal
import subprocess
import sys
from threading import Timer

import pytest
from django.core.management import call_command
from django.db import OperationalError, close_old_connections, connection, connections

from rentomatic_site import postgres
from rentomatic_site.testing.plugin import PROJECT


def terminate_all() -> None:
    """End every connection to the tests' database, as a restart of the server does."""
    with postgres.session() as server:
        server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            [connection.settings_dict["NAME"]],
        )


def setting(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [name])
        return cursor.fetchone()[0]


def first_setting(name: str) -> str:
    """What the connection began with."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reset_val || coalesce(unit, '') FROM pg_settings WHERE name = %s", [name])
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_ended_while_idle_costs_no_request(client):
    """Each request begins with a health check and opens a new connection where it fails."""
    statuses = []
    for _ in range(3):
        close_old_connections()  # what the start of a request does, outside Django's test client
        statuses.append(client.get("/rooms").status_code)
        terminate_all()
    connection.close()
    assert statuses == [200, 200, 200]


@pytest.mark.unpooled("the pooler connects anew")
@pytest.mark.django_db(transaction=True)
def test_the_health_check_tells_a_live_connection_from_a_dead_one():
    connection.close()
    connection.ensure_connection()
    assert connection.is_usable()
    terminate_all()
    assert not connection.is_usable()
    connection.close()
    assert not connection.is_usable()


@pytest.mark.unpooled("the limits are those of the role")
@pytest.mark.django_db(transaction=True)
def test_every_connection_has_the_limits_of_a_request():
    connection.close()
    limits = {
        "statement_timeout": "5000ms",
        "lock_timeout": "2000ms",
        "idle_in_transaction_session_timeout": "10000ms",
        "client_connection_check_interval": "500ms",
        "TimeZone": "UTC",
        "application_name": "rentomatic",
    }
    assert {name: first_setting(name) for name in limits} == limits


@pytest.mark.unpooled("the limits are those of the role")
@pytest.mark.django_db(transaction=True)
def test_long_statements_lifts_the_limit_and_brings_it_back():
    with postgres.long_statements():
        assert (setting("statement_timeout"), setting("lock_timeout")) == ("0", "5s")
    assert (setting("statement_timeout"), setting("lock_timeout")) == ("5s", "2s")


@pytest.mark.unpooled("the limits are those of the role")
@pytest.mark.django_db(transaction=True)
def test_long_statements_brings_the_limit_back_after_an_error():
    with pytest.raises(OperationalError), postgres.long_statements(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 1; SELECT pg_sleep(1)")
    assert setting("statement_timeout") == "5s"


@pytest.mark.django_db(transaction=True)
def test_an_advisory_lock_is_waited_for_and_ends_with_its_session():
    waited = []
    with postgres.advisory_lock("trial") as holder:
        holder.connection.close()
        with postgres.advisory_lock("trial"):
            pass  # the end of a session frees it, as soon as the server notices
    with postgres.advisory_lock("trial", waiting=lambda: waited.append(True)):
        pass  # the end of the block frees it at once
    assert waited == []
    with postgres.advisory_lock("trial"), postgres.session() as other:
        release = Timer(0.3, signal.raise_signal, [signal.SIGINT])  # Ctrl-C is heard while waiting
        release.start()
        with pytest.raises(KeyboardInterrupt):
            postgres.take_lock(other, "trial", lambda: waited.append(True))
    assert waited == [True]


@pytest.fixture
def empty_database():
    """The name of a database without a table."""
    name = f"test_migrate_{os.getpid()}"
    with postgres.session() as server:
        postgres.drop_database(server, name)
        postgres.create_database(server, name)
        yield name
        postgres.drop_database(server, name)


@pytest.mark.django_db(transaction=True)
def test_three_migrates_at_once_succeed(empty_database):
    env = os.environ | {"DATABASE_URL": postgres.url(empty_database)}
    command = [sys.executable, PROJECT / "manage.py", "migrate"]
    racers = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    outputs = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], outputs
    assert sum("Applying rooms.0001_room... OK" in output for output in outputs) == 1
    assert sum("Another migrate is at work; waiting for it" in output for output in outputs) >= 1


@pytest.mark.unpooled("migrate locks a session of its own; as a command it has one")
@pytest.mark.django_db(transaction=True)
def test_migrate_works_without_the_time_limit_of_requests():
    seen = []

    def watch(execute, sql, params, many, context):
        if "django_migrations" in sql and not seen:
            seen.append(setting("statement_timeout"))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        call_command("migrate", verbosity=0)
    assert seen == ["0"]
    assert setting("statement_timeout") == "5s"


def test_names_are_identifiers_whatever_is_in_them():
    name = f'test "quoted"; {os.getpid()}'
    with postgres.session() as server:
        postgres.create_database(server, name)
        try:
            assert postgres.database_exists(server, name)
            assert postgres.database_comment(server, name) is None
            postgres.comment_on_database(server, name, "it's ours")
            assert postgres.database_comment(server, name) == "it's ours"
            postgres.allow_connections(server, name, False)
            with pytest.raises(Exception, match="not currently accepting connections"):
                postgres.connect(name)
            postgres.create_database(server, name + "2", template=name, strategy="FILE_COPY")
            postgres.rename_database(server, name + "2", name + "3")
            assert postgres.database_exists(server, name + "3")
        finally:
            for suffix in ("", "2", "3"):
                postgres.drop_database(server, name + suffix)
        assert not postgres.database_exists(server, name)


def test_the_site_uses_this_backend():
    assert type(connections["default"]).__module__ == "rentomatic_site.embedded.backend.base"
