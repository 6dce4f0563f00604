"""Estimates, statistics and maps of a million rooms: how wrong they are, and what they read."""

import random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rooms.api import counts, queries
from rooms.api.search import Search
from rooms.counting import FIRST, MAX_COUNTED, count_in
from rooms.sampling import WHOLE
from rooms.seeding import EUROPE

ROOMS = 1_000_000
pytestmark = pytest.mark.django_db

QUERIES = [
    "",
    "bbox=-1,51,1,52",
    "bbox=-180,-90,180,90",
    "bbox=-0.1,51.5,0,51.6",
    "bbox=-0.3,51.4,-0.1,51.55",
    "bbox=13.1,51.3,13.7,51.7",
    "bbox=170,-90,-170,90",
    "bbox=20,35,0,70",
    "near=-0.1276,51.5072&within=1000",
    "near=-0.1276,51.5072&within=5000",
    "near=-0.1276,51.5072&within=20000",
    "near=2.35,48.85&within=400000",
    "near=0,0&within=20015115",
    "near=179,-89&within=3000000",
    "filter_price__eq=66",
    "filter_price__ne=66",
    "filter_price__lt=66",
    "filter_price__lte=12",
    "filter_price__gt=300",
    "filter_price__gte=150",
    "filter_price__in=50,51,52",
    "filter_size__isnull=true",
    "filter_size__isnull=false",
    "filter_size__gte=40&filter_size__lte=60",
    "filter_latitude__gt=52",
    "filter_longitude__lt=-9",
    "filter_code__eq=f853578c-fc0f-4e65-81b8-566c5dffa35a",
    "filter_code__ne=f853578c-fc0f-4e65-81b8-566c5dffa35a",
    "bbox=-1,51,1,52&filter_price__lt=20",
    "bbox=-1,51,-0.4,51.7&filter_price__ne=66",
    "bbox=-1,51,1,52&filter_price__gte=40&filter_price__lte=60&filter_size__gte=20&filter_size__lte=40",
    "near=-0.1276,51.5072&within=50000&filter_size__gt=100",
    "near=-0.1276,51.5072&within=50000&filter_price__lt=40",
    "filter_price__gt=60&filter_price__lt=70&filter_size__gt=40&filter_size__lt=70",
]


def searches(number):
    """Boxes and circles around cities and away from them, filters, and combinations of these."""
    chance = random.Random(11)
    for _ in range(number):
        city = chance.choice(EUROPE)
        longitude, latitude = city.longitude + chance.gauss(0, 0.3), city.latitude + chance.gauss(0, 0.2)
        parts = []
        kind = chance.randrange(3)
        if kind == 0:
            width, height = 30 * chance.random() ** 3, 20 * chance.random() ** 3
            box = (longitude - width, latitude - height, longitude + width, latitude + height)
            parts.append("bbox=" + ",".join(f"{side:.4f}" for side in box))
        if kind == 1:
            within = round(10 ** chance.uniform(3, 6.3))
            parts.append(f"near={longitude:.4f},{latitude:.4f}&within={within}")
        if kind == 2 or chance.random() < 0.5:
            price = round(65 * 2.7 ** chance.gauss(0, 0.8))
            parts.append(f"filter_price__{chance.choice(['lt', 'gte', 'ne'])}={price}")
        if chance.random() < 0.3:
            parts.append(
                f"filter_size__{chance.choice(['lte', 'gt'])}={round(30 * 2.7 ** chance.gauss(0, 0.5))}"
            )
        yield "&".join(parts)


def both_counts(query):
    """The estimated count of a search, and the exact one, which the API refuses where it is dear."""
    search = Search.parse("&".join([*filter(None, [query]), "count=estimated"]))
    return counts.count(search), count_in("", queries.matching_rooms(search))


def check(query):
    estimated, exact = both_counts(query)
    if estimated.exact:
        assert int(estimated) == int(exact)
    else:
        assert int(estimated) == pytest.approx(int(exact), rel=0.1), query
        assert int(exact) > MAX_COUNTED


@pytest.mark.parametrize("query", QUERIES)
def test_an_estimate_is_within_a_tenth(million_rooms, query):
    check(query)


def test_estimates_of_random_searches_are_within_a_tenth(million_rooms):
    for query in searches(120):
        check(query)


# --- What they read


