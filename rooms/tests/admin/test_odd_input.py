"""Arbitrary input in every field of every form of the admin causes no internal error."""

import re
from html import unescape
from urllib.parse import urlencode

import pytest

from rooms.factories import RoomFactory

ODD = ["\0", "\ud800", "9" * 5000, "{{7*7}}<script>", ""]
LIST = "/admin/rooms/room/"


def fields(content, url):
    """The names and values of the last form of a page, as a browser would send them."""
    form = content[content.rindex("<form ", 0, content.rindex("csrfmiddlewaretoken")) :]
    inputs = re.findall(r"<(?:input|select|textarea|button)\b[^>]*>", form)
    found = {}
    for tag in inputs:
        name, value = re.search(r'\bname="([^"]*)"', tag), re.search(r'\bvalue="([^"]*)"', tag)
        if name and 'type="file"' not in tag:
            found[name[1]] = unescape(value[1]) if value else ""
    assert found, url
    return found


@pytest.mark.django_db
def test_no_field_of_any_form_is_an_error_of_ours(client, boss):
    client.raise_request_exception = False
    client.force_login(boss)
    room = RoomFactory()
    pages = {
        f"{LIST}add/": {},
        f"{LIST}{room.pk}/change/": {},
        f"{LIST}{room.pk}/delete/": {},
        f"{LIST}import/": {"import_file": "x"},
        f"{LIST}export/": {"format": "0"},
        LIST: {
            "action": "change_prices",
            "_selected_action": room.pk,
            "change": "1",
            "unit": "euros",
            "confirm": "y",
        },
        f"{LIST}?q=6": {"action": "delete_selected", "_selected_action": room.pk, "confirm": "y"},
        f"{LIST}?o=1": {"action": "export_csv", "_selected_action": room.pk, "index": "0"},
        "/admin/password_change/": {},
        "/admin/auth/user/add/": {},
        f"/admin/auth/user/{boss.pk}/change/": {},
    }
    responses = []
    for url, more in pages.items():
        sent = fields(client.get(url).content.decode(), url) | more
        for name in sent:
            for odd in ODD:
                body = urlencode(sent | {name: odd}, errors="surrogatepass")
                response = client.post(url, body, content_type="application/x-www-form-urlencoded")
                if response.streaming:
                    response.getvalue()  # an export holds its slot until it is read
                responses.append((response.status_code, url, name, odd[:20]))
                if "_auth_user_id" not in client.session:
                    client.force_login(boss)
    assert [response for response in responses if response[0] >= 500] == []
