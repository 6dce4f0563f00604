"""Spreadsheets as people have them are imported, and mistakes in them are told with what to correct."""

import re
from base64 import b64decode
from io import BytesIO

import pytest
from openpyxl import Workbook, load_workbook

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_files import CODES, CSV, IMPORT, XLSX, confirm, upload

pytestmark = pytest.mark.django_db
VALUES = (20, 66, 51.5, -0.25)


def stored():
    return list(Room.objects.values_list("size", "price", "latitude", "longitude"))


@pytest.mark.parametrize(
    "content",
    [
        "code;size;price;latitude;longitude\n{0};20;66;51,5;-0,25\n",
        "code\tsize\tprice\tlatitude\tlongitude\n{0}\t20\t66\t51,5\t-0,25\n",
        'code,size,price,latitude,longitude\n{0},20,66,"51,5","-0,25"\n',
        "Code, Size ,PRICE,Latitude,longitude\n {0} ,20, 66 ,51.5,-0.25\n",
        "Code;Size (m²);Price, € per day;Latitude;Longitude\n{0};20,0;66.0;51,5;-0,25\n",
        "Our rooms;;;;\n;;;;\ncode;size;price;latitude;longitude\n\n{0};20;66;51,5;-0,25\n;;;;\n",
        "code,size,price,latitude,longitude,,\n{0},20,66,51.5,-0.25,,\n",
        "code,size,price,latitude,longitude\r\n{0},20,\xa066,51.5,-0.25\r\n",
    ],
    ids=["semicolons", "tabs", "decimal commas", "spaces", "units", "title", "empty columns", "nbsp"],
)
def test_a_table_is_imported_however_it_is_written(as_editor, content):
    preview = upload(as_editor, content.format(CODES[0]).encode())
    assert "1 to add" in page_text(preview)
    confirm(as_editor, preview)
    assert stored() == [VALUES]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-be", "mac-roman"])
def test_csv_is_read_in_the_encodings_of_spreadsheets(as_editor, encoding):
    text = (
        f"Our rooms – größte\ncode;Größe;size;Price (£);latitude;longitude\n{CODES[0]};ä;20;66;51,5;-0,25\n"
    )
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    preview = upload(as_editor, mark + text.encode(encoding))
    assert "1 to add" in page_text(preview)
    confirm(as_editor, preview)
    assert stored() == [VALUES]


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfea", "code,price".encode("utf-16-le")], ids=str
)
def test_what_is_no_text_is_refused_above_the_form(as_editor, content):
    html = upload(as_editor, content).content.decode()
    assert "Nothing was imported." in html
    assert html.index("errorlist") < html.index("<form", html.index('id="content"'))
    assert html.count("errorlist") == 1


def test_any_sheet_of_a_workbook_is_imported_with_its_title(as_editor):
    book = Workbook()
    book.active.append(["Notes"])
    sheet = book.create_sheet("2026")
    for row in (["Rooms 2026"], [], ["Code", "Size", "Price", "Latitude", "Longitude"]):
        sheet.append(row)
    sheet.append([CODES[0], 20.0, "66", "51,5", -0.25])
    stream = BytesIO()
    book.save(stream)
    confirm(as_editor, upload(as_editor, stream.getvalue(), XLSX))
    assert stored() == [VALUES]


def test_other_columns_are_named_and_ignored(as_editor):
    content = f"code,owner,size,price,latitude,longitude,<b>\n{CODES[0]},x,20,66,51.5,-0.25,y\n"
    preview = upload(as_editor, content.encode())
    assert "These columns are ignored: owner , <b> ." in page_text(preview)
    confirm(as_editor, preview)
    assert stored() == [VALUES]


def test_known_rooms_need_their_code_and_what_changes(as_editor):
    size, _, latitude, longitude = VALUES
    RoomFactory(code=CODES[0], size=size, price=5, latitude=latitude, longitude=longitude)
    confirm(as_editor, upload(as_editor, f"code,price\n{CODES[0]},66\n".encode()))
    assert stored() == [VALUES]
    text = page_text(upload(as_editor, f"code,price\n{CODES[1]},66\n".encode()))
    assert "latitude is needed: no room has this code, so that it is new" in text
    assert "size is needed" not in text
    assert stored() == [VALUES]


def test_mistakes_are_above_the_form_and_in_a_file_to_correct(as_editor):
    content = f"code;note;size;price;latitude;longitude\n{CODES[0]};;20;abc;51,5;-0,25\n{CODES[1]};;1;1;1;1\n"
    refused = upload(as_editor, content.encode())
    html = refused.content.decode()
    assert f"2 {CODES[0]} price must be a whole number, not 'abc'" in page_text(refused)
    assert html.index("must be a whole number") < html.index('type="file"')
    url = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]*)"', html)[1]
    corrected = b64decode(url).decode()
    assert "mistakes" in corrected
    assert "price must be a whole number, not 'abc'" in corrected
    preview = upload(as_editor, corrected.replace("abc", "66", 1).encode())
    assert "2 to add" in page_text(preview)
    assert "mistakes" in page_text(preview)


def test_the_template_has_the_columns_and_can_be_filled(as_editor, viewer, client):
    response = as_editor.get(f"{IMPORT}template/")
    book = load_workbook(BytesIO(response.content))
    book.active.append([CODES[0], *VALUES])
    stream = BytesIO()
    book.save(stream)
    confirm(as_editor, upload(as_editor, stream.getvalue(), XLSX))
    assert stored() == [VALUES]
    client.force_login(viewer)
    assert client.get(f"{IMPORT}template/").status_code == 403


@pytest.mark.parametrize("content", ["size;price\n1;2\n", "owner\nx\n", "a,b\n"])
def test_a_table_without_codes_is_told_what_it_needs(as_editor, content):
    assert "code: this column is missing" in page_text(upload(as_editor, content.encode(), CSV))
