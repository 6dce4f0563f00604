"""Errors of a client: 400 with the name of the parameter, without a query."""

import random
import re
import socket
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from django.test import Client
from django.utils.html import escape
from hypothesis import given, settings, strategies

from rooms.api.errors import ParametersError
from rooms.api.hints import SYNONYMS
from rooms.api.operators import FILTERS
from rooms.api.parameters import LISTED, LISTS, MAX_HINTS, PARAMETERS, PARSERS
from rooms.api.search import Search
from rooms.columns import COLUMNS
from rooms.factories import RoomFactory

pytestmark = pytest.mark.django_db

# Internals that must not leak: SQL, messages of the driver, of Django and of Python.
LEAKS = re.compile(
    r"SELECT|FROM room|WHERE|psycopg|Traceback|Error at|invalid literal|choices are|Cannot resolve|"
    r"row_to_json|created_at|updated_at|version|django|\bid\b|syntax error|SECRET",
)


def refused(client, url, assert_queries, **headers):
    """The problem document of a URL, after checks of all that every 400 has in common."""
    with assert_queries(0):
        response = client.get(url, **headers)
    assert response.status_code == 400, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert list(problem)[:4] == ["type", "message", "title", "status"]
    assert (problem["type"], problem["status"]) == ("ParametersError", 400)
    said = [problem["message"], *(error["message"] for error in problem.get("errors", ()))]
    for name in parameters(problem):  # from the client's own request
        said = [text.replace(name.removeprefix("filter_") or " ", "") for text in said]
    assert not LEAKS.search(" ".join(said))
    return problem


@pytest.fixture
def problem_of(client, django_assert_num_queries):
    def ask(url, **headers):
        return refused(client, url, django_assert_num_queries, **headers)

    return ask


def parameters(problem):
    return [error["parameter"] for error in problem.get("errors", ())]


# --- Names


TAKES = "price takes eq, ne, lt, lte, gt, gte, in"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nope", None),
        ("_connector", None),
        ("pk", None),
        ("id", None),
        ("price__lt", "filter_price__lt"),
        ("code__eq", "filter_code__eq"),
        ("filter_prize__lt", "filter_price__lt"),
        ("filter_price_lt", "filter_price__lt"),
        ("filter_price__le", "filter_price__lte"),
        ("FILTER_PRICE__LT", "filter_price__lt"),
        ("filter[price]", "filter_price__eq"),
        ("price[lte]", "filter_price__lte"),
        ("filter_price__min", "filter_price__gte"),  # the closest operator by spelling is `in`
        ("filter_price__not", "filter_price__ne"),
        ("filter_price__regex", TAKES),
        ("filter_price__lt__gt", TAKES),
        ("filter_code__lt", "code takes eq, ne, in"),
        ("filter_id__eq", None),
        ("filter_version__eq", None),
        ("filter_", None),
        ("", None),
        ("limits", "limit"),
        ("LIMIT", "limit"),
        ("bbbox", "bbox"),
        ("ordr", "order"),
        ("price__regex", TAKES),
    ],
)
def test_an_unknown_name_is_400_with_the_closest_one_as_hint(problem_of, name, hint):
    problem = problem_of(f"/rooms?{quote(name)}=1")
    assert parameters(problem) == [name]
    assert problem["errors"][0].get("hint") == hint


@pytest.mark.parametrize("field", COLUMNS.values(), ids=COLUMNS)
def test_a_bare_field_means_eq_and_keeps_its_value(problem_of, field):
    for name in (field.name, f"filter_{field.name}", f"{field.name}s", field.name.upper()):
        problem = problem_of(f"/rooms?{name}={field.example}")
        assert problem["errors"][0]["hint"] == f"filter_{field.name}__eq"
        assert problem["try"] == f"/rooms?filter_{field.name}__eq={field.example}"


SPELLINGS = ["{}_{}", "{}-{}", "{}{}", "{}[{}]", "{}.{}"]


