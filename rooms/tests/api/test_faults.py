"""Database failures: a prompt 503 without internals where it is unavailable, slow, full or not migrated."""

import json
import re
import threading
from contextlib import closing

import psycopg2
import pytest
from django.db import (
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from rentomatic_site import postgres
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster
from rooms.api import errors, queries
from rooms.api.errors import error_from_database
from rooms.factories import RoomFactory

LEAKS = re.compile(
    r"psycopg|SELECT|FROM |WHERE|relation|FATAL|port \d|refused|Traceback|timeout|password|127\.0\.0\.1|room_"
)


def unavailable(response):
    """Checks a 503 of the test client; returns its message."""
    assert response.status_code == 503, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "2"
    assert response.headers["Cache-Control"] == "no-store"
    problem = response.json()
    assert (problem["type"], problem["status"]) == ("SystemError", 503)
    assert not LEAKS.search(response.content.decode())
    return problem["message"]


@pytest.fixture
def client(client):
    client.raise_request_exception = False
    return client


CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
ADDRESSES = ["/rooms", "/rooms.csv", "/rooms?count=exact", f"/rooms/{CODE}", "/rooms/stats"]


def ask(client, path, **headers):
    """A response while the database fails; the test's transaction remains usable."""
    before = transaction.savepoint()
    response = client.get(path, **headers)
    transaction.savepoint_rollback(before)
    return response


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ADDRESSES)
def test_a_locked_table_is_503_within_the_lock_timeout(client, path):
    with postgres.session(connection.settings_dict["NAME"]) as other:
        other.execute("BEGIN; LOCK TABLE room")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 50")
        assert "Other work" in unavailable(client.get(path))  # and not that the statement took too long
        other.execute("ROLLBACK")
    response = client.get(path)
    b"".join(response)
    assert response.status_code == (404 if CODE in path else 200)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ADDRESSES)
def test_a_statement_timeout_is_503_with_advice(client, path):
    with connection.cursor() as cursor:
        # A view that sleeps replaces the table.
        cursor.execute("ALTER TABLE room RENAME TO quick")
        cursor.execute("CREATE VIEW room AS SELECT quick.* FROM quick, pg_sleep(3) AS brake")
        cursor.execute("INSERT INTO quick (code, price, latitude, longitude) VALUES (%s, 1, 1, 1)", [CODE])
        cursor.execute("SET LOCAL statement_timeout = 100")
    assert "took too long" in unavailable(ask(client, path))


@pytest.mark.django_db
@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize(
    "damage", ["ALTER TABLE room RENAME TO elsewhere", "ALTER TABLE room DROP COLUMN price CASCADE"]
)
def test_a_database_that_is_not_migrated_is_503(client, path, damage):
    with connection.cursor() as cursor:
        cursor.execute(damage)
    assert "migrations are pending" in unavailable(ask(client, path))


@pytest.mark.django_db
def test_a_page_of_a_database_that_is_away_is_html_for_browsers(client):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room RENAME TO elsewhere")
    response = ask(client, "/rooms", HTTP_ACCEPT="text/html")
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Retry-After"] == "2"
    assert not LEAKS.search(response.content.decode())


@pytest.mark.django_db
def test_an_internal_error_is_500_without_details(client, monkeypatch):
    def broken(*_):
        raise RuntimeError("the secret word is SELECT")

    monkeypatch.setattr(queries, "fetch_page", broken)
    for accept in ("*/*", "text/html"):
        response = client.get("/rooms", HTTP_ACCEPT=accept)
        assert response.status_code == 500
        assert b"secret" not in response.content
        assert "Retry-After" not in response.headers
    assert client.get("/rooms").json()["type"] == "SystemError"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["terminated while idle", "terminated at work"])
def test_a_connection_that_was_cut_is_made_anew(client, how):
    RoomFactory()
    assert len(client.get("/rooms").json()) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    name = connection.settings_dict["NAME"]
    if how == "terminated while idle":
        with postgres.session(name) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        connection.close_if_unusable_or_obsolete()  # as each request begins
        assert client.get("/rooms").status_code == 200
        return
    with postgres.session(name) as other:
        other.execute("BEGIN; LOCK TABLE room")
        responses = []

        def cut():
            with postgres.session(name) as third:
                rig.wait_until(lambda: waiting(third, pid), "a query that waits")
                third.execute("SELECT pg_terminate_backend(%s)", [pid])

        thread = threading.Thread(target=cut)
        thread.start()
        responses.append(client.get("/rooms"))
        thread.join()
        other.execute("ROLLBACK")
    unavailable(responses[0])
    connection.close_if_unusable_or_obsolete()
    assert client.get("/rooms").status_code == 200


