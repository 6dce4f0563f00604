"""The HTML pages of rooms."""

import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

import pytest

from rooms.api.parameters import PARSERS
from rooms.factories import RoomFactory
from rooms.models import Room

pytestmark = pytest.mark.django_db

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.link_texts, self.selects = [], [], [], {}
        self.inside_link = False
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "a":
            self.inside_link = True
            self.link_texts.append("")
        if tag == "select":
            self.selects[dict(attributes)["name"]] = ""
        if tag == "option" and "selected" in dict(attributes):
            self.selects[list(self.selects)[-1]] = dict(attributes)["value"]

    def handle_endtag(self, tag):
        self.inside_link = self.inside_link and tag != "a"

    def handle_data(self, data):
        self.texts.append(data)
        if self.inside_link:
            self.link_texts[-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def links(self):
        return [attributes["href"] for attributes in self.all("a")]

    def links_with(self, text):
        """The URLs of the links with this text."""
        return [link for link, own in zip(self.links, self.link_texts, strict=True) if own.strip() == text]

    @property
    def codes(self):
        return [
            link.removeprefix("/rooms/") for link in self.links if re.fullmatch(r"/rooms/[0-9a-f-]{36}", link)
        ]

    @property
    def form(self):
        """What the form would send as it stands."""
        fields = [(field["name"], field.get("value", "")) for field in self.all("input")]
        return [*fields, *self.selects.items()]


@pytest.fixture
def look(client):
    def open_page(url, status=200, data=None):
        response = client.get(url, data, HTTP_ACCEPT=BROWSER, follow=True)
        assert response.status_code == status, response.content
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        return Page(response.content.decode())

    return open_page


@pytest.fixture
def rooms():
    return [
        RoomFactory(price=price, size=size) for price, size in [(39, 215), (66, 405), (60, None), (48, 93)]
    ]


def prices(page):
    by_code = {str(code): price for code, price in Room.objects.values_list("code", "price")}
    return [by_code[code] for code in page.codes]


def test_the_page_shows_the_rooms_that_the_api_lists(client, look, rooms):
    for query in (
        "",
        "?filter_price__lt=60",
        "?order=-price&limit=2",
        "?order=price_per_m2",
        "?filter_size__isnull=true",
        "?near=-0.12,51.5",
    ):
        assert look(f"/rooms{query}").codes == [
            room["code"] for room in client.get(f"/rooms.json{query}").json()
        ]
    assert "unknown" in look("/rooms").text
    assert "4 rooms" in look("/rooms").text
    assert "1 room " in look("/rooms?filter_price__lt=40").text


@pytest.mark.parametrize(
    "query",
    [
        "",
        "filter_price__gte=40&filter_price__lte=60",
        "filter_size__gte=1&order=-price",
        "near=-0.12,51.5&within=5000",
        "near=-0.12,51.5&order=-distance",
        "filter_price__ne=39&filter_size__isnull=false",
        "order=latitude",
        "order=-price_per_m2",
        "order=price,-size",
        "limit=2",
        "limit=1&order=-size&filter_price__in=39,66&bbox=-1,51,1,52",
    ],
)
def test_sending_the_form_as_it_stands_asks_for_the_same(look, rooms, query):
    page = look(f"/rooms?{query}".rstrip("?"))
    sent = [(name, value) for name, value in page.form if value and name != "place"]
    assert sorted(sent) == sorted(parse_qsl(query))
    again = look("/rooms", data=page.form)  # with the empty fields, as a browser sends them
    assert again.codes == page.codes


def test_a_page_shows_a_hundred_rooms_at_most_and_says_so(client, look, db):
    Room.objects.bulk_create(RoomFactory.build_batch(103))
    page = look("/rooms?limit=1000&order=price")
    assert len(page.codes) == 100
    assert "A page shows 100 rooms at most" in page.text
    assert "/rooms.json?limit=1000&order=price" in page.links
    (following,) = [link for link in page.links if "after=" in link and "/rooms?" in link]
    assert len(look(following).codes) == 3
    assert "at most" not in look("/rooms?limit=100").text
    assert len(client.get("/rooms.json?limit=1000").json()) == 103


def test_sending_the_form_of_a_later_page_begins_anew(look, rooms):
    first = look("/rooms?limit=2&order=price")
    (following,) = [link for link in first.links if "after=" in link and "/rooms?" in link]
    second = look(following)
    assert prices(second) == [60, 66]
    assert "after" not in dict(second.form)
    assert prices(look("/rooms", data=second.form)) == [39, 48]


@pytest.mark.parametrize(
    ("query", "terms", "left"),
    [
        ("filter_price__lt=50&order=-price", "price is less than 50 euros per day", {"order": "-price"}),
        ("filter_size__isnull=true&filter_price__gt=5", "size is unknown", {"filter_price__gt": "5"}),
        ("filter_size__isnull=false", "size is known", {}),
        ("near=-0.12,51.5&within=5000&order=-distance&limit=3", "within 5 km", {"limit": "3"}),
        ("near=-0.12,51.5&order=price", "near a place", {"order": "price"}),
        ("bbox=-1,51,1,52", "in an area of the map", {}),
        ("filter_price__gte=5&filter_price__lte=70&order=price", "5 – 70 € per day", {"order": "price"}),
        ("filter_size__gte=5", "from 5 m²", {}),
        ("filter_size__lte=500", "up to 500 m²", {}),
    ],
)
def test_each_active_filter_has_a_label_and_can_be_removed(look, rooms, query, terms, left):
    page = look(f"/rooms?{query}")
    assert terms in page.text
    terms = terms.replace("5 km", "5\N{NARROW NO-BREAK SPACE}km")
    (link,) = [link["href"] for link in page.all("a") if link.get("aria-label") == f"without {terms}"]
    assert dict(parse_qsl(urlsplit(link).query)) == left
    chips = [other.get("aria-label") for other in look(link).all("a")]
    assert f"without {terms}" not in chips


def test_a_heading_sorts_and_sorts_the_other_way_the_second_time(look, rooms):
    page = look("/rooms?filter_size__isnull=false&view=table")
    for expected in ([39, 48, 66], [66, 48, 39], [39, 48, 66]):
        (link,) = page.links_with("Price")
        page = look(link)
        assert prices(page) == expected


def test_a_heading_of_a_later_page_begins_anew(look, rooms):
    page = look("/rooms?limit=2&view=table")
    (following,) = [link for link in page.links if "after=" in link and "/rooms?" in link]
    (link,) = look(following).links_with("Price")
    assert prices(look(link)) == [39, 48]


def test_the_pages_are_linked(look, rooms):
    page, seen = look("/rooms?limit=1&order=price"), []
    while True:
        seen += prices(page)
        following = [link["href"] for link in page.all("a") if link.get("rel") == "next"]
        if not following:
            break
        page = look(following[0])
    assert seen == [39, 48, 60, 66]
    (previous,) = [link["href"] for link in page.all("a") if link.get("rel") == "prev"]
    assert prices(look(previous)) == [60]


@pytest.mark.parametrize(
    "query", ["", "?filter_price__lt=60&order=price", "?near=-0.12,51.5&within=3000", "?filter_price__lt=0"]
)
def test_every_link_of_every_page_works(client, rooms, query):
    pages = [f"/rooms{query}", "/docs", f"/rooms/{rooms[0].code}", f"/rooms/{rooms[2].code}"]
    for path in pages:
        page = Page(client.get(path, HTTP_ACCEPT=BROWSER).content.decode())
        for link in {*page.links, *(attributes["href"] for attributes in page.all("link"))}:
            if link.startswith(("https://www.openstreetmap.org", "#", "/static/")):
                continue
            response = client.get(link, HTTP_ACCEPT=BROWSER, follow=True)
            if response.streaming:
                b"".join(response.streaming_content)
            assert response.status_code == 200, link


def test_the_other_formats_are_the_same_rooms(client, look, rooms):
    page = look("/rooms?filter_price__lt=60&order=-price")
    for suffix in ("json", "ndjson", "csv", "geojson"):
        (link,) = [link for link in page.links if link.startswith(f"/rooms.{suffix}")]
        text = b"".join(client.get(link)).decode()
        codes = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", text)
        assert list(dict.fromkeys(codes)) == page.codes


def test_an_empty_result_links_to_all_rooms(look, rooms):
    page = look("/rooms?filter_price__lt=1&order=price")
    assert page.codes == []
    # Each link by its text: the page has others to /rooms.
    texts = {unescape(text): link["href"] for link, text in zip(page.all("a"), page.link_texts, strict=True)}
    assert texts["All rooms"] == "/rooms"
    assert texts["×"] == "/rooms?order=price"
    for way_out in (texts["All rooms"], texts["×"]):
        assert len(look(way_out).codes) == len(rooms)


def test_an_empty_result_names_each_filter_that_hides_rooms(look, rooms):
    page = look("/rooms?filter_price__gte=48&filter_size__gte=500&filter_size__isnull=false")
    assert page.codes == []
    assert "without “from 500 m²”: 2 rooms" in page.text
    assert "without “from 48" not in page.text
    assert "without “size is known" not in page.text
    assert "/rooms?filter_price__gte=48&filter_size__isnull=false" in page.links


def test_filters_that_exclude_rooms_together_only_name_none_of_them(look, rooms):
    page = look("/rooms?filter_price__gte=48&filter_price__lt=40&filter_size__gte=500&filter_size__lt=2")
    assert page.codes == []
    assert "No room matches, whichever one of the filters is taken away. All rooms" in page.text


def test_an_empty_table_has_no_filter_to_remove(look):
    page = look("/rooms")
    assert "No room matches." in page.text
    assert not [link for link in page.all("a") if link.get("aria-label", "").startswith("without")]


def test_one_room_has_its_page(look, rooms):
    page = look(f"/rooms/{rooms[0].code}")
    assert "39 € a day" in page.text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "215 m²" in page.text
    assert "unknown" in look(f"/rooms/{rooms[2].code}").text


# --- Escaping


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{7*7}}",
    "{% debug %}",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_html_in_parameters_is_escaped(client, text):
    for name in [*PARSERS, "place", "nope", text]:
        response = client.get("/rooms", {name: text}, HTTP_ACCEPT=BROWSER)
        assert response.status_code == 400
        page = Page(response.content.decode())
        assert [script["src"].startswith("/static/rooms/") for script in page.all("script")] == [True]
        assert not [tag for tag, attributes in page.tags if any(key.startswith("on") for key in attributes)]
        assert not [link for link in page.links if link.startswith("javascript:")]
        assert "49" not in page.text
    response = client.get("/nowhere/" + text, HTTP_ACCEPT=BROWSER)
    assert response.status_code == 404
    assert not Page(response.content.decode()).all("script")