@pytest.mark.parametrize("field", ["size", "price", "latitude", "longitude"])
@pytest.mark.parametrize(
    ("word", "operator"),
    [("max", "lte"), ("maximum", "lte"), ("to", "lte"), ("min", "gte"), ("minimum", "gte"), ("from", "gte")],
)
def test_every_spelling_of_max_is_lte_and_of_min_gte(problem_of, field, word, operator):
    names = [form.format(*terms) for form in SPELLINGS for terms in ((word, field), (field, word))]
    names += [f"{word}{field.capitalize()}", f"{field}{word.capitalize()}", f"{word}_{field}".upper()]
    for name in names:
        problem = problem_of(f"/rooms?{quote(name)}=66")
        assert problem["errors"][0]["hint"] == f"filter_{field}__{operator}", name
        assert problem["try"] == f"/rooms?filter_{field}__{operator}=66", name


@pytest.mark.parametrize(
    ("query", "hint", "attempt"),
    [
        ("sort=-price", "order", "order=-price"),
        ("sort_by=price", "order", "order=price"),
        ("sortBy=price", "order", "order=price"),
        ("order_by=price,-size", "order", "order=price,-size"),
        ("orderBy=price", "order", "order=price"),
        ("ordering=-size", "order", "order=-size"),
        ("per_page=50", "limit", "limit=50"),
        ("perPage=50", "limit", "limit=50"),
        ("page_size=50", "limit", "limit=50"),
        ("pageSize=50", "limit", "limit=50"),
        ("pageSize=2000", "limit", "limit=1000"),
        ("near=1,2&radius=500", "within", "near=1,2&within=500"),
        ("near=1,2&distance=500", "within", "near=1,2&within=500"),
        ("select=price", "fields", "fields=price"),
        ("columns=code,price", "fields", "fields=code,price"),
        ("sort=price&sort=-size", "order", "order=price,-size"),
        ("lat=51.5", "near=lon,lat", ""),
        ("lng=-0.1", "near=lon,lat", ""),
        ("lon=-0.1", "near=lon,lat", ""),
        ("lat=51.5&lng=-0.1", "near=lon,lat", "near=-0.1,51.5"),
        ("lon=-0.1&lat=51.5&limit=5", "near=lon,lat", "limit=5&near=-0.1,51.5"),
        ("lat=51.5&lng=-0.1&radius=500", "near=lon,lat", "within=500&near=-0.1,51.5"),
        ("lat=99&lng=-0.1&limit=5", "near=lon,lat", "limit=5"),
    ],
)
def test_a_name_from_another_api_gets_the_parameter_as_hint(problem_of, query, hint, attempt):
    problem = problem_of(f"/rooms?{query}")
    assert problem["errors"][0]["hint"] == hint
    assert problem["try"] == f"/rooms{attempt and '?'}{attempt}"


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("page", "Link header"),
        ("offset", "Link header"),
        ("pageNumber", "after="),
        ("q", "filter_price__lt=66"),
        ("format", "/rooms.json"),
    ],
)
def test_a_hint_without_a_parameter_describes_the_alternative(client, problem_of, name, terms):
    problem = problem_of(f"/rooms?{name}=2&limit=5")
    assert terms in problem["errors"][0]["hint"]
    assert problem["try"] == "/rooms?limit=5"
    page = client.get(f"/rooms?{name}=2", HTTP_ACCEPT="text/html").content.decode()
    assert escape(problem["errors"][0]["hint"]) in page
    assert "did you mean" not in page


@pytest.mark.parametrize("name", [*PARSERS, "nope", "price", "max_price", "sort", "page"])
def test_a_hint_names_only_parameters_of_the_url(problem_of, name):
    code = COLUMNS["code"].example
    for error in problem_of(f"/rooms/{code}?{name}=1&{name}s=1")["errors"]:
        assert "hint" not in error


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("limit=2000", "limit=1000"),
        ("near=0,0&within=99999999", "within=20015115"),
        ("filter_price__lte=1000001", "filter_price__lte=1000000"),
        ("filter_price__gte=-1", "filter_price__gte=0"),
        ("filter_latitude__lt=91", "filter_latitude__lt=90"),
    ],
)
def test_a_value_beyond_a_limit_is_hinted_that_limit(problem_of, query, hint):
    problem = problem_of(f"/rooms?{query}")
    assert problem["errors"][0]["hint"] == hint
    assert problem["try"].endswith(hint)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        (name, meaning)
        for meaning in ("near", "bbox", "order", "limit", "count")
        for name in SYNONYMS[meaning]
    ],
)
def test_a_synonym_keeps_a_value_that_its_parameter_can_read(problem_of, name, meaning):
    value = PARAMETERS[meaning].example
    assert problem_of(f"/rooms?{name}={value}")["try"] == f"/rooms?{meaning}={value}"