def waiting(cursor, pid):
    cursor.execute("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid])
    row = cursor.fetchone()
    return bool(row and row[0])


# --- Exceptions of psycopg2


@pytest.mark.parametrize(
    ("error", "cause", "status", "story"),
    [
        (OperationalError, "08006", 503, "cannot be reached"),  # connection failure
        (OperationalError, "53300", 503, "cannot be reached"),  # too many connections
        (OperationalError, "57P01", 503, "cannot be reached"),  # shut down
        (OperationalError, "55P03", 503, "Other work"),  # lock timeout
        (OperationalError, "40P01", 503, "Other work"),  # deadlock
        (OperationalError, "57014", 503, "took too long"),  # statement timeout
        (InternalError, "25P03", 503, "paused for too long"),  # idle in a transaction
        (OperationalError, "53100", 503, "no room for more"),  # disk full
        (OperationalError, None, 503, "cannot be reached"),  # never connected
        (InterfaceError, None, 503, "cannot be reached"),  # connection already closed
        (ProgrammingError, "42P01", 503, "migrations are pending"),  # no such table
        (ProgrammingError, "42703", 503, "migrations are pending"),  # no such column
        (ProgrammingError, "42601", None, ""),  # a syntax error in SQL
        (InternalError, "25P02", None, ""),  # a statement in a failed transaction
        (DataError, "22003", 400, "beyond what the database can hold"),
        (ValueError, None, None, ""),
    ],
)
def test_database_errors_are_distinguished(error, cause, status, story):
    raised = error("the driver's own words")
    if cause:
        # Python code cannot set the pgcode of psycopg2's errors.
        raised.__cause__ = type("Error", (Exception,), {"pgcode": cause})()
    problem = error_from_database(raised)
    assert (problem and problem.status) == status
    assert problem is None or ("own words" not in problem.message and story in problem.message)


@pytest.fixture(scope="module", params=["Unix socket", "TCP"])
def parameters(request, tmp_path_factory):
    """Django's settings for a database that is reached in that way."""
    if request.param == "TCP":
        with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
            address = {"HOST": "127.0.0.1", "PORT": cluster.port, "USER": "postgres", "NAME": "postgres"}
            yield connection.settings_dict | address
    elif str(connection.settings_dict["HOST"]).startswith("/"):
        yield connection.settings_dict | {"NAME": "postgres"}
    else:
        pytest.skip("needs a server with a Unix socket")


@pytest.mark.django_db
@pytest.mark.parametrize("work", ["SELECT 1", "COMMIT"])
def test_a_pause_in_a_transaction_that_is_too_long_is_named(parameters, work):
    database = connections["default"].copy()
    database.settings_dict = parameters
    try:
        with database.cursor() as cursor, database.wrap_database_errors:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
            cursor.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 1")
            with closing(psycopg2.connect(**database.get_connection_params())) as other:
                other.autocommit = True
                rig.wait_until(lambda: has_ended(other.cursor(), pid), "the end of the session")
            with pytest.raises(OperationalError) as raised:
                cursor.execute(work)
    finally:
        database.close()
    problem = error_from_database(raised.value)
    assert problem.status == 503
    assert "it paused for too long, or the database was stopped. Try again." in problem.message


def has_ended(cursor, pid):
    cursor.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid])
    return cursor.rowcount == 0


# --- Real processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


def test_a_server_that_is_away_is_503_on_every_address(live_site, folder):
    nowhere = live_site.variables | {"POSTGRES_HOSTNAME": "127.0.0.1", "POSTGRES_PORT": str(rig.free_port())}
    with rig.Gunicorn(folder, **nowhere) as gunicorn:
        for path in ADDRESSES:
            response = gunicorn.get(path, timeout=15)  # nginx waits for 20 s
            assert response.status == 503, path
            assert response.headers["Retry-After"] == "2"
            assert response.headers["Content-Type"] == "application/problem+json"
            assert not LEAKS.search(response.body.decode())
        assert gunicorn.get("/docs").status == 200
        assert gunicorn.get("/rooms?nope=1").status == 400  # errors of the client come first
        assert gunicorn.get("/admin/", Cookie="sessionid=" + "a" * 32).status == 503


