"""The admin in Chromium: with and without scripts, wide and narrow, light and dark."""

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from rooms.admin.actions import bulk, large
from rooms.factories import RoomFactory
from rooms.models import Job, Room, SavedFilter
from rooms.tests.admin.test_undo import raise_prices

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.django_db(transaction=True)]

CODES = [f"f853578c-fc0f-4e65-81b8-566c5dffa3{number:02x}" for number in range(8)]


def test_logging_in_finding_a_room_by_filters_and_changing_it(open_page):
    RoomFactory(price=39, size=20)
    room = RoomFactory(price=66, size=50)
    page = open_page("/admin/", user=None)
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("boss-of-rooms")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="2 rooms").click()

    page.locator("#filter-price__gte").fill("60")
    page.get_by_role("button", name="Filter by price").click()
    page.locator("#filter-size__lte").fill("50")
    page.get_by_role("button", name="Filter by size").click()
    page.wait_for_url("**size__lte=50*")
    assert page.locator("#filter-price__gte").input_value() == "60"
    assert page.locator("#result_list tbody tr").count() == 1
    page.get_by_role("link", name="Clear the price filter").click()
    page.get_by_text("2 rooms", exact=True).first.wait_for()
    assert page.locator("#result_list tbody tr").count() == 2

    page.locator("#searchbar").fill("66€")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=str(room.code)).click()
    page.get_by_label("Price").fill("70")
    page.get_by_role("button", name="Save", exact=True).click()
    assert "was changed successfully" in page.locator(".messagelist").inner_text()
    room.refresh_from_db()
    assert (room.price, room.version) == (70, 2)


def test_the_second_save_is_rejected_and_keeps_the_input(open_page):
    room = RoomFactory(price=39, size=20)
    mine, theirs = (open_page(f"/admin/rooms/room/{room.pk}/change/") for _ in range(2))
    mine.get_by_label("Price").fill("50")
    theirs.get_by_label("Price").fill("45")
    theirs.get_by_label("Size").fill("25")
    theirs.get_by_role("button", name="Save", exact=True).click()
    theirs.locator(".messagelist .success").wait_for()
    mine.get_by_role("button", name="Save", exact=True).click()
    assert "boss changed this room" in mine.get_by_role("alert").get_by_role("heading").inner_text()
    rows = mine.get_by_role("alert").locator("tbody tr")
    assert [row.split() for row in rows.all_inner_texts()] == [
        ["Price", "39", "45", "50"],
        ["Size", "20", "25", "not", "edited"],
    ]
    assert mine.get_by_label("Price").input_value() == "50"
    assert mine.get_by_label("Size").input_value() == "25"
    mine.get_by_role("button", name="Save", exact=True).click()
    mine.locator(".messagelist .success").wait_for()
    room.refresh_from_db()
    assert (room.price, room.size, room.version) == (50, 25, 3)


def preview_prices(page, selected, change, unit="euros per day more"):
    """Select all rooms of a list, the text beside the actions saying so, and preview other prices."""
    page.locator("#action-toggle").check()
    page.get_by_text(selected).click()
    page.get_by_label("Action:").select_option(label="Change prices…")
    page.get_by_role("button", name="Go").click()
    page.get_by_label("Change:").fill(change)
    page.get_by_label(unit).check()
    page.get_by_role("button", name="Preview").click()


def test_prices_change_in_bulk_after_a_preview(open_page):
    RoomFactory(price=100)
    RoomFactory(price=39)
    page = open_page("/admin/rooms/room/?o=3")
    preview_prices(page, "2 of 2 selected", "10", "percent more")
    rows = page.get_by_role("region", name="New prices").locator("tbody tr")
    assert rows.nth(1).inner_text().split()[-3:] == ["39", "43", "+4"]
    page.get_by_role("button", name="Change 2 prices").click()
    assert "Prices of 2 rooms changed by +10 %." in page.locator(".messagelist").inner_text()
    assert sorted(Room.objects.values_list("price", flat=True)) == [43, 110]