def test_an_unknown_filter_has_the_message_of_the_book(problem_of):
    problem = problem_of("/rooms?filter_prize__lt=66")
    assert problem == {
        "type": "ParametersError",
        "message": "filters: Key prize__lt cannot be used",
        "title": "Invalid parameters",
        "status": 400,
        "detail": "filters: Key prize__lt cannot be used",
        "errors": [
            {"parameter": "filter_prize__lt", "message": "unknown filter", "hint": "filter_price__lt"}
        ],
        "try": "/rooms?filter_price__lt=66",
    }


@pytest.mark.parametrize("name", [name for name in PARSERS if "__" in name])
def test_a_filter_without_its_prefix_is_a_near_miss(problem_of, name):
    bare = name.removeprefix("filter_")
    problem = problem_of(f"/rooms?{bare}=1")
    assert problem["errors"] == [{"parameter": bare, "message": "unknown parameter", "hint": name}]


# --- Values

WHOLE = [name for name, row in FILTERS.items() if row.column.name in {"size", "price"}]
DECIMALS = [name for name, row in FILTERS.items() if row.column.name in {"latitude", "longitude"}]
NUMBERS = [name for name in [*WHOLE, *DECIMALS, "limit", "within"] if not name.endswith("isnull")]

NO_NUMBERS = [
    "",
    " ",
    "abc",
    " 1 ",
    "1 ",
    "51.",
    ".5",
    "5.e1",
    "+1",
    "1_000",
    "1,,2",
    "0x10",
    "1;2",
    "--1",
    "１",  # full width
    "١",  # Arabic
    "²",
    "NaN",
    "sNaN",
    "inf",
    "-inf",
    "Infinity",
    "1e400",
    "-1e400",
    "1e999999999",
    "1e",
    ".",
    "None",
    "null",
    "true",
    "1\n",
    "\t1",
    "\u20601",
    str(2**31),
    str(-(2**31) - 1),
    str(2**63),
    str(-(2**63) - 1),
    "9" * 25,
    "9" * 5000,
    "0" * 5000,
    "1." + "0" * 5000,
]


@pytest.mark.parametrize("name", NUMBERS)
def test_an_invalid_or_out_of_range_number_is_400(problem_of, name):
    for text in NO_NUMBERS:
        problem = problem_of(f"/rooms?near=0,0&{urlencode({name: text})}")
        assert parameters(problem) == [name], text
        assert len(problem["message"]) < 200


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.endswith("isnull")])
def test_a_whole_number_has_no_fraction_and_no_exponent(problem_of, name):
    for text in ("1.5", "1.0", "1e2", "1,5.5"):
        assert parameters(problem_of(f"/rooms?{name}={text}")) == [name]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("filter_price__lt=-1", "must be from 0 to 1000001"),
        ("filter_price__lte=-1", "must be from 0 to 1000000"),
        ("filter_price__lte=99999999999999999999", "must be from 0 to 1000000"),
        ("filter_price__eq=" + "9" * 51, "must be a whole number of 50 characters at most"),
        ("limit=99999999999999999999", "must be from 1 to 1000"),
        (
            "filter_latitude__gt=.5",
            "must be a decimal number with a digit before and after the point, as in 0.5",
        ),
        (
            "near=51.,0",
            "longitude must be a decimal number with a digit before and after the point, as in 0.5",
        ),
        ("filter_latitude__gt=1e5", "must be from -90 to 90"),
        (
            "fields=prize",
            "must name fields out of code, size, price, latitude, longitude; with near also distance",
        ),
        ("fields=code,code", "names code twice"),
        ("fields=code,distance", "can name distance only together with near=lon,lat"),
        ("order=distance", "can name distance only together with near=lon,lat"),
        ("filter_price__in=1,1000001", "must be from 0 to 1000000"),
        ("filter_size__eq=0", "must be from 1 to 100000"),
        ("filter_size__eq=100001", "must be from 1 to 100000"),
        ("filter_latitude__gt=90.0000001", "must be from -90 to 90"),
        ("filter_latitude__gt=-91", "must be from -90 to 90"),
        ("filter_longitude__gt=180.1", "must be from -180 to 180"),
        ("filter_longitude__gt=1e300", "must be from -180 to 180"),
        ("limit=0", "must be from 1 to 1000"),
        ("limit=-1", "must be from 1 to 1000"),
        ("limit=1001", "must be from 1 to 1000"),
        ("limit=1000000000", "must be from 1 to 1000"),
        ("near=0,0&within=0", "must be from 1 to 20015115"),
        ("near=0,0&within=20015116", "must be from 1 to 20015115"),
        ("filter_size__isnull=1", "must be true or false"),
        ("filter_size__isnull=True", "must be true or false"),
        ("filter_size__isnull=", "must be true or false"),
        ("count=yes", "must be exact or estimated"),
        ("count=EXACT", "must be exact or estimated"),
        ("filter_price__in=" + ",".join("1" * 101), "must list 100 values at most"),
    ],
)
def test_a_value_out_of_range_is_400_with_the_range(problem_of, query, message):
    (error,) = problem_of(f"/rooms?{query}")["errors"]
    assert error["message"] == message