def test_a_role_without_connections_to_spare_is_503_and_recovers(live_site, folder):
    role = "test_few_connections"
    name = live_site.variables["APPLICATION_DB"]
    with postgres.session(name) as server:
        server.execute(f"DROP ROLE IF EXISTS {role}")
        server.execute(
            f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 PASSWORD 'few'; GRANT SELECT ON room TO {role}"
        )
        try:
            few = live_site.variables | {
                "POSTGRES_USER": role,
                "POSTGRES_PASSWORD": "few",
                "WEB_WORKERS": "1",
            }
            with rig.Gunicorn(folder, **few) as gunicorn:
                assert gunicorn.get("/rooms").status == 200
                statuses, lock = [], threading.Lock()

                def ask():
                    response = gunicorn.get("/rooms")
                    with lock:
                        statuses.append((response.status, response.headers["Retry-After"]))

                threads = [threading.Thread(target=ask) for _ in range(12)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert set(statuses) <= {(200, None), (503, "2")}
                assert (503, "2") in statuses
        finally:
            server.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_lock_is_503_within_the_timeout(live_site):
    with postgres.session(live_site.variables["APPLICATION_DB"]) as other:
        other.execute("BEGIN; LOCK TABLE room")
        response = live_site.get("/rooms")
        assert response.status == 503
        assert response.headers["Retry-After"] == "2"
        assert b"Other work" in response.body  # lock_timeout, 2 s, comes before the statement's 5 s
        assert live_site.get("/livez").status == 200
        other.execute("ROLLBACK")
    assert live_site.get("/rooms").status == 200


# --- Errors in the error page


@pytest.fixture(scope="module")
def without_pages(live_site, folder):
    """A server that can render no page: static files are missing from the manifest."""
    folder.joinpath("no-static").mkdir()
    with rig.Gunicorn(folder, **live_site.variables | {"STATIC_ROOT": str(folder / "no-static")}) as gunicorn:
        yield gunicorn


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/rooms", 500, "Something went wrong on our side."),
        ("/docs", 500, "Something went wrong on our side."),
        ("/admin/login/", 500, "Something went wrong on our side."),
        ("/nope", 404, "Nothing is at this address."),
        ("/rooms?limit=0&<b>=1", 400, "limit: must be from 1 to 1000; &lt;b&gt;: unknown parameter"),
        ("/%00", 400, "A NUL character is in the path"),
    ],
)
def test_an_error_is_rendered_without_templates(without_pages, path, status, words):
    response = without_pages.get(path, Accept="text/html")
    assert response.status == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-ID"]
    assert words in response.body.decode()
    assert not LEAKS.search(response.body.decode().replace("/rooms", ""))


def test_json_responses_need_no_templates(without_pages):
    assert without_pages.get("/rooms").body == b"[]"
    assert json.loads(without_pages.get("/nope").body)["type"] == "ResourceError"


def test_an_unavailable_database_is_503_without_templates(live_site, folder):
    nowhere = {"POSTGRES_HOSTNAME": "127.0.0.1", "POSTGRES_PORT": str(rig.free_port())}
    static = {"STATIC_ROOT": str(folder / "no-static-either")}
    with rig.Gunicorn(folder, **live_site.variables | nowhere | static) as gunicorn:
        response = gunicorn.get("/rooms", Accept="text/html")
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        assert "The database cannot be reached" in response.body.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "part", ["error_from_database", "preferred_media_type", "render_to_string", "InternalError"]
)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_an_error_in_the_error_handler_is_500(client, monkeypatch, part, accept):
    def broken(*_, **__):
        raise RuntimeError("the secret word is SELECT")

    monkeypatch.setattr(queries, "fetch_page", broken)
    monkeypatch.setattr(errors, part, broken)
    response = client.get("/rooms", HTTP_ACCEPT=accept)
    assert response.status_code == 500
    assert b"Something went wrong on our side." in response.content
    assert b"secret" not in response.content
    if response.headers["Content-Type"] == "application/problem+json":
        assert response.json()["status"] == 500
    assert response.headers["Cache-Control"] == "no-store"
