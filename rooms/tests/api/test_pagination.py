"""Pagination: every row exactly once, in every order, also during concurrent writes."""

import random
import re
from dataclasses import replace
from html import unescape
from math import inf
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection

from rooms.api import plans
from rooms.api.explaining import explain_page
from rooms.api.search import Search
from rooms.factories import RoomFactory, varied_rooms
from rooms.models import Room

pytestmark = pytest.mark.django_db

ORDERS = [
    "",
    *(sign + name for name in ("code", "size", "price", "latitude", "longitude") for sign in ("", "-")),
    "price,size",
    "price,-size",
    "-price,size",
    "-price,-size",
    "-size,price,-code",
    "size,latitude,-longitude,price",
    "longitude,-code",
    "-size,-price",
    "price,size,-latitude",
    "price_per_m2",
    "-price_per_m2",
    "price_per_m2,-price",
    "-price_per_m2,size,-code",
    "price,-price_per_m2",
]


def link(response, relation):
    """The URL with this relation in the header Link, None where it has none."""
    match = re.search(rf'<([^>]*)>; rel="{relation}"', response.headers["Link"])
    return match and match[1]


def next_link(response):
    """The URL of the next page, None on the last."""
    return link(response, "next")


def pages(client, url):
    """Each page's rooms, by following the links."""
    for _ in range(500):  # a cursor that does not advance would loop forever
        response = client.get(url)
        assert response.status_code == 200, response.content
        yield response.json()
        url = next_link(response)
        if not url:
            return
    pytest.fail("the pages do not end")


def walk(client, url):
    return [room["code"] for page in pages(client, url) for room in page]


def in_order(rooms, order):
    """The codes as plain Python sorts them: unknown sizes last, ties by the order of entry."""
    rooms = sorted(rooms, key=lambda room: room.id, reverse=order.rpartition(",")[2].startswith("-"))
    for word in reversed(order.split(",") if order else []):
        name = word.removeprefix("-")
        unknown = -inf if word.startswith("-") else inf

        def value(room, name=name, unknown=unknown):
            found = room.size and room.price / room.size if name == "price_per_m2" else getattr(room, name)
            return unknown if found is None else found

        rooms = sorted(rooms, key=value)
        if word.startswith("-"):  # without reversing the ties
            rooms = [
                room
                for key in dict.fromkeys(value(room) for room in reversed(rooms))
                for room in rooms
                if value(room) == key
            ]
    return [str(room.code) for room in rooms]


@pytest.fixture
def rooms():
    return Room.objects.bulk_create(varied_rooms(60))


@pytest.mark.parametrize("order", ORDERS)
def test_walking_all_pages_gives_every_row_once_and_in_order(client, rooms, order):
    for limit in (1, 7, 20, 60, 61):
        if limit == 1 and order not in {"", "-size", "price,-size"}:
            continue
        found = walk(client, f"/rooms?limit={limit}" + (f"&order={order}" if order else ""))
        assert found == in_order(rooms, order), limit


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("place", ["", "near=0,0&within=20015115"])
def test_walking_back_gives_the_same_pages(client, rooms, order, place):
    query = "&".join(part for part in ("limit=7", order and f"order={order}", place) if part)
    url, forth = f"/rooms?{query}", []
    while url:
        response = client.get(url)
        forth.append(response.json())
        url = next_link(response)
    assert len(forth) == 9
    back = [response.json()]
    while url := link(response, "prev"):
        following, response = response, client.get(url)
        back.append(response.json())
        assert client.get(next_link(response)).json() == following.json()
    assert back == forth[::-1]


def test_the_first_page_has_no_previous_one(client, rooms):
    first = client.get("/rooms?limit=30&order=price")
    assert link(first, "prev") is None
    second = client.get(next_link(first))
    assert link(second, "next") is None
    again = client.get(link(second, "prev"))
    assert link(again, "prev") is None
    assert again.content == first.content


def test_a_previous_page_is_as_long_as_there_are_rooms_before(client, rooms):
    url = next_link(client.get("/rooms?limit=5"))
    second = client.get(url)
    whole = client.get(link(second, "prev").replace("limit=5", "limit=50"))
    assert [room["code"] for room in whole.json()] == [str(room.code) for room in rooms[:5]]
    assert link(whole, "prev") is None
    following = client.get(next_link(whole))
    assert [room["code"] for room in following.json()] == [str(room.code) for room in rooms[5:55]]