def test_a_spreadsheet_with_a_mistake_and_then_without_one(open_page, tmp_path):
    RoomFactory(code=CODES[0], price=39, size=20)
    page = open_page("/admin/rooms/room/")
    page.get_by_role("link", name="Import").click()
    file = tmp_path / "rooms.csv"
    file.write_text(f"code,size,price,latitude,longitude\n{CODES[0]},20,abc,1,1\n{CODES[1]},,45,1,1\n")
    page.get_by_label("File to import").set_input_files(file)
    assert page.get_by_label("Format").locator("option:checked").inner_text() == "csv"
    page.get_by_role("button", name="Preview").click()
    page.locator("td li").first.wait_for()
    assert "must be a whole number, not 'abc'" in page.locator(".room-table").inner_text()
    assert page.locator("[name=confirm]").count() == 0

    file.write_text(file.read_text().replace("abc", "45"))
    page.get_by_label("File to import").set_input_files(file)
    page.get_by_role("button", name="Preview").click()
    assert page.locator("tr.row-update del").first.inner_text() == "39"
    assert page.locator("tr.row-update ins").first.inner_text() == "45"
    page.get_by_role("button", name="Import 2 rooms").click()
    assert "1 room added, 1 changed, 0 unchanged" in page.locator(".messagelist").inner_text()
    assert sorted(Room.objects.values_list("price", flat=True)) == [45, 45]


def test_clicking_and_dragging_on_the_map_sets_the_coordinates(open_page):
    room = RoomFactory(latitude=51.5, longitude=-0.1)
    RoomFactory(latitude=51.501, longitude=-0.101)
    page = open_page(f"/admin/rooms/room/{room.pk}/change/")
    page.locator("path.place-neighbour").wait_for()
    box = page.locator(".room-map").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75)
    clicked = [float(page.get_by_label(name).input_value()) for name in ("Latitude", "Longitude")]
    assert 51.49 < clicked[0] < 51.5
    assert -0.1 < clicked[1] < -0.05

    page.locator(".place-pin").hover()
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 100, steps=5)
    page.mouse.up()
    dragged = [float(page.get_by_label(name).input_value()) for name in ("Latitude", "Longitude")]
    assert dragged[0] > 51.5
    assert dragged[1] < -0.1
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".messagelist").wait_for()
    room.refresh_from_db()
    assert [room.latitude, room.longitude] == dragged


def test_a_new_rooms_map_opens_on_the_rooms_and_is_set_by_keyboard(open_page):
    RoomFactory(latitude=41.4, longitude=2.15)
    RoomFactory(latitude=41.42, longitude=2.18)
    page = open_page("/admin/rooms/room/add/")
    page.locator("path.place-neighbour").first.wait_for()
    assert page.locator("path.place-neighbour").count() == 2
    assert page.locator('.room-map img[src*="/map/"]').count() > 0
    page.locator(".room-map").focus()
    page.keyboard.press("Enter")

    def point():
        return [float(page.get_by_label(name).input_value()) for name in ("Latitude", "Longitude")]

    latitude, longitude = point()
    assert (latitude, longitude) == pytest.approx((41.41, 2.165), abs=0.005)
    page.keyboard.press("ArrowUp")
    assert point()[0] > latitude
    page.keyboard.press("Shift+ArrowRight")
    single = point()[1] - longitude
    page.keyboard.press("ArrowRight")
    assert point()[1] - longitude == pytest.approx(11 * single, rel=0.01)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert point() == pytest.approx([latitude, longitude], abs=1e-6)


def test_a_pasted_place_is_understood(open_page):
    page = open_page("/admin/rooms/room/add/")
    for pasted, point in (
        ("51.75436293, -0.09998975", ["51.7543629", "-0.0999898"]),
        ("91, 0", None),
        ("https://www.openstreetmap.org/#map=16/41.4042/2.1731", ["41.4042", "2.1731"]),
        ("https://www.openstreetmap.org/?mlat=41.5&mlon=2.2#map=12/41.4/2.1", ["41.5", "2.2"]),
        ("https://example.com/", None),
        ("https://www.google.com/maps/@48.8583701,2.2944813,17z", ["48.8583701", "2.2944813"]),
        ("https://www.google.com/maps/place/X/@48.8,2.2,17z/data=!3d48.85!4d2.29", ["48.85", "2.29"]),
        ("https://maps.google.com/?q=-33.8568,151.2153", ["-33.8568", "151.2153"]),
        ("41,4034; 2,1741", ["41.4034", "2.1741"]),
        ("41,4034 2,1741", ["41.4034", "2.1741"]),
        ("41°24'12.2\"N 2°10'26.5\"E", ["41.4033889", "2.1740278"]),
        ("33° 51′ 25″ S, 151° 12.9′ E", ["-33.8569444", "151.215"]),
        ("91°0'0\"N 2°0'0\"E", None),
        ("41°75'0\"N 2°0'0\"E", None),
        ("https://maps.apple.com/?ll=50.894967,4.341626", ["50.894967", "4.341626"]),
        ("https://maps.apple.com/place?coordinate=50.894967,4.341626&name=X", ["50.894967", "4.341626"]),
        ("https://www.bing.com/maps?cp=47.677797~-122.122013&lvl=16", ["47.677797", "-122.122013"]),
        ("geo:37.786971,-122.399677", ["37.786971", "-122.399677"]),
    ):
        for name in ("Latitude", "Longitude"):
            page.get_by_label(name).fill("")
        page.get_by_label("Paste a place").fill(pasted)
        filled = [page.get_by_label(name).input_value() for name in ("Latitude", "Longitude")]
        assert filled == (point or ["", ""]), pasted
        assert page.locator(".place-paste output").inner_text().startswith("No place in this") == (
            point is None
        )
        assert page.locator(".place-pin").count() == (point is not None)