@pytest.mark.parametrize("operator", ["eq", "ne", "lt", "lte", "gt", "gte", "in"])
@pytest.mark.parametrize(
    ("field", "low", "high", "step"),
    [
        ("price", 0, 1_000_000, 1),
        ("size", 1, 100_000, 1),
        ("latitude", -90, 90, 1e-8),
        ("longitude", -180, 180, 1e-8),
    ],
)
def test_filters_accept_the_limits_of_a_field_and_nothing_beyond(
    client, problem_of, field, low, high, step, operator
):
    name = f"filter_{field}__{operator}"
    # "Greater than 0" says the same as "at least 1", the least size.
    least = low - step if operator == "gt" and step == 1 else low
    greatest = high + step if operator == "lt" and step == 1 else high
    for inside in (least, low + step, high - step, greatest):
        assert client.get(f"/rooms?{name}={inside}").status_code == 200
    for outside in (least - step, greatest + step):
        (error,) = problem_of(f"/rooms?{name}={outside}")["errors"]
        assert error["message"] == f"must be from {least} to {greatest}"
    schema = FILTERS[name].schema
    schema = schema.get("items", schema)
    assert (schema["minimum"], schema["maximum"]) == (least, greatest)


def test_greater_than_nothing_finds_every_known_size(client):
    known = RoomFactory(size=1)
    RoomFactory(size=None)
    found = client.get("/rooms?filter_size__gt=0").json()
    assert [room["code"] for room in found] == [str(known.code)]


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "zzz",
        "",
        "{f853578c-fc0f-4e65-81b8-566c5dffa35a}",
        "urn:uuid:f853578c-fc0f-4e65-81b8-566c5dffa35a",
        "f853578cfc0f4e6581b8566c5dffa35a",
        "f853578c-fc0f-4e65-81b8-566c5dffa35",
        "f853578c-fc0f-4e65-81b8-566c5dffa35a ",
        "g853578c-fc0f-4e65-81b8-566c5dffa35a",
        "f853578c-fc0f-4e65-81b8-566c5dffa35\u0661",
    ],
)
def test_a_code_is_a_uuid_in_its_canonical_form(client, problem_of, django_assert_num_queries, text):
    for name in ("filter_code__eq", "filter_code__ne", "filter_code__in"):
        assert parameters(problem_of(f"/rooms?{urlencode({name: text})}")) == [name]
    if text:
        with django_assert_num_queries(0):
            response = client.get(f"/rooms/{quote(text)}")
        assert response.status_code == 404
        assert response.json()["type"] == "ResourceError"


# --- NUL, which PostgreSQL's text type does not allow


@pytest.mark.parametrize("name", [*PARSERS, "nope"])
def test_a_nul_in_a_value_is_400(problem_of, name):
    for text in ("%00", "1%00", "%001"):
        assert name in problem_of(f"/rooms?{name}={text}")["message"]


