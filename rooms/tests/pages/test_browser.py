"""The public pages in Chromium: wide and narrow, light and dark."""

import re

import pytest

from rooms.factories import RoomFactory

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def rooms():
    return [RoomFactory(price=20 + n % 90, size=None if n % 7 == 0 else 10 + n) for n in range(150)]


def column(page, number):
    return page.locator(f"tbody td:nth-child({number})").all_inner_texts()


def test_filtering_turning_the_page_and_sorting(open_window, rooms):
    page = open_window("/")
    assert page.url.endswith("/rooms")
    page.get_by_role("group", name="Price").get_by_label("to").fill("99")
    page.get_by_role("button", name="Show rooms").click()
    page.wait_for_url("**filter_price__lte=99*")
    assert "filter_price__gte" not in page.url
    assert page.get_by_role("heading", level=1).inner_text() == "140 rooms"
    assert len(column(page, 1)) == 100
    first = column(page, 1)

    page.get_by_role("link", name="Next page").click()
    page.wait_for_url("**after=*")
    second = column(page, 1)
    assert len(second) == 40
    assert not set(first) & set(second)
    page.get_by_role("link", name="First page").click()
    page.get_by_role("link", name="Next page").wait_for()
    assert column(page, 1) == first

    page.get_by_role("columnheader", name="price").get_by_role("link").click()
    page.wait_for_url("**order=price*")
    prices = [int(text) for text in column(page, 3)]
    assert prices == sorted(prices)
    page.get_by_role("columnheader", name="price").get_by_role("link").click()
    page.wait_for_url("**order=-price*")
    prices = [int(text) for text in column(page, 3)]
    assert prices == sorted(prices, reverse=True)
    assert max(prices) == 99

    page.get_by_role("link", name=re.compile("^without price is at most 99")).click()
    page.get_by_role("heading", name="150 rooms").wait_for()
    assert "order=-price" in page.url


def test_looking_around_a_room(open_window, rooms):
    page = open_window("/rooms")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Rooms within a kilometre").click()
    page.wait_for_url("**near=*")
    distances = [float(text.replace(",", "")) for text in column(page, 6)]
    assert distances == sorted(distances)
    assert distances[0] == 0


def test_the_browser_validates_the_range_of_a_field(open_window, rooms):
    page = open_window("/rooms")
    page.get_by_role("group", name="Price").get_by_label("from").fill("-1")
    page.get_by_role("button", name="Show rooms").click()
    assert page.locator("input:invalid").count() == 1
    assert page.url.endswith("/rooms")


@pytest.mark.parametrize(
    "how",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
    ],
    ids=["wide and light", "phone and dark"],
)
def test_every_page_is_accessible_and_fits_the_screen(open_window, how):
    rooms = RoomFactory.create_batch(6)
    RoomFactory(size=None)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_window("/rooms", bypass_csp=True, **how)  # axe itself writes styles inline
    for path in (
        "/rooms",
        "/rooms?filter_price__gt=1&limit=5&near=-0.12,51.5&within=5000&order=-size",
        "/rooms?filter_price__lt=1",
        f"/rooms/{rooms[0].code}",
        "/docs",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        violations = axe.run(page).response["violations"]
        assert [(found["id"], found["nodes"][0]["html"]) for found in violations] == [], path
