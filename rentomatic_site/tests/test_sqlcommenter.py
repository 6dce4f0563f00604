"""Statements name their request and route, as PostgreSQL sees them."""

import gc

import pytest
from django.db import connection
from django.db.backends.signals import connection_created
from django.http import HttpRequest
from django.urls import ResolverMatch

from rentomatic_site import postgres, sqlcommenter
from rooms.factories import RoomFactory

REQUEST = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _commented(transactional_db):
    """A connection of production, where SQL_COMMENTS is on."""
    connection.close()
    connection_created.connect(sqlcommenter.connected)
    connection.ensure_connection()
    yield
    connection_created.disconnect(sqlcommenter.connected)
    connection.close()
    connection.execute_wrappers.remove(sqlcommenter.comment)


def last_statement():
    """What PostgreSQL shows of the connection that was used last; a pooler's has another process."""
    with postgres.session(connection.settings_dict["NAME"]) as cursor:
        cursor.execute(
            "SELECT query FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY query_start DESC LIMIT 1"
        )
        return cursor.fetchone()[0]


def test_a_statement_ends_with_its_request_and_route(client):
    client.get("/rooms/stats", headers={"X-Request-ID": REQUEST})
    assert last_statement().endswith(f" /*request_id='{REQUEST}',route='statistics'*/")


@pytest.mark.unpooled("nothing is prepared there")
def test_a_use_of_a_prepared_statement_names_its_own_request(client):
    RoomFactory()
    client.get("/rooms?limit=1", headers={"X-Request-ID": "f" * 32})
    assert "PREPARE " in last_statement()
    assert "request_id" not in last_statement()
    client.get("/rooms?limit=1", headers={"X-Request-ID": REQUEST})
    assert last_statement().startswith("EXECUTE room_")
    assert last_statement().endswith(f" /*request_id='{REQUEST}',route='rooms'*/")
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        assert "request_id" not in str(cursor.fetchall())


def test_the_admin_has_its_routes(admin_client):
    admin_client.get("/admin/rooms/room/", headers={"X-Request-ID": REQUEST})
    assert "route='admin:rooms_room_changelist'*/" in last_statement()


def test_a_statement_without_a_request_has_no_comment(client):
    client.get("/rooms", headers={"X-Request-ID": REQUEST})
    gc.collect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert last_statement() == "SELECT 1"


def test_nothing_of_a_route_ends_the_comment_or_is_a_placeholder():
    request = HttpRequest()
    request.id = REQUEST
    request.resolver_match = ResolverMatch(print, (), {}, url_name="a*/ %s'; DROP TABLE room")
    sqlcommenter.handles(request)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [1])
    assert last_statement() == f"SELECT 1 /*request_id='{REQUEST}',route='a____s___DROP_TABLE_room'*/"