@pytest.mark.parametrize(
    "url",
    [
        "/rooms?%00=1",
        "/rooms?filter_price__lt%00=1",
        "/rooms/%00",
        "/%00",
        "/rooms/stats?%00",
        "/admin/?q=%00",
    ],
)
def test_a_nul_in_a_name_or_path_is_400(problem_of, url):
    assert "NUL" in problem_of(url)["message"]


@pytest.mark.parametrize("url", ["/rooms", "/admin/", "/docs", "/nope"])
@pytest.mark.parametrize("cookie", ['sessionid="\\000aaaaaaaa"', "a=b\0c", 'csrftoken="\\000"'])
def test_a_nul_in_a_cookie_is_400(problem_of, url, cookie):
    assert "NUL" in problem_of(url, HTTP_COOKIE=cookie)["message"]


def test_a_raw_nul_is_rejected_by_the_server(live_site):
    with socket.create_connection(("127.0.0.1", live_site.port), timeout=5) as raw:
        raw.sendall(b"GET /rooms?a=\0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


# --- Sizes


def test_an_address_of_five_kilobytes_is_414(live_site):
    assert live_site.get("/rooms?filter_code__in=" + "a" * 5000).status == 414


def test_more_than_a_thousand_parameters_are_400(problem_of):
    assert problem_of("/rooms?" + "&".join(f"a{n}" for n in range(1001)))["title"] == "Bad request"


def test_only_the_first_unknown_names_get_hints(problem_of):
    errors = problem_of("/rooms?" + "&".join(f"filter_price__lt{n}=1" for n in range(300)))["errors"]
    assert len(errors) == 300
    assert [n for n, error in enumerate(errors) if "hint" in error] == list(range(MAX_HINTS))


@pytest.mark.parametrize(
    "name",
    [
        "x" * 65,
        "filter_" + "x" * 100,
        "filter_price__" + "l" * 60,
        "é" * 65,
        "x" * 64 + "a=1&" + "x" * 64 + "b",
    ],
)
@pytest.mark.parametrize("path", ["/rooms", "/rooms/stats", "/rooms.csv"])
def test_a_name_of_more_than_64_characters_is_truncated(client, problem_of, path, name):
    errors = problem_of(f"{path}?{quote(name, safe='=&')}=1&filter_price__lt=66")["errors"]
    assert {error["parameter"] for error in errors} == {name[:64]}
    problem = problem_of(f"{path}?{quote(name, safe='=&')}=1&filter_price__lt=66")
    assert problem["try"] == f"{path}?filter_price__lt=66"
    page = client.get(f"{path}?{quote(name, safe='=&')}=1", HTTP_ACCEPT="text/html")
    assert page.status_code == 400


# --- Repeated parameters


@pytest.mark.parametrize("name", sorted(LISTED - LISTS))
def test_a_scalar_that_is_given_twice_is_400(problem_of, name):
    problem = problem_of(f"/rooms?{name}=1&{name}=1")
    assert {"parameter": name, "message": "is given twice"} in problem["errors"]


@pytest.mark.parametrize("name", sorted(LISTS))
def test_repeated_names_of_a_list_are_one_list(client, name):
    RoomFactory.create_batch(3, price=66)
    example = (FILTERS.get(name) or PARAMETERS[name]).example
    values = (example if "," in example else f"{example},{example}").split(",")
    joined = f"/rooms?{name}={','.join(values)}"
    repeated = f"/rooms?{'&'.join(f'{name}={value}' for value in values)}"
    one, other = client.get(joined), client.get(repeated)
    assert (one.status_code, one.content) == (200, other.content)
    assert other.headers["Link"] == one.headers["Link"]


@pytest.mark.parametrize(
    ("query", "attempt"),
    [
        ("bbox=2.1&bbox=41.3&bbox=2.2", "/rooms"),
        ("bbox=2.1&bbox=41.3&bbox=2.2&bbox=41.4&nope=1", "/rooms?bbox=2.1,41.3,2.2,41.4"),
        ("bbox=2.1,41.3,2.2,41.4&bbox=0,0,1,1", "/rooms?bbox=2.1,41.3,2.2,41.4"),
        ("near=2.1&near=41.3&nope=1", "/rooms?near=2.1,41.3"),
        ("limit=x&limit=7", "/rooms?limit=7"),
        ("order=price&order=prize", "/rooms?order=price"),
        ("filter_price__in=1&filter_price__in=x&filter_price__in=3", "/rooms?filter_price__in=1,3"),
    ],
)
def test_the_address_to_try_has_no_value_but_the_clients(problem_of, query, attempt):
    assert problem_of(f"/rooms?{query}")["try"] == attempt


# --- Unicode


@pytest.mark.parametrize(
    "text", ["%FF%FE", "%C0%80", "%ED%A0%80", "%E2%80%8F", "%F0%9F%98%80", "%25", "%5C", "_", "%"]
)
def test_unicode_and_wild_cards_are_ordinary_wrong_values(problem_of, text):
    for name in PARSERS:
        assert name in parameters(problem_of(f"/rooms?{name}={text}"))
    problem_of(f"/rooms?{text}=1")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain; charset=utf-16",
        "text/plain; charset=utf-7",
        "text/plain; charset=hex",
        "text/plain;CHARSET=rot13",
        "text/plain; charset=undefined",
        "text/plain; charset*=hex''%41",
        "text/plain; x*=hex''%41",
        'text/plain; boundary="a;charset=hex"',
    ],
)
def test_a_content_type_does_not_change_how_an_address_is_read(live_site, content_type):
    assert live_site.get("/rooms?filter_price__lt=66", Content_Type=content_type).status == 200
    response = live_site.get("/rooms?" + "&".join("a" * 1001), Content_Type=content_type)
    assert response.status == 400


