"""Tests of a column `floor`; they run in a copy of the project that has it (test_recipe.py)."""

import csv
import json
from io import BytesIO, StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from openpyxl import load_workbook

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.seeding import between, many_rooms

CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
LIST = "/admin/rooms/room/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def room() -> Room:
    return RoomFactory(code=CODE, price=39, floor=7)


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create(username="ann", is_staff=True, is_superuser=True))
    return client


def test_every_format_has_it(client, room):
    assert client.get("/rooms").json()[0]["floor"] == 7
    assert json.loads(b"".join(client.get("/rooms.ndjson")))["floor"] == 7
    (row,) = csv.DictReader(StringIO(b"".join(client.get("/rooms.csv")).decode()))
    assert row["floor"] == "7"
    assert client.get(f"/rooms/{CODE}").json()["floor"] == 7


def test_geojson_has_it_as_a_property(client, room):
    response = client.get("/rooms.geojson")
    body = json.loads(b"".join(response) if response.streaming else response.content)
    assert body["features"][0]["properties"]["floor"] == 7


def test_it_can_be_filtered_and_ordered_by(client, room):
    RoomFactory(floor=None)
    RoomFactory(floor=-5)
    found = client.get("/rooms?filter_floor__gte=-5&order=-floor").json()
    assert [one["floor"] for one in found] == [7, -5]
    assert len(client.get("/rooms?filter_floor__isnull=true").json()) == 1
    assert client.get("/rooms?filter_floor__lte=201").status_code == 400


def test_pages_and_documents_show_it_in_its_own_column(client, room):
    page = client.get("/rooms?view=table", headers={"accept": "text/html"}).content.decode()
    heads = page[page.index("<thead>") : page.index("</thead>")].count("<th ")
    first_row = page[page.index("<tbody>") :].partition("</tr>")[0]
    assert "order=floor" in page
    assert heads == first_row.count("<td") == 8
    assert "<td>7</td>" in first_row
    assert 'name="filter_floor__gte" min="-5" max="200"' in page
    figures = client.get("/rooms/stats", headers={"accept": "text/html"})
    assert figures.status_code == 200
    assert "7 storeys" in client.get(f"/rooms/{CODE}", headers={"accept": "text/html"}).content.decode()
    assert "filter_floor__lte" in client.get("/docs").content.decode()
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["Room"]["properties"]["floor"]["type"] == ["integer", "null"]
    assert document["components"]["parameters"]["filter_floor__in"]["schema"]["items"]["maximum"] == 200


def test_the_database_holds_it_within_its_limits(room):
    room.floor = 201
    with pytest.raises(Exception, match="must be from -5 to 200 storeys"):
        room.full_clean()


@pytest.mark.django_db(transaction=True)
def test_the_commands_read_and_write_it(manage, tmp_path, room):
    listed = manage("rooms", "floor__gte=3")
    assert "floor (storeys)" in listed.stdout
    file = tmp_path / "rooms.csv"
    file.write_text(f"code,size,price,latitude,longitude,floor\n{CODE},12,39,51.5,-0.1,9\n")
    done = manage("import_rooms", str(file))
    assert "1 changed" in done.stdout, done.stderr
    room.refresh_from_db()
    assert room.floor == 9


def upload(staff: Client, text: str) -> str:
    """Import a CSV file in the browser, from its preview to its confirmation; the preview's text."""
    file = SimpleUploadedFile("rooms.csv", text.encode(), content_type="text/csv")
    preview = staff.post(f"{LIST}import/", {"import_file": file, "format": "0"})
    form = preview.context["confirm_form"]
    staff.post(f"{LIST}process_import/", form.initial)
    return preview.content.decode()


def test_a_spreadsheet_shows_and_stores_its_change(staff, room):
    head = "code,size,price,latitude,longitude,floor"
    preview = upload(staff, f"{head}\n{CODE},{room.size},39,{room.latitude},{room.longitude},8\n")
    assert "<del>7</del> <ins>8</ins>" in preview
    room.refresh_from_db()
    assert room.floor == 8
    assert "floor 7 → 8" in LogEntry.objects.latest("id").change_message


def test_exports_of_the_admin_have_it(staff, room):
    data = {"action": "export_xlsx", "_selected_action": [room.pk]}
    response = staff.post(LIST, data)
    content = b"".join(response) if response.streaming else response.content
    rows = list(load_workbook(BytesIO(content)).worksheets[0].values)
    assert dict(zip(rows[0], rows[1], strict=True))["floor"] == 7


def test_the_form_and_the_list_of_the_admin_have_it(staff, room):
    form = staff.get(f"{LIST}{room.pk}/change/").context["adminform"].form
    limits = [one.limit_value for one in form.fields["floor"].validators if hasattr(one, "limit_value")]
    assert {-5, 200} <= set(limits)
    assert "floor, storeys" in staff.get(LIST).content.decode().lower()
    values = {name: form[name].value() for name in form.fields} | {"floor": 2}
    values |= {form.add_initial_prefix(name): form[name].value() for name in form.fields}
    staff.post(f"{LIST}{room.pk}/change/", {k: v for k, v in values.items() if v is not None})
    room.refresh_from_db()
    assert room.floor == 2
    assert "floor 7 → 2" in LogEntry.objects.latest("id").change_message


@pytest.mark.parametrize("query", ["floor__gte=7&floor__lte=7", "floor__gte=1&floor__isnull=false"])
def test_the_list_of_the_admin_filters_by_it(staff, room, query):
    RoomFactory(floor=-5)
    RoomFactory(floor=None)
    page = staff.get(f"{LIST}?{query}")
    assert list(page.context["cl"].result_list) == [room]
    assert 'name="floor__gte" value=' in page.content.decode()
    assert "Floor missing" in page.content.decode()


def test_generated_rooms_have_it():
    many_rooms(500, floor=between(1, 4))
    floors = set(Room.objects.values_list("floor", flat=True))
    assert floors == {1, 2, 3, 4, None}


@pytest.mark.django_db(transaction=True)
def test_a_captured_scenario_has_it(manage, tmp_path, room):
    done = manage("capture_scenario", "floors", "--output", "-", "--keep-codes")
    assert done.returncode == 0, done.stderr
    assert f'("{CODE}", {room.size}, 39, ' in done.stdout
    assert done.stdout.count(", 7),") == 1
