"""The cost of a page on a million skewed rooms, for every filter with every order: rows read, not seconds."""

from itertools import combinations

import pytest
from django.db import connection

from rooms.api import exports, queries
from rooms.api.plans import COLLECTED, FIRST_WALK, LONG_WALK, PLACE, SMALL_PLACE
from rooms.api.rings import parts_by_distance
from rooms.api.search import Search
from rooms.tests.api.costs import OPTIONS, cost_of, rows_of
from rooms.tests.api.test_pagination import next_link

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("million_rooms")]

FILTERS = [
    "filter_code__eq=f853578c-fc0f-4e65-81b8-566c5dffa35a",
    "filter_size__gte=40&filter_size__lte=60",
    "filter_size__gt=200",
    "filter_size__isnull=true",
    "filter_size__ne=30",
    "filter_price__lt=20",
    "filter_price__in=66,300,301",
    "filter_price__gte=900",
    "filter_latitude__gt=64",
    "filter_latitude__lt=41",
    "filter_longitude__gt=13",
    "filter_longitude__gte=13.4&filter_longitude__lte=13.41",
    "bbox=13.1,51.3,13.7,51.7",
    "bbox=-1,51,1,52",
    "bbox=170,-60,-170,60",
    "near=-0.1276,51.5072&within=2000",
    "near=-0.1276,51.5072&within=20015115",
]
ORDERS = [
    "",
    *(sign + name for name in ("code", "size", "price", "latitude", "longitude") for sign in ("", "-")),
    "size,price",
    "-size,price",
    "price,-latitude",
    "latitude,longitude",
    "price_per_m2",
    "-price_per_m2",
    "price_per_m2,price",
]

DISCARDED = COLLECTED
"""Rows of one filter's bitmap that another filter discards, where the planner takes no second index."""
MOST = SMALL_PLACE + 2 * (FIRST_WALK + 3 * 101) + PLACE + LONG_WALK + COLLECTED + DISCARDED
"""Rows that all the attempts of a page read."""


def url(filters, order, **more):
    given = [
        *filters,
        f"order={order}" if order else "",
        *(f"{name}={value}" for name, value in more.items()),
    ]
    return "/rooms?" + "&".join(part for part in given if part)


def names(filters):
    return [part.partition("=")[0] for one in filters for part in one.split("&")]


def assert_bounded(path):
    cost = cost_of(path)
    assert cost.status in {200, 400}, path
    assert cost.rows <= MOST, (path, cost)
    # Bitmaps of all filters on a million rooms.
    assert cost.entries <= 2_000_000, (path, cost)
    assert cost.written == 0, (path, cost)
    return cost


@pytest.mark.parametrize("order", ORDERS)
def test_a_page_of_one_filter_discards_few_rooms_or_is_bounded(order):
    for chosen in FILTERS:
        cost = assert_bounded(url([chosen], order))
        if "ne" not in names([chosen]) and cost.status == 200:
            assert cost.rows <= max(100 * cost.returned, 2 * PLACE) + LONG_WALK + COLLECTED


PAIRS = [pair for pair in combinations(FILTERS, 2) if len(set(names(pair))) == len(names(pair))]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0][:30]}-{pair[1][:30]}")
def test_a_page_of_two_filters_is_bounded(pair):
    """Every third order with each pair; the neighbouring pairs take the others."""
    for order in ORDERS[PAIRS.index(pair) % 3 :: 3]:
        assert_bounded(url(pair, order))


@pytest.mark.fuzz
@pytest.mark.parametrize("order", ORDERS)
def test_a_page_of_any_two_filters_is_bounded_in_any_order(order):
    for pair in PAIRS:
        assert_bounded(url(pair, order))


@pytest.mark.parametrize(
    "path",
    [
        "/rooms",
        "/rooms?order=-size",
        "/rooms?order=price_per_m2",
        "/rooms?order=-price_per_m2",
        "/rooms?filter_size__isnull=true&order=price_per_m2",
        "/rooms?filter_size__gte=40&filter_size__lte=60&order=size",
        "/rooms?filter_size__gte=40&filter_size__lte=60&order=-size",
        "/rooms?filter_price__gt=10&filter_price__lt=500&order=-price",
        "/rooms?filter_price__in=66,67,80&order=price",
        "/rooms?filter_size__isnull=true",
        "/rooms?filter_size__isnull=true&order=size",
        "/rooms?bbox=13.1,51.3,13.7,51.7&order=code",
        "/rooms?filter_latitude__gt=52&filter_longitude__gt=-15&filter_longitude__lt=-9&order=price",
    ],
)
def test_a_page_that_an_index_has_reads_no_other_rooms(path):
    cost = cost_of(path)
    assert cost.rows <= 1.1 * 101 + 12 * cost.returned, cost
    assert cost.entries == 0
    assert len(cost.statements) == 1


