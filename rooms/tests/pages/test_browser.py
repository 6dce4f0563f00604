"""The public pages in Chromium: wide and narrow, light and dark, with and without scripts."""

import re

import pytest

from rooms.factories import RoomFactory

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.django_db(transaction=True)]

PHONE = {"viewport": {"width": 390, "height": 844}}
LONDON = {"latitude": 51.5085, "longitude": -0.1257}


def cards(page):
    """The codes of the rooms in the list."""
    return page.locator(".card").evaluate_all("cards => cards.map((card) => card.dataset.code)")


def price_fields(page):
    return page.get_by_role("group", name=re.compile("^Price"))


def column(page, number):
    return page.locator(f"tbody td:nth-child({number})").all_inner_texts()


def test_filtering_turning_the_page_and_sorting(open_window, rooms):
    page = open_window("/rooms")
    assert page.get_by_role("heading", level=1).inner_text() == "150 rooms"
    price_fields(page).get_by_role("spinbutton", name="to").fill("99")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**filter_price__lte=99*")
    assert "filter_price__gte" not in page.url
    assert "place=" not in page.url
    assert page.get_by_role("heading", level=1).inner_text() == "140 rooms"
    first = cards(page)
    assert len(first) == 24

    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**after=*")
    second = cards(page)
    assert not set(first) & set(second)
    page.get_by_role("link", name="Previous").click()
    page.wait_for_url(re.compile("before="))
    assert cards(page) == first
    page.go_back()
    page.wait_for_url("**after=*")
    assert cards(page) == second

    page.get_by_role("link", name="Table").click()
    page.get_by_role("columnheader", name="price").get_by_role("link").click()
    page.wait_for_url("**order=price*")
    prices = [int(text) for text in column(page, 2)]
    assert prices == sorted(prices)
    page.get_by_role("columnheader", name="price").get_by_role("link").click()
    page.wait_for_url("**order=-price*")
    assert int(column(page, 2)[0]) == 99

    page.get_by_role("link", name=re.compile("^without up to 99")).click()
    page.get_by_role("heading", name="150 rooms").wait_for()
    assert "order=-price" in page.url
    assert "view=table" in page.url


def test_a_place_is_completed_and_chosen_by_keyboard(open_window, rooms):
    page = open_window("/")
    field = page.get_by_role("combobox", name="Where")
    field.press_sequentially("barcel")
    page.locator(".places [role=option]:first-child", has_text="Barcelona, Spain").wait_for()
    field.press("ArrowDown")
    assert page.locator("[role=option][aria-selected=true]").inner_text() == "Barcelona, Spain"
    field.press("Enter")
    page.wait_for_url(re.compile(r"/rooms\?near=.*within="))
    assert page.get_by_role("heading", level=1).inner_text() == "20 rooms around Barcelona"
    assert page.get_by_role("combobox", name="Where").input_value() == "Barcelona, Spain"


def test_escape_closes_the_completion_and_keeps_the_text(open_window, rooms):
    page = open_window("/rooms")
    field = page.get_by_role("combobox", name="Where")
    field.press_sequentially("lond")
    page.locator(".places [role=option]").first.wait_for()
    field.press("Escape")
    assert page.locator(".places").is_hidden()
    assert field.input_value() == "lond"


def test_places_that_come_after_escape_are_not_shown(open_window, rooms):
    page = open_window("/rooms")
    held = []
    page.route("**/places?*", lambda route: held.append(route))
    field = page.get_by_role("combobox", name="Where")
    with page.expect_request("**/places?q=lond"):
        field.press_sequentially("lond")
    field.press("Escape")
    for route in held:
        route.fulfill(json=[{"name": "London"}])
    page.evaluate("fetch('/rooms.json?limit=1')")  # comes after them
    assert page.locator(".places").is_hidden()


def test_a_place_that_is_none_stays_in_the_field_beside_its_error(open_window, rooms):
    page = open_window("/rooms?filter_price__lte=99")
    field = page.get_by_role("combobox", name="Where")
    field.fill("qqqqq")
    # The browser reports the status 400 of the page as an error on the console: read it by a request.
    response = page.request.get("/rooms?place=qqqqq&filter_price__lte=99", headers={"Accept": "text/html"})
    assert response.status == 400
    text = response.text()
    assert 'value="qqqqq"' in text
    assert 'value="99"' in text
    assert "is in no gazetteer" in text


