"""Prepared statements: which there are, and that a response does not depend on them."""

import re

import pytest
from django.db import DatabaseError, connection, transaction

from rentomatic_site import postgres
from rooms.api import prepared, queries
from rooms.api.explaining import explain_page
from rooms.api.search import Search
from rooms.factories import varied_rooms
from rooms.models import Room
from rooms.tests.api.test_pagination import next_link

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.unpooled("nothing is prepared there")]


@pytest.fixture(autouse=True)
def rooms():
    Room.objects.bulk_create(varied_rooms(120))
    connection.close()  # with what earlier tests prepared
    return list(Room.objects.order_by("id"))


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def names():
    """The statements that this connection has prepared."""
    return sorted(
        name for (name,) in execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'room_%'")
    )


def read(client, rooms):
    """One page, the next, and one room."""
    first = client.get("/rooms")
    following = client.get(first.headers["Link"].split("<")[2].split(">")[0])
    return first.content, following.content, client.get(f"/rooms/{rooms[7].code}").content


def test_pages_without_filters_and_one_room_are_prepared_once(client, rooms):
    before = read(client, rooms)
    assert len(names()) == 3
    assert read(client, rooms) == before
    assert len(names()) == 3


@pytest.mark.parametrize(
    "query",
    [
        "filter_price__lt=66&order=price",
        "filter_size__isnull=false&filter_size__gt=20&order=-size",
        "filter_code__in=f853578c-fc0f-4e65-81b8-566c5dffa35a&order=code",
        "bbox=-1,50,1,52",
        "near=0,51.5",
        "near=0,51.5&within=5000",
    ],
)
def test_a_filter_that_bounds_what_is_read_is_planned_for_its_values(client, query):
    assert client.get(f"/rooms?{query}").status_code == 200
    assert names() == []


@pytest.mark.parametrize(
    "query",
    [
        "count=exact",
        "fields=code",
        "order=price",
        "order=-size",
        "order=size,-price",
        "filter_price__lt=66",
        "filter_price__gt=10&filter_size__isnull=false&order=-latitude",
        "filter_size__in=5,20,40,41,42",
        "filter_price__in=66&order=code",
        "filter_code__in=f853578c-fc0f-4e65-81b8-566c5dffa35a,{code}",
        "filter_code__ne={code}",
        "filter_latitude__gt=-51.25&filter_longitude__ne=1e-3",
        "filter_size__gt=20&near=0,51.5&order=price,distance",
    ],
)
def test_walks_that_a_filter_does_not_bound_are_prepared(client, rooms, query, settings):
    query = query.format(code=rooms[3].code)

    def walk():
        found, url = [], f"/rooms?{query}&limit=20"
        for _ in range(3):
            response = client.get(url)
            found += response.json()
            url = next_link(response) or url
        return found

    several = [walk() for _ in range(7)]  # of which the last have a plan for any values
    assert names()
    settings.PREPARED_STATEMENTS = False
    assert several == [walk()] * 7


def test_a_connection_keeps_the_statements_that_were_used_last(client, rooms, monkeypatch):
    monkeypatch.setattr(prepared, "MOST", 3)
    limits = [1, 2, 3, 1, 4, 5, 1]
    found = [len(client.get(f"/rooms?limit={limit}").json()) for limit in limits]
    assert found == limits
    assert len(names()) == 3
    statements = execute("SELECT statement FROM pg_prepared_statements WHERE name LIKE 'room_%'")
    kept = [re.findall(r"LIMIT (\d+)", sql)[0] for (sql,) in statements]
    assert sorted(kept) == ["2", "5", "6"]  # one room more than the page


def test_a_statement_that_failed_after_it_was_prepared_is_used_again(client, rooms):
    """As with a statement_timeout."""
    with pytest.raises(DatabaseError):
        prepared.fetch(("SELECT 1 / (%s - room.price) FROM room", [rooms[0].price]))
    assert len(prepared.fetch(("SELECT 1 / (%s - room.price) FROM room", [10**7]))) == 120
    assert len(names()) == 1