def test_the_previous_page_of_rooms_that_are_gone_is_empty(client, rooms):
    second = client.get(next_link(client.get("/rooms?limit=5")))
    Room.objects.filter(pk__in=[room.pk for room in rooms[:5]]).delete()
    response = client.get(link(second, "prev"))
    assert (response.status_code, response.json()) == (200, [])
    assert (link(response, "prev"), link(response, "next")) == (None, None)


def test_an_export_ends_before_a_cursor_in_the_order_that_was_asked_for(client, rooms):
    second = client.get(next_link(client.get("/rooms?limit=20&order=price,-size")))
    before = parse_qs(urlsplit(link(second, "prev")).query)["before"][0]
    text = b"".join(client.get(f"/rooms.csv?order=price,-size&before={before}")).decode()
    found = [line.partition(",")[0] for line in text.splitlines()[1:]]
    assert found == in_order(rooms, "price,-size")[:20]


def test_a_page_cannot_begin_and_end_at_a_cursor(client, rooms):
    first = client.get("/rooms?limit=5")
    after = parse_qs(urlsplit(next_link(first)).query)["after"][0]
    response = client.get(f"/rooms?after={after}&before={after}")
    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == ["before"]
    for name in ("after", "before"):
        assert client.get(f"/rooms?{name}={after}").status_code == 200
        assert client.get(f"/rooms?{name}={after}&order=price").status_code == 400


def test_the_page_links_to_the_previous_and_the_next_one(client, rooms):
    def html(url):
        return client.get(url, HTTP_ACCEPT="text/html").content.decode()

    def links(page):
        found = re.findall(r'<a(?: class="next")? href="([^"]*)" rel="(next|prev)"', page)
        return {relation: unescape(url) for url, relation in found}

    assert set(links(html("/rooms?limit=20"))) == {"next"}
    second = html(links(html("/rooms?limit=20"))["next"])
    assert set(links(second)) == {"prev", "next"}
    third = html(links(second)["next"])
    assert set(links(third)) == {"prev"}
    codes = re.compile(r'data-code="[0-9a-f-]{36}"')
    assert codes.findall(html(links(third)["prev"])) == codes.findall(second)


@pytest.mark.parametrize("order", ["price", "-size", "price,-size"])
def test_a_filter_holds_on_every_page(client, rooms, order):
    cheap = [room for room in rooms if room.price < 66]
    found = walk(client, f"/rooms?filter_price__lt=66&order={order}&limit=4")
    assert found == in_order(cheap, order)


@pytest.mark.parametrize("order", ["price", "-price", "-price,size"])
@pytest.mark.parametrize(
    ("query", "prices"),
    [
        ("filter_price__eq=62", [62]),
        ("filter_price__in=61,63", [61, 63]),
        ("filter_price__gt=60&filter_price__lte=63", [61, 62, 63]),
    ],
)
def test_a_filter_on_the_first_key_holds_behind_a_cursor(client, rooms, query, prices, order):
    chosen = [room for room in rooms if room.price in prices]
    assert len(chosen) > 4
    assert walk(client, f"/rooms?{query}&order={order}&limit=2") == in_order(chosen, order)


@pytest.mark.parametrize("order", ["", "price", "-price", "size", "-size", "price,-size", "-code"])
def test_pages_are_stable_while_rows_are_added_and_deleted(client, rooms, order):
    chance = random.Random(3)
    gone, found = set(), []
    url = f"/rooms?limit=5&order={order}".removesuffix("&order=")
    while url:
        response = client.get(url)
        found += [room["code"] for room in response.json()]
        url = next_link(response)
        for victim in Room.objects.order_by("?")[:2]:
            gone.add(str(victim.code))
            victim.delete()
        # The row of the cursor is deleted, too.
        gone |= {found[-1]}
        Room.objects.filter(code=found[-1]).delete()
        for _ in range(2):
            RoomFactory(price=chance.randint(0, 70), size=chance.choice([None, 50]))
        assert len(found) < 1000
    assert len(found) == len(set(found))
    stayed = {str(room.code) for room in rooms} - gone
    assert stayed <= set(found)
    kept_order = [code for code in found if code in stayed]
    assert kept_order == [code for code in in_order(rooms, order) if code in stayed]


def test_a_row_that_moves_does_not_disturb_the_others(client, rooms):
    first, second, *_ = pages(client, "/rooms?limit=5&order=code")
    response = client.get("/rooms?limit=5&order=code")
    Room.objects.filter(code=first[0]["code"]).update(price=5)
    assert client.get(next_link(response)).json() == second