def test_a_wrong_number_stays_in_its_field_as_typed(open_window, rooms):
    page = open_window("/docs")
    # The browser's own validation would not send it.
    text = page.request.get("/rooms?filter_price__lte=abc", headers={"Accept": "text/html"}).text()
    page.set_content(text)
    field = price_fields(page).get_by_label("to")
    assert field.input_value() == "abc"
    assert field.get_attribute("aria-invalid") == "true"
    assert page.locator(f"[id='{field.get_attribute('aria-describedby')}']").inner_text().startswith("“abc”")


def test_near_me_searches_around_the_browsers_position(open_window, rooms):
    page = open_window("/rooms", geolocation=LONDON, permissions=["geolocation"])
    page.get_by_role("button", name="Near me").click()
    page.wait_for_url(re.compile(r"near=-0\.1257,51\.5085"))


def test_a_handle_of_the_slider_moves_by_keyboard_and_searches(open_window, rooms):
    page = open_window("/rooms")
    handle = page.get_by_role("slider", name="Price from")
    low = int(handle.get_attribute("min"))
    handle.focus()
    for _ in range(3):
        handle.press("ArrowRight")
    page.wait_for_url(re.compile("filter_price__gte="))
    assert int(re.search(r"filter_price__gte=(\d+)", page.url)[1]) > low


def test_a_bar_of_the_histogram_is_a_link_to_its_rooms(open_window, rooms):
    page = open_window("/rooms")
    bar = price_fields(page).locator(".histogram a").first
    number = re.search(r": (\d+) rooms?$", bar.get_attribute("aria-label"))[1]
    bar.click()
    page.wait_for_url("**filter_price__gte=*")
    assert page.get_by_role("heading", level=1).inner_text().startswith(f"{number} room")


def test_the_browser_validates_the_range_of_a_field(open_window, rooms):
    page = open_window("/rooms")
    price_fields(page).get_by_role("spinbutton", name="from").fill("-1")
    page.get_by_role("button", name="Search", exact=True).click()
    assert page.locator("input:invalid").count() == 1
    assert page.url.endswith("/rooms")


def test_looking_around_a_room(open_window, rooms):
    page = open_window("/rooms")
    page.locator(".card a").first.click()
    page.get_by_role("link", name="Rooms within a kilometre").click()
    page.wait_for_url("**near=*")
    assert "0\N{NARROW NO-BREAK SPACE}m away" in page.locator(".card").first.inner_text()


# --- The map


def test_every_room_is_on_the_map_and_pins_go_with_cards(open_window, rooms):
    page = open_window("/rooms?near=2.15,41.4&within=100")
    page.locator(".pin, .cluster").first.wait_for()
    page.goto("/rooms")
    page.locator(".cluster").first.wait_for()
    numbers = page.locator(".cluster b").all_inner_texts()
    singles = page.locator(".pin").count()
    assert sum(int(text) for text in numbers) + singles == 150
    page.locator(".card a").first.focus()
    page.locator(".pin.lit, .pointer").first.wait_for()


def test_clusters_cover_no_other_cluster(open_window):
    for row in range(8):
        for column in range(12):
            for n in range(3):  # near the edges of their cells
                RoomFactory(latitude=41.3 + row * 0.02 + n * 1e-5, longitude=2 + column * 0.021, price=99)
    page = open_window("/rooms?near=2.1,41.38&within=10000")
    page.locator(".cluster").first.wait_for()
    covered = page.locator(".cluster").evaluate_all(
        """marks => marks.flatMap((mark, index) => marks.slice(index + 1).filter((other) => {
            const [a, b] = [mark.getBoundingClientRect(), other.getBoundingClientRect()];
            const beside = a.left > b.right - 1 || b.left > a.right - 1;
            return !beside && a.top < b.bottom - 1 && b.top < a.bottom - 1;
        }).map((other) => `${mark.title}: ${other.title}`))"""
    )
    assert page.locator(".cluster").count() > 10
    assert covered == []


def test_moving_the_map_offers_its_area_and_the_back_button_returns(open_window, rooms):
    page = open_window("/rooms?near=-0.1257,51.5085&within=5000")
    page.locator(".pin, .cluster").first.wait_for()
    map_ = page.locator("#room-map")
    map_.focus()
    map_.press("ArrowRight")
    page.get_by_role("button", name="Search this area").click()
    page.wait_for_url(re.compile(r"\?bbox="))
    assert "near=" not in page.url
    assert "in this area" in page.get_by_role("heading", level=1).inner_text()
    page.go_back()
    page.wait_for_url("**near=*")