def test_the_page_of_a_mistake_names_it_and_links_to_what_works(client, look):
    page = look("/rooms?prize__lt=66&limit=5", status=400)
    assert "prize__lt" in page.text
    assert "did you mean filter_price__lt ?" in page.text
    (link,) = [link for link in page.links if "filter_price__lt=66" in link]
    assert link == "/rooms?filter_price__lt=66&limit=5"
    assert client.get(link).status_code == 200


def test_a_form_cannot_be_made_to_lead_elsewhere(client):
    for query in (
        "//evil.example=&limit=5",
        "x=&next=//evil.example",
        "=%0d%0aX:%201&a=",
        "a=&%0d%0aSet-Cookie:x=1",
    ):
        response = client.get(f"/rooms?{query}", HTTP_ACCEPT=BROWSER)
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/rooms")
        assert "\n" not in response.headers["Location"]
        assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("path", ["/rooms", "/docs", "/rooms?x=1", "/nope"])
def test_a_page_has_a_language_a_title_and_a_heading(client, path):
    page = Page(client.get(path, HTTP_ACCEPT=BROWSER).content.decode())
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert len(page.all("title")) == 1
    assert page.all("meta")


def test_every_field_of_the_form_has_a_label(look, rooms):
    page = look("/rooms")
    fields = [
        attributes["name"]
        for tag, attributes in page.tags
        if tag in {"input", "select"} and attributes.get("type") != "hidden"
    ]
    assert len(page.all("label")) == len(fields) == 7
    for terms in ("Where", "Price", "Size", "within", "order"):
        assert terms in page.text