# --- The link


def test_the_links_are_absolute_and_keep_the_other_parameters(client, rooms):
    response = client.get(
        "/rooms.geojson?order=price,-size&limit=5&filter_price__in=60,61,62,63&count=exact&bbox=-180,-90,180,90"
    )
    first, following = re.fullmatch(
        r'<([^>]*)>; rel="first", <([^>]*)>; rel="next"', response.headers["Link"]
    ).groups()
    assert first == (
        "http://testserver/rooms.geojson?order=price,-size&limit=5&filter_price__in=60,61,62,63"
        "&count=exact&bbox=-180,-90,180,90"
    )
    query = parse_qs(urlsplit(following).query)
    assert query.pop("after")
    assert query == parse_qs(urlsplit(first).query)
    again = client.get(following)
    assert re.match(r'<([^>]*)>; rel="first"', again.headers["Link"])[1] == first


def test_no_next_link_where_the_last_page_is_just_full(client, rooms):
    assert next_link(client.get("/rooms?limit=60")) is None
    assert next_link(client.get("/rooms?limit=59")) is not None
    assert 'rel="first"' in client.get("/rooms?limit=60").headers["Link"]


def test_a_page_beyond_the_end_is_empty(client, rooms):
    url = next_link(client.get("/rooms?limit=59"))
    Room.objects.all().delete()
    response = client.get(url)
    assert (response.status_code, response.json(), next_link(response)) == (200, [], None)


@pytest.mark.parametrize("suffix", ["json", "ndjson", "csv", "geojson"])
def test_every_format_has_pages(client, rooms, suffix):
    url, codes = f"/rooms.{suffix}?limit=25&order=price", []
    while url:
        response = client.get(url)
        codes += (
            re.findall(r"^.*?([0-9a-f]{8}-[0-9a-f-]{27})", response.content.decode(), re.MULTILINE)
            if suffix
            in {
                "csv",
                "ndjson",
            }
            else [
                room.get("code") or room["id"]
                for room in (response.json() if suffix == "json" else response.json()["features"])
            ]
        )
        url = next_link(response)
    assert codes == in_order(rooms, "price")


# --- Cursors


@pytest.fixture
def cursor_of(client, rooms):
    def cursor(query):
        return parse_qs(urlsplit(next_link(client.get(f"/rooms?limit=5&{query}"))).query)["after"][0]

    return cursor


def refuses(client, query, after):
    response = client.get(
        "/rooms", {**dict(part.split("=") for part in query.split("&") if part), "after": after}
    )
    assert response.status_code in {200, 400}
    if response.status_code == 400:
        assert [error["parameter"] for error in response.json()["errors"]] == ["after"]
    return response.status_code == 400


@pytest.mark.parametrize(
    "query", ["", "order=price,-size", "near=0,0&within=20015115", "filter_price__lt=66"]
)
def test_a_truncated_or_altered_cursor_is_400(client, cursor_of, query):
    cursor = cursor_of(query)
    assert not refuses(client, query, cursor)
    for length in range(len(cursor)):
        assert refuses(client, query, cursor[:length])
    for place in range(len(cursor)):
        for other in "Aa_":
            if cursor[place] != other:
                assert refuses(client, query, cursor[:place] + other + cursor[place + 1 :]), place
    for altered in (
        cursor + "A",
        cursor + "=",
        cursor + "\n",
        "A" + cursor,
        " " + cursor,
        cursor + cursor,
        cursor[::-1],
    ):
        assert refuses(client, query, altered)


@pytest.mark.parametrize(
    ("query", "others"),
    [
        ("", ["order=price", "filter_price__lt=66", "near=0,0", "bbox=0,0,1,1"]),
        (
            "order=price",
            ["", "order=-price", "order=price,size", "order=size", "order=price&filter_price__lt=66"],
        ),
        (
            "filter_price__lt=66",
            ["", "filter_price__lt=67", "filter_price__lte=66", "filter_price__lt=66&filter_size__lt=66"],
        ),
        (
            "near=0,0&within=20015115",
            [
                "",
                "near=0,1&within=20015115",
                "near=0,0&within=20015114",
                "near=0,0",
                "near=0,0&within=20015115&order=price",
            ],
        ),
    ],
)
def test_a_cursor_of_another_search_is_400(client, cursor_of, query, others):
    cursor = cursor_of(query)
    for other in others:
        assert refuses(client, other, cursor), other