def captured(function):
    """The plans of the statements of a call, executed."""
    with CaptureQueriesContext(connection) as statements:
        function()
    plans = []
    with connection.cursor() as cursor:
        for query in statements.captured_queries:
            settings, _, statement = query["sql"].rpartition("; ")  # of a query that has some for itself
            if settings:
                cursor.execute(settings)
            if not statement.startswith(("EXPLAIN", "SET")):
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
                plans.append(cursor.fetchone()[0][0]["Plan"])
    return plans


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scans(plan):
    return [node for node in nodes(plan) if node.get("Relation Name") == "room"]


def read_rows(plan):
    """Rows and entries of indexes that were read."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(plan)
        if node.get("Relation Name") == "room"
    )


def check_sample(plan, share):
    """The plan reads a share of the rooms from the index of the sample, and hardly a page of the table."""
    (scan,) = scans(plan)
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Only Scan", "room_sample")
    # VACUUM passes over a page that is being written meanwhile: a few rooms are looked up in the table.
    fetches = scan["Heap Fetches"]
    assert fetches <= 0.05 * share * ROOMS
    assert scan["Actual Rows"] <= 1.05 * share * ROOMS
    assert not any("Gather" in node["Node Type"] for node in nodes(plan))
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] - fetches <= 0.011 * share * ROOMS


@pytest.mark.parametrize("query", QUERIES)
def test_an_estimate_reads_no_more_than_the_sample(million_rooms, query):
    search = Search.parse("&".join([*filter(None, [query]), "count=estimated"]))
    looks = 1 if search.boxes is None else 2  # where there is a place, at its rooms, too
    plans = captured(lambda: counts.count(search))
    total = counts.count(search)
    if total.exact:
        plans.pop()
    for plan in plans[:looks]:
        check_sample(plan, FIRST)
    others = plans[looks:]
    if total >= 100_000:
        assert others == []
    for plan in others:
        check_sample(plan, WHOLE)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(("path", "share"), [("/rooms/stats", FIRST + WHOLE), ("/rooms/clusters", 2 * WHOLE)])
def test_statistics_and_maps_of_many_rooms_read_samples(client, million_rooms, path, share, query):
    body = client.get(f"{path}?{query}").json()
    if not body["sampled"]:
        assert body["count"] <= 22_000
        return
    plans = captured(lambda: client.get(f"{path}?{query}"))
    assert len(plans) <= 4
    assert sum(map(read_rows, plans)) <= 1.05 * ROOMS * share + 2 * 512 * 21
    assert not any("Gather" in node["Node Type"] for plan in plans for node in nodes(plan))


def test_statistics_of_a_circle_take_no_distance_of_the_rooms_outside_its_box(client, million_rooms):
    *_, statistics = captured(lambda: client.get("/rooms/stats?near=-0.1276,51.5072&within=5000"))
    (condition,) = [node["Filter"] for node in nodes(statistics) if "asin" in node.get("Filter", "")]
    assert 0 < condition.index("longitude <=") < condition.index("asin")


def test_a_map_of_all_rooms_reads_one_in_forty(client, million_rooms):
    plans = captured(lambda: client.get("/rooms/clusters"))
    assert len(plans) == 3  # the estimate, the sample, the sparse cells
    assert sum(map(read_rows, plans)) <= ROOMS / 40


@pytest.mark.parametrize("query", ["", "bbox=-1,51,1,52", "filter_price__lt=66", "near=0,50&within=600000"])
def test_a_sampled_map_is_near_the_truth(client, million_rooms, query):
    body = client.get(f"/rooms/clusters?zoom=6&{query}").json()
    assert body["sampled"] is True
    total = 0
    for cell in body["cells"]:
        west, south, east, north = cell["bbox"]
        box = f"{west},{south},{east},{north}"
        given = "&".join(part for part in query.split("&") if part and not part.startswith("bbox"))
        exact = client.get(f"/rooms/stats?{given}&bbox={box}").json()
        total += exact["count"]
        if exact["count"] > 30_000:
            assert cell["count"] == pytest.approx(exact["count"], rel=0.2)
            assert cell["median_price"] == pytest.approx(exact["price"]["quartiles"][1], rel=0.1)
    assert body["count"] == pytest.approx(total, rel=0.1)


def test_a_single_room_in_the_ocean_is_on_the_map_of_a_million(client, million_rooms):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO room (code, price, latitude, longitude)"
            " VALUES ('f853578c-fc0f-4e65-81b8-566c5dffa35a', 39, -30, -120)"
        )
    for query in ("", "zoom=0", "filter_price__lt=66", "filter_size__isnull=true"):
        cells = client.get(f"/rooms/clusters?{query}").json()["cells"]
        (cell,) = [cell for cell in cells if cell["bbox"][0] < -90]
        assert cell["room"]["code"] == "f853578c-fc0f-4e65-81b8-566c5dffa35a"
