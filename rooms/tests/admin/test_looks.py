"""What pages of the admin show first, and how they name rooms."""

import re
from html import unescape

import pytest
from django.contrib.admin.models import CHANGE, LogEntry

from rooms.admin.history import log_changes
from rooms.factories import RoomFactory
from rooms.models import Job, Room
from rooms.naming import room_name
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import act
from rooms.tests.admin.test_form import page, typed

LIST = "/admin/rooms/room/"
pytestmark = pytest.mark.django_db


def chips(response):
    """The chips over the list, by their words: the URL that each leads to."""
    found = re.search(r'<ul class="list-chips".*?</ul>', response.content.decode(), re.DOTALL)
    links = re.findall(r'<a href="([^"]*)">(.*?)</a>', found[0] if found else "")
    texts = [(re.sub(r"<[^>]+>", "", label), unescape(url)) for url, label in links]
    return {label.removeprefix("Remove the filter ").removesuffix(" ×"): url for label, url in texts}


def test_each_active_filter_is_a_chip_that_leads_to_the_list_without_it(as_editor):
    query = "price__gte=60&price__lte=80&size__gte=5&size__isnull=false&changed=today&q=66&o=3"
    found = chips(as_editor.get(f"{LIST}?{query}"))
    assert list(found) == [
        "“66”",
        "size from 5 m²",
        "price 60 to 80 € per day",
        "Size known",
        "changed: Today",
        "Remove all",
    ]
    without_prices = chips(as_editor.get(LIST + found["price 60 to 80 € per day"]))
    assert list(without_prices) == ["“66”", "size from 5 m²", "Size known", "changed: Today", "Remove all"]
    assert chips(as_editor.get(LIST + found["Remove all"])) == {}


def test_a_chip_shows_a_wrong_filter_as_it_was_given(as_editor):
    assert list(chips(as_editor.get(f"{LIST}?price__lte=<b>"))) == ["price up to &lt;b&gt; € per day"]
    assert list(chips(as_editor.get(f"{LIST}?changed=30d"))) == ["changed: 30d"]


@pytest.mark.parametrize("path", ["rooms/room/", "auth/user/"])
def test_filters_stand_before_the_table_closed_under_a_summary(client, boss, path):
    client.force_login(boss)
    RoomFactory()
    shown = client.get(f"/admin/{path}").content.decode()
    assert shown.count('id="changelist-filter"') == 1
    assert shown.index('<details class="list-filters">') < shown.index('id="result_list"')
    assert shown.index('id="searchbar"') < shown.index('id="changelist-filter"')


# --- The first page


def test_the_first_page_lists_recent_changes_with_links(as_editor):
    room = RoomFactory(price=39, size=20)
    form = {"price": 45, "size": 20, "latitude": 1, "longitude": 1, "code": room.code, "loaded_version": 1}
    url = f"/admin/rooms/room/{room.pk}/change/"
    assert as_editor.post(url, form).status_code == 302
    response = as_editor.get("/admin/")
    assert "price 39 → 45" in page_text(response)
    assert f'href="{url}"' in response.content.decode()
    assert 'href="/admin/rooms/room/activity/?who=ed"' in response.content.decode()
    room.delete()
    shown = as_editor.get("/admin/").content.decode()
    assert f'href="/admin/rooms/room/activity/?room={room.code}"' in shown


def test_the_prices_of_the_first_page_are_bars_that_lead_to_their_rooms(as_editor):
    for price in (10, 10, 11, 30, 500):
        RoomFactory(price=price)
    response = as_editor.get("/admin/")
    assert "Half of the rooms cost 10 to 30 € per day, the median is 11 €." in page_text(response)
    bars = re.findall(r'<a href="([^"]+)" aria-label="[^"]*: (\d+) rooms?"', response.content.decode())
    assert sum(int(number) for _, number in bars) == 5
    for url, number in bars:
        listed = as_editor.get(unescape(url)).context["cl"].result_list
        assert len(listed) == int(number), url


def test_the_first_page_names_rooms_and_never_by_their_code_alone(as_editor, editor):
    room = RoomFactory()
    log_changes(editor, CHANGE, [(room, "price 39 → 45")])
    response = as_editor.get("/admin/")
    assert "My actions" not in page_text(response)
    assert response.content.decode().count(str(room.code)) == 1
    assert room_name(room) in response.content.decode()


def test_a_first_page_without_rooms_has_no_chart(as_editor):
    response = as_editor.get("/admin/")
    assert "Nothing was done yet." in page_text(response)
    assert "price-chart" not in response.content.decode()


def test_the_first_page_of_somebody_without_rights_shows_no_room(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("nob", is_staff=True))
    RoomFactory(price=77)
    shown = client.get("/admin/").content.decode()
    assert "dashboard-rooms" not in shown
    assert "Recent changes" not in shown


