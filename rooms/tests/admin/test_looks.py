"""What pages of the admin show first, and how they name rooms."""

import re
from html import unescape

import pytest

from rooms.factories import RoomFactory
from rooms.tests.admin.pages import page_text

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
    page = client.get(f"/admin/{path}").content.decode()
    assert page.count('id="changelist-filter"') == 1
    assert page.index('<details class="list-filters">') < page.index('id="result_list"')
    assert page.index('id="searchbar"') < page.index('id="changelist-filter"')
    assert "Filter" in page_text(client.get(f"/admin/{path}"))


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
    page = as_editor.get("/admin/").content.decode()
    assert f'href="/admin/rooms/room/activity/?room={room.code}"' in page


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


def test_a_first_page_without_rooms_has_no_chart(as_editor):
    response = as_editor.get("/admin/")
    assert "Nothing was done yet." in page_text(response)
    assert "price-chart" not in response.content.decode()


def test_the_first_page_of_somebody_without_rights_shows_no_room(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("nob", is_staff=True))
    RoomFactory(price=77)
    page = client.get("/admin/").content.decode()
    assert "dashboard-rooms" not in page
    assert "Recent changes" not in page
