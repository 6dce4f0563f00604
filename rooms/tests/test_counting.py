"""Estimated counts of some ten thousand rooms: which number, what is read for it, and where it is hard."""

import re

import pytest
from django.db import connection

from rentomatic_site import postgres
from rooms.api import counts
from rooms.api.operators import FILTERS
from rooms.api.parameters import MAPPED, PARAMETERS
from rooms.api.search import Search
from rooms.counting import ENOUGH, FIRST, MAX_COUNTED, SECOND, count_queryset
from rooms.models import Room
from rooms.sampling import IN_SAMPLE, WHOLE, hash_bound
from rooms.tests.api.test_estimates import both_counts, captured, check, nodes, read_rows
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db


def estimate(query):
    return counts.count(Search.parse("&".join([*filter(None, [query]), "count=estimated"])))


def indexes(plan):
    return [node["Index Name"] for node in nodes(plan) if "Index Name" in node]


# --- Rooms of the test alone


def test_codes_in_sequence_are_sampled_as_well_as_random_ones(client):
    with postgres.long_statements(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO room (code, price, latitude, longitude)"
            " SELECT lpad(to_hex(n), 32, '0')::uuid, n % 100, n % 90, n % 180"
            " FROM generate_series(1, 50000) AS n"
        )
    for query in ("", "filter_price__lt=50", "bbox=0,0,90,90", "filter_price__gte=70"):
        check(query)


def test_rooms_that_no_vacuum_has_seen_are_estimated_by_as_many_of_them(client):
    """Right after an import the index alone does not say which rooms are there: each is looked up."""
    insert_rooms(60_000)
    search = Search.parse("count=estimated&filter_price__gte=50")
    plans = captured(lambda: counts.count(search))
    estimated, exact = both_counts("filter_price__gte=50")
    assert int(estimated) == pytest.approx(int(exact), rel=0.1)
    assert {index for plan in plans for index in indexes(plan)} == {"room_sample"}
    assert sum(map(read_rows, plans)) <= 1.1 * WHOLE * 60_000


# --- Rooms that the tests of this module share


def test_an_estimate_projects_each_room_of_the_sample_once(seventy_thousand):
    """Of so many rooms a second look reads the whole sample, without those of the first."""
    matching = ENOUGH + 50
    for column in ("longitude", "latitude"):
        sampled = sorted(Room.objects.filter(IN_SAMPLE).values_list(column, flat=True))
        estimated = estimate(f"filter_{column}__lt={sampled[matching]}")
        assert (int(estimated), estimated.exact) == (matching / WHOLE, False)


def test_an_estimate_reads_as_many_rooms_as_it_takes(seventy_thousand):
    plans = captured(lambda: estimate("filter_price__lt=10000"))
    first, second = map(read_rows, plans)
    assert first == pytest.approx(FIRST * 70_000, rel=0.1)
    assert first + second == pytest.approx(SECOND, rel=0.1)


def test_of_very_many_rooms_a_first_look_reads_no_more_than_of_a_million(seventy_thousand):
    """Where the planner knows of four million, it is a quarter of the share."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_class SET reltuples = 4_000_000 WHERE oid = 'room'::regclass")
    first, *_ = captured(lambda: estimate("filter_price__lt=10000"))
    assert read_rows(first) == pytest.approx(FIRST / 4 * 70_000, rel=0.2)


def test_what_the_whole_sample_has_too_few_of_is_counted(seventy_thousand):
    """They are more than MAX_COUNTED by the sample, whose error is too large for an estimate."""
    sampled = sorted(Room.objects.filter(IN_SAMPLE).values_list("longitude", flat=True))
    matching = ENOUGH - 20
    assert matching / WHOLE > MAX_COUNTED
    counted = estimate(f"filter_longitude__lt={sampled[matching]}")
    rooms = Room.objects.filter(longitude__lt=sampled[matching])
    assert (int(counted), counted.exact) == (rooms.count(), True)


def test_few_rooms_of_a_place_are_counted_by_the_index_on_the_point(seventy_thousand):
    """The planner would combine all rooms of its latitudes with all of its longitudes."""
    room = Room.objects.order_by("code").first()
    for place in (
        f"near={room.longitude},{room.latitude}&within=30000",
        f"bbox={room.longitude - 0.2},{room.latitude - 0.2},{room.longitude + 0.2},{room.latitude + 0.2}",
    ):
        search = Search.parse(f"{place}&filter_price__gte=1&count=estimated")
        *_, counted = captured(lambda search=search: counts.count(search))
        assert set(indexes(counted)) == {"room_place"}, place
        total, exact = both_counts(f"{place}&filter_price__gte=1")
        assert (int(total), total.exact) == (int(exact), True)


def test_a_query_set_without_rooms_is_counted_without_a_query(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert count_queryset(Room.objects.none()) == 0


def test_an_estimate_does_not_see_what_was_deleted(client, seventy_thousand):
    """Neither ANALYZE nor VACUUM has to run before."""
    with postgres.long_statements(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM room WHERE price < 100")
    check("")
    check("filter_size__isnull=false")


def test_the_share_of_the_sample_is_that_of_its_index():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'room_sample'::regclass"
        )
        (predicate,) = cursor.fetchone()
    assert re.search(r"-?\d{5,}", predicate)[0] == str(hash_bound(WHOLE))


@pytest.mark.parametrize("name", sorted(MAPPED - {"zoom", "within"}))
def test_every_parameter_of_a_search_is_in_the_sample(client, seventy_thousand, name):
    """A column that the index lacked would be an error, not a slow query."""
    example = (FILTERS.get(name) or PARAMETERS[name]).example
    check(f"{name}={example}")


def test_selections_and_changes_of_the_admin_can_be_counted(seventy_thousand):
    few = Room.objects.order_by("pk")[:3]
    assert count_queryset(Room.objects.filter(pk__in=[room.pk for room in few])) == 3
    changed = count_queryset(Room.objects.filter(updated_at__gte=few[0].updated_at))
    assert (int(changed), changed.exact) == (pytest.approx(70_000, rel=0.1), False)
