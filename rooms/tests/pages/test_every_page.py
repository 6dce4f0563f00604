"""What holds for every public page in Chromium: accessible, still, light, and usable by keyboard."""

import re
import zlib

import pytest

from rooms.factories import RoomFactory

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.django_db(transaction=True)]

PHONE = {"viewport": {"width": 390, "height": 844}}


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
        "/",
        "/rooms",
        "/rooms?filter_price__gt=1&limit=5&near=-0.12,51.5&within=5000&order=-size",
        "/rooms?view=table",
        "/rooms?filter_price__lt=1",
        "/rooms/stats",
        f"/rooms/{rooms[0].code}",
        "/docs",
    ):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        violations = axe.run(page).response["violations"]
        assert [(found["id"], found["nodes"][0]["html"]) for found in violations] == [], path


@pytest.mark.parametrize("how", [{}, PHONE], ids=["wide", "phone"])
def test_nothing_moves_while_a_page_loads(open_window, rooms, how):
    room = f"/rooms/{rooms[0].code}"
    page = open_window(room, **how)
    page.locator(".actions button.keep").click()  # a shortlist is there, too
    for path in ("/", "/rooms", "/rooms?view=table", room, "/rooms/stats", "/docs"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        moved = page.evaluate(
            """() => new Promise((resolve) => {
                const moved = [];
                new PerformanceObserver((list) => {
                    for (const entry of list.getEntries()) {
                        if (entry.hadRecentInput) continue;
                        for (const { node } of entry.sources) moved.push(String(node?.outerHTML));
                    }
                }).observe({ type: "layout-shift", buffered: true });
                setTimeout(() => resolve(moved), 200);
            })"""
        )
        assert moved == [], path


def test_every_target_is_24_pixels_or_within_text(open_window, rooms):
    page = open_window("/rooms", **PHONE)
    for path in ("/", "/rooms?filter_price__lte=99", f"/rooms/{rooms[0].code}", "/rooms#map", "/docs"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        small = page.evaluate(
            """() => [...document.querySelectorAll(
                "input, select, button, summary, nav a, .card a, .chips a, .views a, .examples a, "
                + ".actions a, .swap, .brand, .pin, .cluster, .leaflet-bar a")]
                .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest("label"))
                .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
                .filter(([, box]) => box.width < 24 || box.height < 24)
                .map(([html, box]) => `${html} ${box.width} x ${box.height}`)"""
        )
        assert small == [], path


# --- Bytes


def test_the_first_view_is_light_and_the_map_comes_after_the_list(open_window, rooms):
    asked = []
    page = open_window("/docs")
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/rooms", f"/rooms/{rooms[0].code}", "/rooms/stats", "/docs"):
        asked.clear()
        page.goto(path)
        page.wait_for_load_state("networkidle")
        parts = {"view": 0, "map": 0, "tiles": 0}
        for url in set(asked):
            part = "map" if re.search(r"leaflet|/map\.js|/clusters", url) else "view"
            part = "tiles" if re.search(r"/map/\d", url) else part
            accept = {"Accept": "application/json" if "/clusters" in url else "text/html,*/*"}
            # The site packs pages while it sends them, files when they are collected. And some headers.
            level = 9 if "/static/" in url else 2
            parts[part] += len(zlib.compress(page.request.get(url, headers=accept).body(), level)) + 100
        assert parts["view"] < 45_000, (path, parts)
        assert parts["map"] + parts["tiles"] < 70_000, (path, parts)
    page.goto("/rooms")
    page.locator(".cluster").first.wait_for()
    parsed, fetched = page.evaluate(
        """() => [
            performance.getEntriesByType("navigation")[0].domInteractive,
            performance.getEntriesByType("resource").find((one) => one.name.includes("leaflet")).startTime,
        ]"""
    )
    assert parsed <= fetched


# --- The keyboard


def tab_to(page, target):
    """Press Tab until the target has the focus."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if target.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"Tab does not lead to {target}")


def test_search_slider_chip_shortlist_and_next_page_work_by_keyboard(open_window, rooms):
    page = open_window("/rooms")
    heading = page.get_by_role("heading", level=1)
    tab_to(page, page.get_by_role("combobox", name="Where"))
    page.keyboard.type("51.5, -0.12")
    page.keyboard.press("Enter")
    page.wait_for_url("**near=*")

    tab_to(page, page.get_by_role("slider", name="Price from"))
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**filter_price__gte=*")

    tab_to(page, page.get_by_role("link", name=re.compile("^without from")))
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "filter_price" not in url)

    page.goto("/rooms")
    tab_to(page, page.locator(".card button.keep").first)
    page.keyboard.press("Space")
    page.get_by_role("link", name="1 kept").wait_for()
    tab_to(page, page.get_by_role("link", name="Next"))
    page.keyboard.press("Enter")
    page.wait_for_url("**after=*")
    tab_to(page, page.get_by_role("link", name="1 kept"))
    page.keyboard.press("Enter")
    page.wait_for_url("**filter_code__in=*")
    assert heading.inner_text() == "Shortlist: 1 room"


@pytest.mark.parametrize("path", ["/", "/rooms", "/rooms/stats", "/docs"])
def test_the_first_tab_leads_past_the_header(open_window, rooms, path):
    page = open_window(path)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("one => one === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_nothing_is_animated_for_those_who_prefer_less_motion(open_window, rooms):
    page = open_window("/rooms", reduced_motion="reduce")
    page.locator(".cluster").first.wait_for()
    page.get_by_role("button", name="Zoom in").click()
    animated = page.evaluate(
        """() => [...document.querySelectorAll("*")]
            .filter((one) => !/^0s(, 0s)*$/.test(getComputedStyle(one).transitionDuration))
            .map((one) => one.className)"""
    )
    assert animated == []
    assert page.evaluate("document.getAnimations().length") == 0