def test_search_as_i_move_replaces_the_list_and_keeps_the_map(open_window, rooms):
    page = open_window("/rooms?near=2.16,41.404&within=2000")
    page.locator(".pin, .cluster").first.wait_for()
    page.evaluate("document.getElementById('room-map').dataset.same = 'yes'")
    page.get_by_role("checkbox", name="search as I move").check()
    map_ = page.locator("#room-map")
    map_.focus()
    map_.press("ArrowRight")
    page.wait_for_url(re.compile(r"\?bbox="))
    page.get_by_role("heading", name="in this area").wait_for()
    assert map_.get_attribute("data-same") == "yes"
    # The form of the new list has its script.
    page.get_by_role("combobox", name="Where").wait_for()
    page.go_back()
    page.wait_for_url("**near=*")
    page.get_by_role("heading", name="around").wait_for()


def test_a_room_within_a_cluster_is_marked_on_its_own_map(open_window):
    room, *_ = RoomFactory.create_batch(5, latitude=41.4, longitude=2.15)
    page = open_window(f"/rooms/{room.code}")
    page.locator(".cluster").wait_for()
    assert page.locator("#room-map .pointer").count() == 1


def test_staff_who_are_logged_in_see_a_link_to_the_form(open_window, rooms, django_user_model):
    django_user_model.objects.create_superuser("boss", password="boss-of-rooms")
    path = f"/rooms/{rooms[0].code}"
    page = open_window(path)
    page.wait_for_load_state("networkidle")
    edit = page.get_by_role("link", name="edit")
    assert edit.count() == 0
    page.goto("/admin/")
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("boss-of-rooms")
    page.get_by_role("button", name="Log in").click()
    page.goto(path)
    edit.click()
    page.wait_for_url(f"**/admin/rooms/room/{rooms[0].pk}/change/")
    assert page.get_by_label("Price").input_value() == str(rooms[0].price)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/logout/")
    page.goto(path)
    page.wait_for_load_state("networkidle")
    assert edit.count() == 0


def test_code_place_and_link_of_a_room_are_copied(open_window, rooms):
    room = rooms[0]
    page = open_window(f"/rooms/{room.code}", permissions=["clipboard-read", "clipboard-write"])
    for name, text in (
        ("copy code", str(room.code)),
        ("copy link", page.url),
        ("copy place", f"{room.latitude}, {room.longitude}"),
    ):
        page.get_by_role("button", name=name).click()
        page.get_by_role("button", name="copied").first.wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == text


# --- The shortlist


def test_kept_rooms_are_compared_at_a_url_that_can_be_shared(open_window, rooms):
    page = open_window("/rooms?order=price")
    kept = cards(page)[:3]
    for code in kept:
        page.locator(f'.card[data-code="{code}"] button.keep').click()
    link = page.get_by_role("link", name="3 kept")
    assert link.get_attribute("href").count(",") == 2
    page.reload()
    page.get_by_role("link", name="3 kept").click()
    page.wait_for_url("**filter_code__in=*")
    assert page.get_by_role("heading", level=1).inner_text() == "Shortlist: 3 rooms"
    shared = open_window(page.url)
    assert sorted(shared.locator("tbody code").all_inner_texts()) == sorted(kept)
    # Side by side a room is taken off the list again.
    page.locator("tbody button.keep").first.click()
    page.get_by_role("link", name="2 kept").wait_for()


def test_a_kept_room_is_taken_away_again(open_window, rooms):
    page = open_window(f"/rooms/{rooms[0].code}")
    button = page.locator(".actions button.keep")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("a.shortlist").is_hidden()


# --- The documentation


def test_an_example_is_copied_and_run_on_the_page(open_window, rooms):
    page = open_window("/docs", permissions=["clipboard-read", "clipboard-write"])
    example = page.locator(".first .example")
    example.get_by_role("button", name="copy").click()
    example.get_by_text("copied").wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == example.locator("pre[data-language=curl]").inner_text()
    example.get_by_role("button", name="run").press("Enter")
    output = example.locator(".output")
    output.get_by_text("HTTP 200 application/json").wait_for()
    assert output.inner_text().count('"code"') == 2
    for path, words in (
        ("/rooms?limit=2", "Link: <http"),
        ("/rooms/changes", "HTTP 200 application/x-ndjson"),
        ("/rooms.csv?limit=2", "code,size,price"),
    ):
        example = page.locator(f'.example[data-path="{path}"]').first
        example.get_by_role("button", name="run").click()
        example.locator(".output").get_by_text(words).wait_for()
    # Of all rooms only the beginning is shown.
    assert page.locator('.example[data-path="/rooms/changes"] .output').inner_text().endswith("…")