# --- History, export, deletion


def test_a_history_is_newest_first_with_the_jobs_that_undo_it(as_editor, editor):
    room = RoomFactory(price=39)
    log_changes(editor, CHANGE, [(room, "long ago")])
    LogEntry.objects.update(action_time="2020-01-01T00:00Z")
    for price in (45, 50):
        as_editor.post(page(room), typed(as_editor.get(page(room)), price=price))
    response = as_editor.get(f"/admin/rooms/room/{room.pk}/history/")
    second, first = Job.objects.order_by("-pk")
    text = page_text(response)
    assert f"price 45 → 50 job {second.pk}" in text
    assert text.index("price 45 → 50") < text.index("price 39 → 45") < text.index("long ago 3 changes")
    assert f'href="{first.get_absolute_url()}"' in response.content.decode()


def test_a_job_is_not_named_beside_what_others_did_meanwhile(as_editor, editor, boss):
    room = RoomFactory(price=39)
    as_editor.post(page(room), typed(as_editor.get(page(room)), price=45))
    log_changes(boss, CHANGE, [(room, "by the boss")])
    assert page_text(as_editor.get(f"/admin/rooms/room/{room.pk}/history/")).count("job ") == 1


def test_an_export_says_how_many_rooms_it_takes(as_editor):
    RoomFactory(price=39)
    RoomFactory.create_batch(2, price=70)
    response = as_editor.get("/admin/rooms/room/export/?price__gte=50")
    assert "2 rooms: all of the list that you came from" in page_text(response)
    assert 'value="Export 2 rooms"' in response.content.decode()


def test_deleting_one_room_looks_like_deleting_several(client, boss):
    client.force_login(boss)
    room, other = RoomFactory(), RoomFactory()
    one = client.get(f"/admin/rooms/room/{room.pk}/delete/")
    several = act(client, "delete_selected", [room, other])
    assert one.template_name == several.template_name
    assert "Delete 1 room?" in page_text(one)
    assert "brings it back" in page_text(one)
    assert "brings them back" in page_text(several)


# --- Rooms by their place

GRACIA = {"latitude": 41.4026, "longitude": 2.1566}
NAME = "38 m² in Gràcia, Barcelona"


def test_lists_histories_and_messages_name_rooms_by_size_and_place(as_editor):
    room = RoomFactory(size=38, price=39, **GRACIA)
    saved = as_editor.post(page(room), typed(as_editor.get(page(room)), price=45), follow=True)
    assert f"The room “ {NAME}, {room.code} ” was changed successfully. Undo…" in page_text(saved)
    assert f"{NAME} {room.code} 38 45" in page_text(as_editor.get(LIST))
    assert f"{NAME} {room.code} price 39 → 45" in page_text(as_editor.get("/admin/"))
    assert f"{NAME} {room.code} price 39 → 45" in page_text(as_editor.get("/admin/rooms/room/activity/"))
    assert f"History: {NAME}" in page_text(as_editor.get(f"/admin/rooms/room/{room.pk}/history/"))
    assert f"{NAME} · {room.code}" in page_text(as_editor.get(page(room)))


def test_previews_of_bulk_actions_name_rooms_by_size_and_place(client, boss):
    client.force_login(boss)
    room = RoomFactory(size=None, **GRACIA)
    assert f"Room in Gràcia, Barcelona {room.code}" in page_text(act(client, "delete_selected", [room]))
    preview = act(client, "change_prices", [room], change="10", unit="percent", preview="yes")
    assert f"Room in Gràcia, Barcelona {room.code}" in page_text(preview)


@pytest.mark.parametrize(
    ("other", "hinted"),
    [
        ({}, True),
        ({"latitude": GRACIA["latitude"] + 0.00005}, True),
        ({"latitude": GRACIA["latitude"] + 0.001}, False),
        ({"price": 46}, False),
        ({"size": 39}, False),
        ({"size": None}, False),
    ],
    ids=str,
)
def test_a_new_room_like_another_is_added_with_a_hint(as_editor, other, hinted):
    twin = RoomFactory(**{"size": 38, "price": 45, **GRACIA} | other)
    form = {"code": "f853578c-fc0f-4e65-81b8-566c5dffa35a", "size": 38, "price": 45, **GRACIA}
    added = as_editor.post("/admin/rooms/room/add/", form, follow=True)
    assert page_text(as_editor.get("/admin/rooms/room/activity/")).count("Added.") == 1
    hint = "Another room has the same place, size and price:"
    assert Room.objects.count() == 2
    assert (hint in page_text(added)) == hinted
    link = re.search(rf'and price: <a href="([^"]+)">[^<]*{twin.code}</a>', added.content.decode())
    assert (link and link[1]) == (f"/admin/rooms/room/{twin.pk}/change/" if hinted else None)
