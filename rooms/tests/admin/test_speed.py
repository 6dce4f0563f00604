"""The admin with a million rooms: no sequential scan, sort or offset."""

import re
from uuid import UUID

import pytest
from django.db import connection

from rooms.counting import FIRST, MAX_COUNTED
from rooms.models import Room
from rooms.tests.admin.pages import page_text

LIST = "/admin/rooms/room/"
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("million_rooms")]


def plans(queries, part):
    """PostgreSQL's plans of the statements on rooms that contain this part."""
    with connection.cursor() as cursor:
        for query in queries:
            sql = query["sql"]
            if 'FROM "room"' in sql and part in sql and not sql.startswith("EXPLAIN"):
                cursor.execute("EXPLAIN " + sql)
                yield "\n".join(row[0] for row in cursor.fetchall())


def test_few_rooms_are_counted_and_many_are_estimated(as_editor):
    few = Room.objects.filter(code__range=(UUID("f8" + "0" * 30), UUID("f8" + "f" * 30))).count()
    assert f"{few:,} rooms" in as_editor.get(LIST, {"q": "f8"}).content.decode()
    assert "about 990,000 rooms" in as_editor.get(LIST).content.decode()
    assert "about 990,000 rooms" in page_text(as_editor.get("/admin/"))


def test_a_page_number_beyond_the_limit_is_the_last_page(as_editor):
    response = as_editor.get(LIST, {"p": "400", "price__gte": "20"})
    changelist = response.context["cl"]
    assert changelist.page_num == MAX_COUNTED // 100
    assert len(changelist.result_list) == 100
    assert "price__gte" in changelist.params
    assert "The pages reach the first 10,000." in response.content.decode()


def test_a_list_costs_few_queries_and_no_full_count(as_editor, django_assert_num_queries):
    # session, user, 2 for rights; 2 for the estimate, page, saved filters
    with django_assert_num_queries(8) as queries:
        as_editor.get(LIST)
    statements = [query["sql"] for query in queries.captured_queries]
    assert not any(re.search(r"OFFSET [1-9]", sql) for sql in statements)
    assert all("uuid_hash" in sql for sql in statements if "COUNT(" in sql.upper())


@pytest.mark.parametrize(
    ("parameters", "index"),
    [
        ({}, "room_updated_at"),
        ({"o": "1"}, "room_code_key"),
        ({"o": "-1"}, "room_code_key"),
        ({"o": "2"}, "room_size"),
        ({"o": "-2"}, "room_size"),
        ({"o": "3"}, "room_price"),
        ({"o": "-3"}, "room_price"),
        ({"o": "4"}, "room_latitude"),
        ({"o": "-5"}, "room_longitude"),
        ({"o": "-6"}, "room_updated_at"),
        ({"o": "3", "p": "90"}, "room_price"),
    ],
    ids=str,
)
def test_an_order_is_read_from_its_index_without_sorting(
    as_editor, django_capture_queries, parameters, index
):
    with django_capture_queries() as queries:
        as_editor.get(LIST, parameters)
    (plan,) = plans(queries, "ORDER BY")
    assert index in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    "parameters",
    [
        {"q": "f853578c"},
        {"q": "66"},
        {"q": "66m²"},
        {"q": "66€ 50m²"},
        {"price__gte": "400"},
        {"size__gte": "257"},
        {"size__gte": "257", "o": "3"},
        {"changed": "24h", "price__lte": "20"},
    ],
    ids=str,
)
def test_a_search_and_its_count_read_an_index(as_editor, django_capture_queries, parameters):
    with django_capture_queries() as queries:
        as_editor.get(LIST, parameters)
    for plan in plans(queries, "room"):
        assert "Index" in plan
        assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    "url",
    [
        LIST,
        f"{LIST}?o=3.2",
        f"{LIST}?p=100&o=-3",
        f"{LIST}?q=f8",
        f"{LIST}?size__isnull=true&changed=24h",
        "/admin/",
    ],
)
def test_a_page_reads_as_many_rooms_as_a_count_may(as_editor, django_capture_queries, url):
    with django_capture_queries() as queries:
        assert as_editor.get(url).status_code == 200
    read = 0
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            if 'FROM "room"' in query["sql"] and not query["sql"].startswith("EXPLAIN"):
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
                read += rows_read(cursor.fetchone()[0][0]["Plan"])
    assert read <= 3 * (MAX_COUNTED + 1_000_000 * FIRST), read


def rows_read(plan):
    """How many rows of tables and entries of indexes a plan of EXPLAIN ANALYZE came across."""
    below = plan.get("Plans", [])
    if below:
        return sum(map(rows_read, below))
    return (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]


# --- By place


def nodes(plan):
    """A plan of EXPLAIN and all below it."""
    return [plan, *(node for below in plan.get("Plans", []) for node in nodes(below))]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("bbox=-0.13,51.5,-0.12,51.51", "room_place"),
        ("bbox=-0.13,51.5,-0.12,51.51&price__lte=60", None),
        ("near=-0.12,51.5&within=1000", "room_place"),
        ("near=-0.12,51.5&within=1000&o=3", "room_place"),
        ("near=-0.12,51.5&within=1000&bbox=-1,51,1,52", "room_place"),
        ("bbox=179,-90,-179,90", "room_place"),
        ("bbox=-180,-90,180,90", "room_updated_at"),
        ("near=-0.12,51.5&within=20000000", "room_updated_at"),
        ("bbox=-180,-90,180,90&o=3", "room_price"),
    ],
)
def test_a_place_reads_as_many_rooms_as_a_count_may(as_editor, django_capture_queries, query, index):
    with django_capture_queries() as queries:
        assert as_editor.get(f"{LIST}?{query}").status_code == 200
    read = 0
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            if re.search(r'FROM ("room"|room\b)', query["sql"]) and not query["sql"].startswith("EXPLAIN"):
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
                plan = cursor.fetchone()[0][0]["Plan"]
                read += rows_read(plan)
                assert not any(node["Node Type"].endswith("Seq Scan") for node in nodes(plan))
                if "ORDER BY" in query["sql"] and index:
                    assert index in {node.get("Index Name") for node in nodes(plan)}
    assert read <= 4 * (MAX_COUNTED + 1_000_000 * FIRST), read


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("", 8),
        ("bbox=-0.13,51.5,-0.12,51.51", 11),
        ("near=-0.12,51.5&within=1000", 11),
        ("map=fit", 11),
        ("map=3/51/0", 8),
    ],
)
def test_a_place_costs_a_query_and_a_map_none_before_it_is_opened(
    as_editor, django_assert_max_num_queries, query, number
):
    with django_assert_max_num_queries(number):
        as_editor.get(f"{LIST}?{query}")


@pytest.mark.parametrize("query", ["", "changed=24h", "q=66", "price__gte=60&price__lte=80"])
def test_the_map_of_the_list_reads_a_sample_of_a_million_rooms(as_editor, django_capture_queries, query):
    for more in ("", "&zoom=5&bbox=-10,45,10,55", "&zoom=12&bbox=-0.13,51.5,-0.12,51.51"):
        with django_capture_queries() as queries:
            assert as_editor.get(f"{LIST}map/?{query}{more}").status_code == 200
        read = 0
        with connection.cursor() as cursor:
            for captured in queries.captured_queries:
                if "FROM room" in captured["sql"] and not captured["sql"].startswith("EXPLAIN"):
                    cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {captured['sql']}")
                    read += rows_read(cursor.fetchone()[0][0]["Plan"])
        assert read <= 200_000, read