def test_leaving_unsaved_changes_is_asked_and_leaving_none_is_not(open_page):
    room = RoomFactory(price=39)
    page = open_page(f"/admin/rooms/room/{room.pk}/change/")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.get_by_role("link", name="Rooms").first.click()
    page.wait_for_url("**/rooms/room/")
    assert asked == []
    page.goto(f"/admin/rooms/room/{room.pk}/change/")
    page.get_by_label("Price").fill("40")
    page.get_by_role("link", name="Rooms").first.click()
    page.wait_for_url("**/rooms/room/")
    assert asked == ["beforeunload"]
    page.goto(f"/admin/rooms/room/{room.pk}/change/")
    page.get_by_label("Price").fill("40")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".messagelist").wait_for()
    assert asked == ["beforeunload"]


def test_the_code_is_copied_by_a_button(open_page):
    room = RoomFactory()
    page = open_page(f"/admin/rooms/room/{room.pk}/change/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the code").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == str(room.code)


def test_errors_stand_below_their_fields(open_page):
    page = open_page(f"/admin/rooms/room/{RoomFactory().pk}/change/")
    page.get_by_label("Price").fill("-5")
    page.get_by_label("Size").fill("0")
    page.get_by_role("button", name="Save", exact=True).click()
    for label in ("Price", "Size"):
        error = page.get_by_text(f"{label} is from").bounding_box()
        field = page.get_by_label(label).bounding_box()
        assert error["x"] == field["x"]
        assert 0 < error["y"] - (field["y"] + field["height"]) < 20


def test_many_prices_change_with_a_progress(open_page, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_ROOMS", 2)
    monkeypatch.setattr(large, "BATCH", 2)
    RoomFactory.create_batch(101, price=10)
    page = open_page("/admin/rooms/room/")
    preview_prices(page, "Select all 101", "5")
    page.get_by_role("button", name="Change 101 prices").click()
    page.get_by_text("101 of 101 rooms changed.").wait_for()
    page.get_by_role("button", name="Undo for 101 rooms").wait_for()
    assert set(Room.objects.values_list("price", flat=True)) == {15}


def test_without_scripts_the_place_is_two_numbers(open_page):
    page = open_page("/admin/rooms/room/add/", java_script_enabled=False)
    assert not page.locator(".room-map").is_visible()
    page.get_by_label("Price").fill("39")
    page.get_by_label("Latitude").fill("51.75436293")
    page.get_by_label("Longitude").fill("-0.09998975")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".messagelist .success").wait_for()
    room = Room.objects.get()
    assert (room.latitude, room.longitude) == (51.75436293, -0.09998975)