def test_a_cursor_signed_with_another_key_is_400(client, cursor_of, settings):
    cursor = cursor_of("order=price")
    settings.SECRET_KEY = "another-" * 10
    assert refuses(client, "order=price", cursor)


def test_limit_format_and_count_may_change_between_pages(client, cursor_of, rooms):
    rest = in_order(rooms, "price")[5:]
    after = cursor_of("order=price")
    assert [room["code"] for room in client.get(f"/rooms?order=price&limit=9&after={after}").json()] == rest[
        :9
    ]
    response = client.get(f"/rooms?after={after}&count=exact&order=price&limit=50")
    assert [room["code"] for room in response.json()] == rest[:50]
    assert response.headers["X-Total-Count"] == "60"
    streamed = b"".join(client.get(f"/rooms.csv?order=price&after={after}")).decode()
    assert [line.split(",")[0] for line in streamed.splitlines()[1:]] == rest


def test_a_cursor_does_not_show_what_it_holds_of_the_table(cursor_of):
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor_of("order=code"))


# --- Plans


def plan(search):
    """The plans of a page, executed: their nodes from the top down, and the buffers that they read."""
    nodes, buffers = [], 0
    for _, ((found,),) in explain_page(search, "ANALYZE, BUFFERS, FORMAT JSON"):
        buffers += found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]
        waiting = [found["Plan"]]
        while waiting:
            node = waiting.pop()
            nodes.append(node)
            waiting += node.get("Plans", [])
    return nodes, buffers


def deep(order, rows):
    """The search that continues after so many rows."""
    search = Search.parse(f"order={order}" if order else "")
    keys = ", ".join(f"{key.sql}::text" for key in search.order.keys)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {keys} FROM room ORDER BY {plans.order_sql(search.order.keys)} OFFSET {rows} LIMIT 1"
        )
        last = list(cursor.fetchone())
    return Search.parse(f"order={order}&after={search.cursor(last)}".removeprefix("order=&"))


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ("", "room_pkey"),
        ("price", "room_price"),
        ("-price", "room_price"),
        ("size", "room_size"),
        ("-size", "room_size"),
        ("latitude", "room_latitude"),
        ("-longitude", "room_longitude"),
        ("code", "room_code_key"),
        ("price,size", "room_price"),
        ("price,-size", "room_price"),
        ("-size,price", "room_size"),
    ],
)
def test_pages_are_index_scans_at_any_depth(twenty_thousand, order, index):
    single = "," not in order
    first_nodes, first = plan(Search.parse(f"order={order}" if order else ""))
    deep_nodes, later = plan(deep(order, 15_000))
    for nodes in (first_nodes, deep_nodes):
        kinds = [node["Node Type"] for node in nodes]
        assert "Seq Scan" not in kinds, order
        assert [node["Index Name"] for node in nodes if "Index Name" in node] == [index]
        if single and order != "code":  # its index has no id; codes have no ties
            assert "Sort" not in kinds
            assert "Incremental Sort" not in kinds
    # The levels of the index and at most one page of the table for each row; more for ties.
    assert max(first, later) <= (120 if single else 400), (first, later)
    assert sum(node.get("Rows Removed by Filter", 0) for node in deep_nodes) <= (1 if single else 200)


@pytest.mark.parametrize("order", ["", "price", "-price", "size", "-longitude", "code"])
def test_a_previous_page_costs_what_a_next_one_does(twenty_thousand, order):
    following = deep(order, 15_000)
    previous = replace(following, after=(), before=following.after)
    (nodes, buffers), (later_nodes, later_buffers) = plan(previous), plan(following)
    assert {node["Node Type"] for node in nodes} == {node["Node Type"] for node in later_nodes}
    assert buffers <= later_buffers * 1.5 + 20


def test_a_filtered_page_is_read_from_the_index_of_its_order(twenty_thousand):
    nodes, buffers = plan(Search.parse("filter_price__lt=66&order=price"))
    assert [node.get("Index Name") for node in nodes if "Index Name" in node] == ["room_price"]
    assert buffers < 200


def test_a_cursor_is_valid_with_a_fallback_secret_key(client, settings):
    RoomFactory.create_batch(3)
    link = client.get("/rooms?limit=1").headers["Link"]
    following = re.search(r'<http://testserver([^>]*)>; rel="next"', link)[1]
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another secret key, which has never signed anything before 0123456789"
    assert client.get(following).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get(following).status_code == 400
