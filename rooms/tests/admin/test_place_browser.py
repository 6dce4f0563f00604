"""Work by place in Chromium: the map over the list, with and without scripts, and the rooms nearby."""

import pytest

from rooms.factories import RoomFactory

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.django_db(transaction=True)]

LIST = "/admin/rooms/room/"


@pytest.fixture
def rooms():
    """Three rooms in Barcelona, 450 m apart, and one in London."""
    return [
        *(RoomFactory(price=40 + n, size=20, latitude=41.4 + n * 0.004, longitude=2.15) for n in range(3)),
        RoomFactory(price=80, size=30, latitude=51.5, longitude=-0.12),
    ]


def marks(page):
    """What stands on the pins and clusters."""
    return sorted(text.replace("\u202f", " ") for text in page.locator(".cluster, .pin").all_inner_texts())


def listed(page):
    return page.locator("#result_list tbody tr").count()


def test_the_map_opens_on_all_rooms_and_restricts_the_list_to_what_it_shows(open_page, rooms):
    page = open_page(f"{LIST}?price__lte=41")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    assert not [url for url in asked if "leaflet" in url or "/map/" in url]
    page.locator(".list-map > summary").click()
    page.locator(".pin").first.wait_for()
    assert marks(page) == ["40 €", "41 €"]
    button = page.get_by_role("button", name="List only this area")
    assert not button.is_visible()
    page.locator("#room-map").press("ArrowUp")  # a part of its height to the north, of both rooms
    button.wait_for()
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_load_state("networkidle")
    button.click()
    page.wait_for_url("**bbox=*")
    assert "price__lte=41" in page.url
    assert page.locator(".list-chips").inner_text().count("×") == 2
    page.locator(".outline").wait_for(state="attached")
    page.get_by_role("link", name="Remove the filter area").click()
    page.wait_for_url("**price__lte=41")
    assert listed(page) == 2
    assert page.locator(".list-map").get_attribute("open") is not None  # as it was left


def test_a_pin_of_the_map_opens_the_form_and_its_neighbours_are_of_the_list(open_page, rooms):
    page = open_page(f"{LIST}?bbox=2.14,41.395,2.16,41.412&o=3")
    page.locator(".pin", has_text="41").click()
    page.get_by_role("heading", name=str(rooms[1].code)).wait_for()
    page.get_by_role("link", name="Next").click()
    page.get_by_role("heading", name=str(rooms[2].code)).wait_for()


def test_the_form_and_the_list_lead_to_the_rooms_nearby(open_page, rooms):
    page = open_page(f"{LIST}{rooms[0].pk}/change/")
    page.get_by_role("link", name="Nearby").click()
    page.get_by_text("3 rooms", exact=True).first.wait_for()
    assert str(rooms[0].code) in page.locator("#result_list tbody tr").first.inner_text()
    page.get_by_role("link", name="Rooms near").nth(2).click()
    page.get_by_text("890\u202fm away").wait_for()
    assert str(rooms[2].code) in page.locator("#result_list tbody tr").first.inner_text()
    page.locator("#filter-within").fill("500")
    page.get_by_role("button", name="Filter by distance").click()
    page.wait_for_url("**within=500*")
    assert listed(page) == 2


def test_without_scripts_links_move_the_map_and_restrict_the_list(open_page, rooms):
    page = open_page(
        f"{LIST}?price__lte=42", java_script_enabled=False, viewport={"width": 390, "height": 800}
    )
    page.locator(".list-map > summary").click()
    page.get_by_role("link", name="Show the map").click()
    image = page.get_by_role("img", name="Map of the rooms of this list")
    image.wait_for()
    assert page.request.get(image.get_attribute("src")).status == 200
    page.get_by_role("link", name="Move north").click()
    page.get_by_role("link", name="Move north").click()
    assert listed(page) == 3
    page.get_by_role("link", name="List only this area").click()
    assert listed(page) == 0
    page.get_by_role("link", name="Remove the filter area").click()
    assert listed(page) == 3


def test_a_map_that_cannot_be_fetched_leaves_the_list_as_it_is(open_page, rooms):
    page = open_page(f"{LIST}?bbox=2.14,41.395,2.16,41.412")
    page.locator(".pin").first.wait_for()
    page.context.clear_cookies()
    page.get_by_role("button", name="Zoom out").click()
    page.locator(".map.stale").wait_for()
    assert listed(page) == 3