# --- SQL

INJECTIONS = [
    "1; DROP TABLE room",
    "1' OR '1'='1",
    "1 OR 1=1",
    '1" OR ""="',
    "1)--",
    "1/**/OR/**/1=1",
    "0 UNION SELECT 1,2,3,4,5",
    "1; SELECT pg_sleep(5)--",
    "1' AND pg_sleep(5)::text='",
    "(SELECT pg_sleep(5))",
    "%s",
    "%(a)s",
    "%%",
    "$1",
    "{}",
    "{0.__class__}",
    "'",
    "''",
    '"',
    "\\",
    "\\'",
    ";",
    "--",
    "/*",
    "price; drop table room",
    "price--",
    "price,(select 1)",
    "-price NULLS FIRST",
    "room.price",
    "password",
    "price desc",
    "id",
    "pg_sleep(5)",
    "current_user",
    "1::int",
    "E'\\x27'",
    "U&'\\0027'",
    "$$a$$",
    "1\r\nX-Evil: 1",
    "<script>alert(1)</script>",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_is_a_wrong_value_like_any_other(client, problem_of, text):
    RoomFactory()
    for name in PARSERS:
        assert name in parameters(problem_of(f"/rooms?{urlencode({name: text})}")), name
    assert parameters(problem_of(f"/rooms?{urlencode({text: 1})}")) == [text[:64]]
    with_page = client.get(f"/rooms?{urlencode({text: text})}", HTTP_ACCEPT="text/html")
    assert with_page.status_code == 400
    assert b"<script>" not in with_page.content
    assert client.get(f"/rooms/{quote(text, safe='')}").status_code == 404
    assert len(client.get("/rooms").json()) == 1


# --- Points, orders, cursors


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("bbox=", "bbox"),
        ("bbox=1,2,3", "bbox"),
        ("bbox=1,2,3,4,5", "bbox"),
        ("bbox=1,2,3,x", "bbox"),
        ("bbox=1,2,,4", "bbox"),
        ("bbox=0,10,1,9", "bbox"),
        ("bbox=-181,0,1,1", "bbox"),
        ("bbox=0,-91,1,1", "bbox"),
        ("bbox=0,0,180.1,1", "bbox"),
        ("bbox=0,0,1,91", "bbox"),
        ("bbox=0,0,1,NaN", "bbox"),
        ("bbox=0, 0,1,1", "bbox"),
        ("near=", "near"),
        ("near=1", "near"),
        ("near=1,2,3", "near"),
        ("near=181,0", "near"),
        ("near=0,91", "near"),
        ("near=51.5;0", "near"),
        ("near=nan,0", "near"),
        ("within=5", "within"),
        ("order=", "order"),
        ("order=id", "order"),
        ("order=prize", "order"),
        ("order=price,price", "order"),
        ("order=price,-price", "order"),
        ("order=--price", "order"),
        ("order=price,", "order"),
        ("order=,price", "order"),
        ("order=Price", "order"),
        ("order= price", "order"),
        ("order=distance", "order"),
        ("order=created_at", "order"),
        ("order=" + "price," * 300, "order"),
        ("after=", "after"),
        ("after=abc", "after"),
        ("after=a.b", "after"),
        ("after=é.é", "after"),
        ("after=" + "a" * 3000, "after"),
        ("after=WzFd.", "after"),
    ],
)
def test_an_invalid_point_order_or_cursor_is_400(problem_of, query, parameter):
    assert parameters(problem_of(f"/rooms?{query}")) == [parameter]


