"""What a page by distance reads: few rows of many, through the index; and the ends of its list."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rooms.api import nearest, queries
from rooms.api.formats import JSON
from rooms.api.search import Search
from rooms.models import Room
from rooms.tests.api.costs import rows_of
from rooms.tests.api.test_geo import store
from rooms.tests.api.test_pagination import next_link, walk

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_small_table_is_answered_to_its_end(client, count):
    rooms = store([(60 * number, 0) for number in range(count)])
    found = walk(client, "/rooms?near=1,1&limit=2")
    assert sorted(found) == sorted(str(room.code) for room in rooms)


def test_rooms_deleted_while_a_page_is_read_do_not_end_the_list(client, monkeypatch):
    monkeypatch.setattr(nearest, "FEW", 20)
    rooms = store([(n / 1000, 0) for n in range(200)])

    def delete_nearest(search, trusted, narrowed=nearest.narrowed):
        narrow = narrowed(search, trusted)
        assert narrow.near.ring.bounded
        Room.objects.filter(pk__in=[room.pk for room in rooms[:150]]).delete()
        return narrow

    monkeypatch.setattr(queries, "narrowed", delete_nearest)
    response = client.get("/rooms?near=0,0&limit=5")
    assert [room["code"] for room in response.json()] == [str(room.code) for room in rooms[150:155]]
    assert next_link(response)


def test_a_sample_that_is_not_like_the_rooms_costs_no_room(client, monkeypatch, seventy_thousand):
    query = "near=0.9,51.9&limit=20&filter_price__lt=200"
    expected = client.get(f"/rooms?{query}").json()
    monkeypatch.setattr(nearest, "read_sample", lambda search, near, sign: (50_000, 10.0))
    assert client.get(f"/rooms?{query}").json() == expected
    assert len(expected) == 20


def rows_read(url):
    """The rows of the table that all queries of a page read, and their plans."""
    search = Search.parse(url)
    with CaptureQueriesContext(connection) as captured:
        queries.page(search, JSON)
    total, plans = 0, []
    with connection.cursor() as cursor:
        for query in captured.captured_queries:
            if query["sql"].startswith("EXPLAIN"):
                continue
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query['sql']}")
            ((plan,),) = cursor.fetchone()
            plans.append(plan["Plan"])
            total += rows_of(plan["Plan"])
    return total, json.dumps(plans), len(captured)


@pytest.mark.parametrize(
    ("query", "most", "most_queries"),
    [
        ("near=-0.1,51.5&limit=20", 300, 3),
        ("near=0.9,51.9&limit=20&filter_price__lt=200", 3500, 5),
        ("near=-0.1,51.5&limit=20&within=20015115", 2600, 4),
        ("near=-21.9,64.1&limit=20", 3000, 10),
        ("near=0,90&limit=20", 300, 3),
        ("near=179.9,-51.5&limit=20", 5000, 12),
        ("near=-0.1,51.5&limit=20&order=-distance", 5000, 12),
    ],
)
def test_a_page_reads_few_of_many_rooms_through_the_index(seventy_thousand, query, most, most_queries):
    rows, plans, count = rows_read(query)
    assert rows <= most
    assert count <= most_queries
    assert "room_place" in plans
    assert "Seq Scan" not in plans


def test_a_page_in_the_middle_of_the_list_reads_less_than_half_of_it(seventy_thousand):
    """The cursor of the room in the middle of the list, with as many rooms before it as behind."""
    search = Search.parse("near=0,51.5")
    rows, values = queries.select_rows(search)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT room.distance, room.id FROM ({rows} OFFSET 35000 LIMIT 1) AS room", values)
        last = [str(value) for value in cursor.fetchone()]
    assert rows_read(f"near=0,51.5&limit=20&after={search.cursor(last)}")[0] < 30_000