def test_the_language_of_the_examples_is_chosen_by_keyboard(open_window, rooms):
    page = open_window("/docs")
    shown = page.locator(".first pre:visible")
    page.get_by_role("tab", name="curl").focus()
    for key, name, words in (
        ("ArrowRight", "Python", "from urllib.request"),
        ("ArrowRight", "JavaScript", "await fetch("),
        ("ArrowRight", "curl", "curl 'http"),
        ("ArrowLeft", "JavaScript", "await fetch("),
        ("Home", "curl", "curl 'http"),
        ("End", "JavaScript", "await fetch("),
    ):
        page.keyboard.press(key)
        assert page.locator("[role=tab][aria-selected=true]").inner_text() == name
        assert page.evaluate("document.activeElement.textContent") == name
        assert words in shown.inner_text()
    assert page.locator("#filter_price__lt pre:visible").inner_text().startswith("const response")


def test_without_scripts_the_examples_are_commands_of_curl(open_window, rooms):
    page = open_window("/docs", java_script_enabled=False)
    assert page.locator(".first pre:visible").inner_text().startswith("curl 'http")
    assert page.locator(".try:visible, .languages:visible").count() == 0


# --- Without scripts, on a phone, on paper


def test_without_scripts_form_bars_and_map_work(open_window, rooms):
    page = open_window("/rooms", java_script_enabled=False)
    image = page.locator("#room-map img")
    assert image.is_visible()
    page.get_by_role("link", name="Zoom in").click()
    page.wait_for_url(re.compile("[?&]map="))
    page.get_by_role("link", name="Search this area").click()
    page.wait_for_url("**bbox=*")
    page.locator("#place").fill("Barcelona")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**near=*")
    assert page.locator("h1").inner_text() == "20 rooms around Barcelona"


def test_on_a_phone_filters_are_folded_and_list_and_map_swap(open_window, rooms):
    asked = []
    page = open_window("/", **PHONE, has_touch=True)
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/rooms")
    assert page.locator(".fields").is_hidden()
    first = page.locator(".card").first.bounding_box()
    assert first["y"] + first["height"] < 844
    assert page.locator("#map").is_hidden()
    page.locator(".card").nth(10).scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    assert not [url for url in asked if "leaflet" in url]
    page.get_by_role("link", name="Map", exact=True).click()
    page.locator(".pin, .cluster").first.wait_for()
    assert page.locator(".results").is_hidden()
    page.get_by_role("link", name="List", exact=True).click()
    page.locator(".card").nth(10).wait_for()
    page.wait_for_function("place => scrollY === place", arg=place)
    assert page.locator("#map").is_hidden()
    page.go_back()
    page.locator("#map").wait_for()
    page.go_back()
    page.locator(".card").first.wait_for()
    shared = open_window("/rooms#map", **PHONE)
    shared.locator(".pin, .cluster").first.wait_for()


def test_without_scripts_a_phone_swaps_list_and_map_too(open_window, rooms):
    page = open_window("/rooms", **PHONE, java_script_enabled=False)
    page.get_by_role("link", name="Map", exact=True).click()
    page.locator("#room-map img").wait_for()
    assert page.locator(".results").is_hidden()
    page.get_by_role("link", name="List", exact=True).click()
    page.locator(".card").first.wait_for()


def test_paper_has_the_rooms_without_form_and_map(open_window, rooms):
    page = open_window("/rooms")
    page.emulate_media(media="print")
    for selector in ("#search", "#room-map", "nav.pages", ".swap", "button.keep"):
        assert page.locator(f"{selector}:visible").count() == 0, selector
    assert page.locator(".card").first.is_visible()
    lines = page.locator(".card").evaluate_all("cards => cards.map((card) => card.clientHeight)")
    assert max(lines) < 48  # pixels: one line
    page.goto(f"/rooms/{rooms[0].code}")
    assert page.locator("#room-map:visible, button:visible, nav:visible").count() == 0
    assert page.locator("dl").is_visible()


def test_a_room_that_is_added_in_the_admin_is_in_the_list(open_window, rooms, django_user_model):
    django_user_model.objects.create_superuser("boss", password="boss-of-rooms")
    page = open_window("/rooms?filter_price__gte=500")
    assert page.get_by_role("heading", level=1).inner_text() == "0 rooms"
    admin = open_window("/admin/rooms/room/add/")
    admin.get_by_label("Username").fill("boss")
    admin.get_by_label("Password").fill("boss-of-rooms")
    admin.get_by_role("button", name="Log in").click()
    for name, value in (("Price", "777"), ("Latitude", "51.5"), ("Longitude", "-0.12")):
        admin.get_by_label(name).fill(value)
    admin.get_by_role("button", name="Save", exact=True).click()
    admin.locator(".messagelist .success").wait_for()
    page.reload()
    assert page.get_by_role("heading", level=1).inner_text() == "1 room"
    assert "777" in page.locator(".card").inner_text()