def test_a_viewer_sees_the_map_and_cannot_move_the_pin(open_page, django_user_model):
    from django.contrib.auth.models import Permission

    viewer = django_user_model.objects.create_user("vera", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_room"))
    room = RoomFactory(latitude=51.5, longitude=-0.1)
    page = open_page(f"/admin/rooms/room/{room.pk}/change/", user=viewer)
    page.locator(".place-pin").wait_for()
    page.locator(".room-map").click(position={"x": 30, "y": 200})
    assert page.get_by_label("Paste a place").count() == 0


def test_a_filter_is_saved_used_and_removed(open_page):
    RoomFactory(price=39)
    RoomFactory(price=66)
    page = open_page("/admin/rooms/room/?price__gte=50")
    page.get_by_text("Save this filter").click()
    page.get_by_label("Name").fill("Dear")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Saved as “Dear”.").wait_for()
    page.goto("/admin/rooms/room/")
    page.get_by_role("link", name="Dear").click()
    page.wait_for_url("**price__gte=50")
    assert page.locator("#result_list tbody tr").count() == 1
    page.get_by_role("button", name="Remove the filter Dear").click()
    page.wait_for_url("**/room/")
    assert page.get_by_role("link", name="Dear").count() == 0


def test_going_through_a_list_saves_and_goes_on(open_page):
    rooms = [RoomFactory(price=price) for price in (10, 20, 30)]
    page = open_page("/admin/rooms/room/?o=3")
    page.get_by_role("link", name=str(rooms[0].code)).click()
    page.get_by_role("link", name="Next").click()
    page.get_by_label("Price").fill("15")
    page.get_by_role("button", name="Save and next").click()
    page.get_by_role("heading", name=str(rooms[2].code)).wait_for()
    page.get_by_role("link", name="Previous").click()
    page.get_by_role("heading", name=str(rooms[1].code)).wait_for()
    assert page.get_by_label("Price").input_value() == "15"


def test_the_list_shows_its_head_its_boxes_and_one_filled_button(open_page):
    RoomFactory.create_batch(40)
    page = open_page("/admin/rooms/room/?price__gte=0")
    assert page.get_by_role("button", name="Filter by price").is_visible()
    assert not page.locator(".list-filters > summary").is_visible()
    box = page.locator("input.action-select").first.bounding_box()
    assert (box["width"], box["height"]) == (24, 24)
    head = page.locator("#result_list thead th").first
    before = head.bounding_box()["y"]
    page.evaluate("scrollTo(0, 900)")
    assert head.bounding_box()["y"] == 0 < before
    filled = page.evaluate(
        """() => [...document.querySelectorAll("#content :is(a, button, input[type=submit])")]
          .filter((e) => getComputedStyle(e).backgroundColor === "rgb(11, 110, 110)")
          .map((e) => (e.innerText || e.value).trim())"""
    )
    assert filled == ["Add room"]


def test_on_a_phone_the_filters_open_above_the_table(open_page):
    RoomFactory.create_batch(40)
    page = open_page("/admin/rooms/room/", viewport={"width": 390, "height": 800})
    summary = page.locator(".list-filters > summary")
    field = page.get_by_role("button", name="Filter by price")
    assert summary.bounding_box()["y"] < page.locator("#result_list").bounding_box()["y"] < 800
    assert not field.is_visible()
    summary.click()
    field.wait_for()
    assert field.bounding_box()["y"] < page.locator("#result_list").bounding_box()["y"]


@pytest.mark.parametrize(
    "how",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}, "locale": "de-DE"},
    ],
    ids=["wide and light", "phone, dark, and German"],
)
def test_every_page_is_accessible_and_fits_the_screen(open_page, boss, how):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    room = RoomFactory()
    RoomFactory(size=None)
    how["bypass_csp"] = True  # axe itself writes styles inline
    client = Client()
    client.force_login(boss)
    raise_prices(client, Room.objects.all())
    SavedFilter.objects.create(user=boss, name="Large", query="size__gte=50")
    Room.objects.filter(pk=room.pk).update(size=3)
    page = open_page("/admin/login/", user=None, **how)
    findings = [("login", axe.run(page).response["violations"])]
    page = open_page("/admin/", **how)
    for path in (
        "",
        "rooms/room/",
        "rooms/room/?price__gte=1&q=f8",
        f"rooms/room/?bbox=-180,-90,180,90&near={room.longitude},{room.latitude}&within=20000",
        "rooms/room/add/",
        f"rooms/room/{room.pk}/change/",
        f"rooms/room/{room.pk}/history/",
        f"rooms/room/{room.pk}/delete/",
        "rooms/room/import/",
        "rooms/room/export/",
        "rooms/room/activity/",
        "rooms/room/jobs/",
        f"rooms/room/jobs/{Job.objects.get().pk}/",
    ):
        page.goto(f"/admin/{path}")
        findings.append((path, axe.run(page).response["violations"]))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto("/admin/rooms/room/")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("change_prices")
    page.locator(".actions button[name=index]").click()
    page.locator("input[name=change]").fill("10")
    page.locator("input[name=change]").press("Enter")
    page.locator("button[name=confirm]").wait_for()
    findings.append(("change prices", axe.run(page).response["violations"]))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [
        (path, finding["id"], [node["html"] for node in finding["nodes"]])
        for path, found in findings
        for finding in found
        if finding["impact"] in {"serious", "critical"}
    ] == []