# --- Several errors, and the suggestion


def test_all_mistakes_are_named_at_once(problem_of):
    problem = problem_of(
        "/rooms?filter_prize__lt=1&filter_price__gt=x&bbox=1&near=1&order=z&limit=0&count=1&after=x&within=0"
    )
    assert parameters(problem) == [
        "filter_prize__lt",
        "filter_price__gt",
        "bbox",
        "near",
        "order",
        "limit",
        "count",
        "within",
    ]
    assert problem["message"].split("; ") == [
        "filters: Key prize__lt cannot be used",
        *(f"{error['parameter']}: {error['message']}" for error in problem["errors"][1:4]),
        "order: must name fields out of code, size, price, latitude, longitude, price_per_m2",
        "-price is descending",
        *(f"{error['parameter']}: {error['message']}" for error in problem["errors"][5:]),
    ]


@pytest.mark.parametrize(
    ("query", "attempt"),
    [
        ("filter_prize__lt=66", "/rooms?filter_price__lt=66"),
        ("price__lt=66&limit=5", "/rooms?filter_price__lt=66&limit=5"),
        ("limit=5&limit=6", "/rooms?limit=5"),
        ("limit=0&order=price", "/rooms?order=price"),
        ("filter_size__isnull=1&filter_price__lt=50", "/rooms?filter_price__lt=50"),
        ("nope=1&order=-size", "/rooms?order=-size"),
        ("within=500&order=price", "/rooms?order=price"),
        ("after=gone&order=price", "/rooms?order=price"),
        ("near=0,99&order=distance", "/rooms"),
        ("order=distance", "/rooms"),
        ("order=-price,distance,-size", "/rooms?order=-price,-size"),
        ("order=price,prize,-size,-price", "/rooms?order=price,-size"),
        ("fields=price,prize,code,-size,distance", "/rooms?fields=price,code"),
        ("per_page=20&limit=50", "/rooms?limit=50"),
        ("nope=1", "/rooms"),
        ("limit=2000", "/rooms?limit=1000"),
        ("max_price=cheap&limit=5", "/rooms?limit=5"),
        ("price=60,66", "/rooms"),
        ("price=66&filter_price__eq=70", "/rooms?filter_price__eq=70"),
        ("filter_price__in=1,2000000,x,3", "/rooms?filter_price__in=1,3"),
        ("filter_price__in=x", "/rooms"),
    ],
)
def test_try_keeps_what_was_right(problem_of, query, attempt):
    assert problem_of(f"/rooms?{query}")["try"] == attempt


def random_query(chance):
    """Some parameters, each right or wrong in some way."""
    examples = {name: row.example for name, row in FILTERS.items()} | {
        name: parameter.example for name, parameter in PARAMETERS.items()
    }
    pairs = []
    for name in chance.sample(list(PARSERS), chance.randint(1, 6)):
        wrong = chance.choice(
            ["", "x", "1e9", "-1", "0,0", "price", "distance", "near", "-distance", "1,2,3,4"]
        )
        for _ in range(chance.choice([1, 1, 1, 2])):
            spelled = chance.choice(
                [name, name, name.removeprefix("filter_"), name[:-1], name + "x", name[1:]]
            )
            pairs.append((spelled, chance.choice([examples[name], wrong])))
    return urlencode(pairs)