def test_the_plan_of_a_prepared_statement_reads_an_index(client, rooms):
    read(client, rooms)
    Room.objects.bulk_create(varied_rooms(5_000, 2))
    execute("ANALYZE room")
    execute("SET plan_cache_mode = force_generic_plan")
    values = {"code = $1": f"('{rooms[7].code}')", "id) > ($1": "(7)"}
    for name, sql in execute("SELECT name, statement FROM pg_prepared_statements WHERE name LIKE 'room_%'"):
        given = next((text for part, text in values.items() if part in sql), "")
        plan = "\n".join(line for (line,) in execute(f"EXPLAIN EXECUTE {name} {given}"))
        assert "Index Scan using room_" in plan
        assert "Sort" not in plan


@pytest.mark.parametrize(
    "statement",
    [
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "SET search_path = public, pg_catalog",
        "ANALYZE room",
        "CREATE INDEX room_other ON room (code, size); DROP INDEX room_other",
        "ALTER TABLE room ADD COLUMN floor int; ALTER TABLE room DROP COLUMN floor",
        "ALTER TABLE room RENAME TO former; CREATE TABLE room (LIKE former INCLUDING ALL);"
        " INSERT INTO room OVERRIDING SYSTEM VALUE SELECT * FROM former; DROP TABLE room;"
        " ALTER TABLE former RENAME TO room",
    ],
)
def test_responses_stay_what_they_are_after(client, rooms, statement):
    before = read(client, rooms)
    execute(statement)
    assert read(client, rooms) == before
    assert read(client, rooms) == before


def test_a_lost_statement_makes_the_connection_use_plain_ones(client, rooms):
    before = read(client, rooms)
    execute("DEALLOCATE ALL")
    assert read(client, rooms) == before
    assert names() == []
    connection.close()
    assert read(client, rooms) == before
    assert len(names()) == 3


def test_a_new_connection_prepares_its_own_statements(client, rooms):
    before = read(client, rooms)
    pid = connection.connection.info.backend_pid
    with postgres.session(connection.settings_dict["NAME"]) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.close_if_unusable_or_obsolete()  # as at the end of a request
    assert read(client, rooms) == before
    assert connection.connection.info.backend_pid != pid
    assert len(names()) == 3


def test_statements_of_an_unknown_session_are_not_prepared_twice(client, rooms):
    """As behind a pooler, which hands out a connection on which another client has prepared them."""
    before = read(client, rooms)
    prepared.sessions.clear()
    assert read(client, rooms) == before


def test_a_column_of_another_type_is_read(rooms):
    before = queries.values_page(Search({}))
    execute("ALTER TABLE room ALTER COLUMN price TYPE bigint")
    try:
        assert queries.values_page(Search({})) == before
    finally:
        execute("ALTER TABLE room ALTER COLUMN price TYPE integer")


def test_statements_in_a_transaction_are_plain(client, rooms):
    with transaction.atomic():
        read(client, rooms)
        assert names() == []


def test_the_plan_of_a_page_is_explained_with_its_sql(rooms):
    ((sql, plan),) = explain_page(Search({}))
    assert sql.startswith("SELECT ")
    assert any("Scan" in line for line in plan)


def test_a_failed_transaction_leaves_them_prepared(client, rooms):
    before = read(client, rooms)
    with pytest.raises(DatabaseError), transaction.atomic():
        Room.objects.update(price=-1)
    assert read(client, rooms) == before
    assert len(names()) == 3


def test_an_error_of_the_statement_itself_is_raised(client, rooms):
    read(client, rooms)
    client.raise_request_exception = False
    execute("ALTER TABLE room RENAME TO former")
    try:
        assert client.get("/rooms").status_code == 503
    finally:
        execute("ALTER TABLE former RENAME TO room")


def test_the_setting_switches_them_off(client, rooms, settings):
    settings.PREPARED_STATEMENTS = False
    read(client, rooms)
    assert names() == []
