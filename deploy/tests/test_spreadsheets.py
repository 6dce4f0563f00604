"""Heavy spreadsheets, many at once: no worker is lost, and everybody else is served meanwhile."""

import http.client
import re
import threading
import zipfile
from collections import Counter
from io import BytesIO

import pytest

from rentomatic_site import postgres
from rentomatic_site.testing import browser, rig

IMPORT, EXPORT = "/admin/rooms/room/import/", "/admin/rooms/room/export/"
BAD_ROWS = b"code,size,price,latitude,longitude\n" + b"x,y,z,a,b\n" * 10_000
ONE_ROOM = b"code,size,price,latitude,longitude\nf853578c-fc0f-4e65-81b8-566c5dffa35a,20,30,51.5,-0.1\n"
CSV, XLSX = "0", "1"


@pytest.fixture(scope="module")
def gunicorn(live_site, rooms, tmp_path_factory):
    """Two workers of four threads, as deployed, on many rooms."""
    site = live_site.variables
    boss = {"DJANGO_SUPERUSER_USERNAME": "boss", "DJANGO_SUPERUSER_PASSWORD": "boss-of-rooms"}
    rig.manage("createsuperuser", "--noinput", "--email=boss@example.com", **site, **boss)
    with rig.Gunicorn(tmp_path_factory.mktemp("spreadsheets"), SECOND_FACTOR="optional", **site) as server:
        yield server
    with postgres.session(site["APPLICATION_DB"]) as cursor:
        cursor.execute("TRUNCATE auth_user, accounts_session CASCADE")


class Browser(browser.Browser):
    """One that sends files."""

    def upload(self, token, content):
        fields = {"csrfmiddlewaretoken": token, "format": CSV, "resource": "0"}
        parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
        parts.append(b'name="import_file"; filename="rooms.csv"\r\nContent-Type: text/csv\r\n\r\n' + content)
        body = b"".join(b"--part\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
        form = "multipart/form-data; boundary=part"
        return self.ask(IMPORT, "POST", body=body + b"--part--\r\n", Content_Type=form)


@pytest.fixture(scope="module")
def boss(gunicorn):
    boss = Browser(gunicorn)
    boss.login("boss", "boss-of-rooms")
    return boss


def at_once(number, ask):
    """The responses to requests that begin together; http.client raises for one that is torn."""
    responses, start = [], threading.Barrier(number)

    def run():
        start.wait()
        try:
            responses.append(ask())
        except (OSError, http.client.HTTPException) as error:
            responses.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads, responses


def while_lists_are_answered(gunicorn, number, ask):
    """The responses to `number` requests at once, during which lists are asked for, by the same processes."""
    workers = gunicorn.workers()
    threads, responses = at_once(number, ask)
    lists = []
    while any(thread.is_alive() for thread in threads):
        lists.append(gunicorn.get("/rooms?limit=10", timeout=30).status)
    assert len(responses) == number
    assert lists
    assert set(lists) == {200}
    assert gunicorn.workers() == workers
    return responses


def assert_refused(response, message):
    assert response.status == 503, response
    assert int(response.headers["Retry-After"]) > 0
    assert message in response.body


def test_eight_exports_at_once_are_whole_or_refused_and_lists_go_on(gunicorn, boss, rooms):
    token = boss.token(EXPORT)
    fields = {"format": XLSX, "resource": "0"}
    fields |= dict.fromkeys(re.findall(r'name="(roomresource_\w+)"', boss.ask(EXPORT).body.decode()), "on")
    responses = while_lists_are_answered(gunicorn, 8, lambda: boss.post(EXPORT, token, **fields))
    assert 200 in {response.status for response in responses}
    for response in responses:
        if response.status == 200:
            with zipfile.ZipFile(BytesIO(response.body)) as book:
                assert book.read("xl/worksheets/sheet1.xml").count(b"<row>") == rooms + 1
        else:
            assert_refused(response, b"Other exports are under way")
    assert boss.post(EXPORT, token, **fields).status == 200


def test_six_uploads_of_bad_rows_at_once_are_shown_or_refused_and_lists_go_on(gunicorn, boss):
    assert len(BAD_ROWS) > 100_000
    token = boss.token(IMPORT)
    responses = while_lists_are_answered(gunicorn, 6, lambda: boss.upload(token, BAD_ROWS))
    assert set(Counter(response.status for response in responses)) == {200, 503}
    for response in responses:
        if response.status == 200:
            assert b"10,000" in response.body
            assert response.body.rstrip().endswith(b"</html>")
        else:
            assert_refused(response, b"Another spreadsheet is being worked on")
    assert b"<strong>1</strong> to add" in boss.upload(token, ONE_ROOM).body