@pytest.mark.parametrize(
    "order", ["size,price", "-size,price", "size,-price", "price,size", "price_per_m2,-price"]
)
def test_orders_of_several_keys_are_bounded_at_any_depth(client, order):
    path = url([], order, limit=1000)
    seen = 0
    for _ in range(12):
        response = client.get(path)
        seen += len(response.json())
        path = next_link(response)
        assert_bounded(path.replace("limit=1000", "limit=100"))
    assert seen == 12_000


def test_an_order_that_few_matches_come_first_in_is_refused_with_another(client):
    path = "/rooms?filter_longitude__gt=13&order=latitude"
    response = client.get(path)
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["parameter"], error["hint"]) == ("order", "order=longitude")
    assert response.json()["try"] == "/rooms?filter_longitude__gt=13&order=longitude"
    assert len(client.get(response.json()["try"]).json()) == 100


@pytest.mark.parametrize("limit", [100, 1000])
@pytest.mark.parametrize("order", ["distance", "-distance"])
@pytest.mark.parametrize(
    "more", ["", "&filter_price__gt=60", "&filter_size__gt=75", "&filter_latitude__gt=52.7"]
)
def test_a_page_by_distance_is_read_through_the_index_at_any_depth(order, limit, more):
    query = f"near=-0.1276,51.5072&order={order}&limit={limit}{more}"
    search = Search.parse(query)
    metres, point = search.near.distance
    for identity in (1, 200_000, 500_000, 900_000):
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {metres}, id FROM room WHERE id >= %s ORDER BY id LIMIT 1", [*point, identity]
            )
            place = search.cursor([str(value) for value in cursor.fetchone()])
        cost = assert_bounded(f"/rooms?{query}&after={place}")
        assert cost.status == 200
        assert cost.rows <= 90_000, cost
        assert cost.entries <= 90_000, cost


@pytest.mark.parametrize(
    "query",
    [
        "near=2.3522,48.8566&filter_size__gt=82",
        "near=2.3522,48.8566&filter_price__gte=116&limit=1000",
        "near=2.3522,48.8566&filter_price__gte=116&filter_size__isnull=false&limit=1000",
        "near=-0.1276,51.5072&filter_latitude__gt=52.7",
        "near=2.1686,41.3874&filter_longitude__gte=-15.9&filter_longitude__lt=-3.8",
        "near=2.1686,41.3874&bbox=-4.5,39.7,-3.7,90",
        "near=-0.1276,51.5072&within=50000&filter_price__gt=100&limit=1000",
        "near=-0.1276,51.5072&filter_size__isnull=true&filter_size__ne=1&within=5000000",
        "near=2.3522,48.8566&filter_size__isnull=true&filter_size__lte=107&order=-distance",
    ],
)
def test_the_nearest_rooms_of_a_filter_are_found_among_few(query):
    """Where the filter leaves few rooms, or none, and where those around the place do not match."""
    cost = assert_bounded(f"/rooms?{query}")
    assert cost.status == 200
    assert cost.rows <= 90_000 + DISCARDED, cost


@pytest.mark.parametrize(
    "path", ["/rooms?limit=1&count=estimated&order=price&", "/rooms/stats?", "/rooms/clusters?"]
)
def test_few_rooms_of_a_large_circle_are_found_by_their_own_index(path):
    cost = cost_of(f"{path}near=-0.1276,51.5072&within=5000000&filter_size__gt=120")
    assert cost.rows + cost.entries <= 60_000, cost


@pytest.mark.parametrize(
    ("more", "rooms"), [("", 1_000_000), ("&order=-distance&filter_price__gt=40", 784_930)]
)
def test_an_export_by_distance_reads_a_million_rooms_in_small_parts(more, rooms):
    returned = read = 0
    with exports.one_state(), connection.cursor() as cursor:
        for part in parts_by_distance(Search.parse(f"near=-0.1276,51.5072{more}")):
            sql, values = queries.select_rows(part)
            cursor.execute(f"EXPLAIN ({OPTIONS}) {sql}", values)
            ((found,),) = cursor.fetchone()
            assert rows_of(found["Plan"]) <= 80_000
            assert found["Plan"]["Temp Written Blocks"] == 0
            returned += found["Plan"]["Actual Rows"]
            read += rows_of(found["Plan"])
    assert returned == rooms
    assert read <= 1_500_000