def test_a_printed_list_and_form_have_the_rooms_and_no_controls(open_page):
    room = RoomFactory(price=39)
    page = open_page("/admin/rooms/room/?price__gte=1")
    page.emulate_media(media="print")
    assert page.get_by_text(str(room.code)).is_visible()
    for shown in (".field-price", ".field-latitude", ".field-changed", ".list-chips"):
        assert page.locator(shown).first.is_visible(), shown
    for hidden in (
        "#header",
        "#searchbar",
        "#changelist-filter",
        ".actions",
        ".action-select",
        ".object-tools",
    ):
        assert not page.locator(hidden).first.is_visible(), hidden
    page.goto(f"/admin/rooms/room/{room.pk}/change/")
    assert page.get_by_label("Price").is_visible()
    for hidden in ("#header", ".submit-row", ".object-tools", ".copy-code"):
        assert not page.locator(hidden).first.is_visible(), hidden


@pytest.mark.parametrize(
    "how",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}, "locale": "es-ES"},
    ],
    ids=["wide and light", "phone, dark, and Spanish"],
)
def test_pages_of_users_and_groups_are_accessible(open_page, boss, how):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    group = Group.objects.create(name="Night shift")
    boss.groups.add(group)
    page = open_page("/admin/", **how, bypass_csp=True)
    findings = []
    for path in (
        "auth/user/",
        "auth/user/add/",
        f"auth/user/{boss.pk}/change/",
        f"auth/user/{boss.pk}/password/",
        f"auth/user/{boss.pk}/history/",
        f"auth/user/{boss.pk}/delete/",
        "auth/group/",
        "auth/group/add/",
        f"auth/group/{group.pk}/change/",
        f"auth/group/{group.pk}/delete/",
        "password_change/",
        "axes/accessattempt/",
    ):
        page.goto(f"/admin/{path}")
        findings += [
            (path, finding["id"], [node["html"] for node in finding["nodes"]])
            # What axe preloads are style sheets whose imports it would look for beside the page.
            for finding in axe.run(page, options={"preload": False}).response["violations"]
            if finding["impact"] in {"serious", "critical"}
        ]
    assert findings == []


def test_a_change_is_undone_by_the_link_of_its_message(open_page):
    rooms = [RoomFactory(price=price) for price in (10, 20)]
    page = open_page(f"/admin/rooms/room/{rooms[0].pk}/change/")
    page.get_by_label("Price").fill("50")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".messagelist").get_by_role("link", name="Undo…").click()
    cells = page.get_by_role("region", name="Rooms to bring back").locator("tbody td")
    assert cells.all_inner_texts() == ["price 10", "price 50"]
    page.get_by_role("button", name="Undo for 1 room").click()
    page.locator(".messagelist").get_by_text("Undone: 1 room gets its old values back.").wait_for()
    assert sorted(Room.objects.values_list("price", flat=True)) == [10, 20]
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("link", name="Undo job").wait_for()
    assert page.locator("tbody tr").count() == 2


def test_many_deleted_rooms_come_back_with_a_progress(open_page, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_ROOMS", 2)
    monkeypatch.setattr(large, "BATCH", 2)
    RoomFactory.create_batch(101, price=10)
    page = open_page("/admin/rooms/room/")
    page.locator("#action-toggle").check()
    page.get_by_text("Select all 101").click()
    page.get_by_label("Action:").select_option(label="Delete…")
    page.get_by_role("button", name="Go").click()
    page.get_by_role("button", name="Delete 101 rooms").click()
    page.get_by_text("101 of 101 rooms deleted.").wait_for()
    page.get_by_role("button", name="Undo for 101 rooms").click()
    page.get_by_text("101 of 101 rooms brought back.").wait_for()
    page.get_by_role("button", name="Undo for 101 rooms").wait_for()
    assert Room.objects.count() == 101


def test_a_price_is_edited_in_the_list_unless_somebody_else_was_faster(open_page):
    room = RoomFactory(price=39, size=None)
    page = open_page("/admin/rooms/room/")
    page.get_by_role("button", name="price 39, edit").click()
    page.get_by_label("New price").fill("-1")
    page.keyboard.press("Enter")
    page.get_by_text("Price must be from 0 to 1000000").wait_for()
    page.get_by_label("New price").fill("45")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="price 45, edit").wait_for()
    page.get_by_role("button", name="size missing, edit").click()
    page.get_by_label("New size").fill("20")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="size missing, edit").wait_for()
    Room.objects.update(price=60)
    page.get_by_role("button", name="price 45, edit").click()
    page.get_by_label("New price").fill("50")
    with page.expect_response("**/cell/"):
        page.keyboard.press("Enter")
    page.get_by_text("its price is 60").wait_for()
    page.get_by_role("button", name="price 60, edit").click()
    page.get_by_label("New price").fill("61")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_role("link", name="Undo…").click()
    page.get_by_role("button", name="Undo for 1 room").wait_for()
    room.refresh_from_db()
    assert (room.price, room.size) == (61, None)