@pytest.mark.parametrize("path", ["/rooms", "/rooms.csv", "/rooms.geojson", "/rooms/stats"])
def test_the_address_to_try_works_whatever_was_wrong(client, path):
    chance = random.Random(7)
    statuses = set()
    for _ in range(150):
        query = random_query(chance)
        response = client.get(f"{path}?{query}")
        b"".join(response)  # an unread stream keeps its transaction open
        statuses.add(response.status_code)
        if response.status_code == 400:
            attempt = client.get(response.json()["try"])
            b"".join(attempt)
            assert attempt.status_code == 200, (query, response.json()["try"], attempt.content)
    assert statuses == {200, 400}


SOUND = {
    row.name: strategies.just(row.example)
    for row in (*FILTERS.values(), *PARAMETERS.values())
    if row.example and row.name in LISTED
}
NOISE = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(
            [*PARSERS, "nope", "price", "max_price", "per_page", "sort", "select", "lat", "lng", "radius"]
        ),
        strategies.sampled_from(["", "x", "-1", "0", "66", "99999999", "price", "distance,x", "1,2", "-.5"]),
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None, database=None)
@given(sound=strategies.fixed_dictionaries({}, optional=SOUND), noise=NOISE, chance=strategies.randoms())
def test_a_suggestion_never_changes_a_sound_value(sound, noise, chance):
    """Sound values that stand beside anything else are in the URL to try, each as it was."""
    wrong = [(name, text) for name, text in noise if name not in sound]
    pairs = [*sound.items(), *wrong]
    chance.shuffle(pairs)
    with pytest.raises(ParametersError) as refused:
        Search.parse(urlencode([*pairs, ("another", "1")]))
    tried = dict(parse_qsl(refused.value.suggestion))
    expected = {name: text for name, text in sound.items() if "near" in tried or name != "within"}
    assert {name: tried.get(name) for name in expected} == expected
    Search.parse(refused.value.suggestion)


@pytest.mark.parametrize("parameter", ["limit=5", "order=price", "after=x", "count=exact"])
def test_statistics_reject_parameters_of_lists(problem_of, parameter):
    problem = problem_of(f"/rooms/stats?{parameter}")
    assert problem["errors"][0]["message"] == "does not apply to this address"
    assert problem["try"] == "/rooms/stats"


def test_one_room_takes_no_parameter(problem_of):
    code = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
    problem = problem_of(f"/rooms/{code}?filter_price__lt=5&x=1")
    assert parameters(problem) == ["filter_price__lt", "x"]
    assert problem["try"] == f"/rooms/{code}"


# --- Methods, URLs and formats that do not exist


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/rooms",
        "/rooms.csv",
        "/rooms/stats",
        "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a",
        "/docs",
        "/openapi.json",
    ],
)
def test_another_method_than_get_and_head_is_405(method, path, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = Client(enforce_csrf_checks=True).generic(
            method, path, HTTP_ORIGIN="https://elsewhere.example"
        )
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"
    assert response.json()["type"] == "MethodError"


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/nope/",
        "/rooms//",
        "/rooms.xml",
        "/rooms.json%0A",
        "/rooms/a/b",
        "/rooms.",
        "/.env",
        "/rooms/%2e%2e",
    ],
)
def test_an_address_where_nothing_is_is_404(client, django_assert_num_queries, path):
    with django_assert_num_queries(0):
        response = client.get(path)
    assert response.status_code == 404
    assert response.json()["type"] == "ResourceError"
    assert "try" not in response.json()


def test_an_unavailable_format_is_406(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get("/rooms", HTTP_ACCEPT="image/png")
    assert response.status_code == 406
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "text/csv" in response.json()["message"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "a@b", "[::1", "localhost,evil.example", ""]
)
def test_a_host_that_is_not_ours_is_400_and_never_echoed(client, host):
    response = client.get("/rooms", HTTP_HOST=host)
    assert response.status_code == 400
    assert b"evil" not in response.content
    assert "evil" not in str(response.headers)
