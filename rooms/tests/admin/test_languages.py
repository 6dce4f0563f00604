"""The admin in other languages: texts are translated, what is stored is not, numbers are never misread."""

import re
from html.parser import HTMLParser
from pathlib import Path

import polib
import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import translation
from django.utils.translation.trans_real import all_locale_paths

from rooms.admin import recorded
from rooms.admin.files.tables import cell_text
from rooms.admin.history import log_changes
from rooms.admin.numbers import plain_number
from rooms.factories import RoomFactory
from rooms.models import Job, Room
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import act
from rooms.tests.admin.test_form import page, typed

ADMIN = "/admin/"
LIST = "/admin/rooms/room/"
CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
pytestmark = pytest.mark.django_db


# --- A language in which each translation stands in brackets: what stands outside of them is not marked


PSEUDO = "xx"
DATA = re.compile(
    r"""
    [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} | f853578c | Rent-o-matic | Axes | \bboss\b | \bUTC\b | \bm²
    | \bEN\b | \bDE\b | \bES\b | \bXX\b
    | English | Deutsch | Español | \bCSV\b | \bXLSX\b | \bcsv\b | \bxlsx\b
    | \./manage\.py\ import_rooms\ FILE | my\ filter | \bcode\b | \bprice\b | \bsize\b
    | \blatitude\b | \blongitude\b
    | a\ title | rooms\.csv | \b[A-Z2-7]{4}(\ [A-Z2-7]{4})+\b
    """,
    re.VERBOSE,
)
"""What isn't translated: rooms, names of people and of files, languages by themselves, columns of files."""
SHOWN_ATTRIBUTES = {"aria-label", "title", "alt", "placeholder"}
TEXTS_OF_SCRIPTS = {"data-edit", "data-new", "data-undo", "data-failed", "data-refused", "data-away"}


class Reader(HTMLParser):
    """Collects what people see or hear of a page: its text, and the attributes that are shown."""

    def __init__(self):
        super().__init__()
        self.text, self.attributes, self.skipped = [], [], None

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in {"script", "style"}:
            self.skipped = tag
        for name, value in values.items():
            is_button = tag == "input" and name == "value" and values.get("type") in {"submit", "button"}
            of_form = values.get("id") == "form-texts" and name.startswith("data-")
            if name in SHOWN_ATTRIBUTES | TEXTS_OF_SCRIPTS or is_button or of_form:
                self.attributes.append(value or "")

    def handle_endtag(self, tag):
        if tag == self.skipped:
            self.skipped = None

    def handle_data(self, data):
        if not self.skipped:
            self.text.append(data)


def untranslated(html):
    """The words of a page that are neither in brackets nor data."""
    reader = Reader()
    reader.feed(html)
    found = []
    for text in ["\n".join(reader.text), *reader.attributes]:
        while text != (text := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)):
            pass
        found += [line.strip() for line in DATA.sub(" ", text).splitlines() if re.search("[A-Za-z]{2}", line)]
    return found


@pytest.fixture
def pseudo(settings, tmp_path):
    """The catalogs of Django, the packages and this project, each text translated to itself in brackets."""
    texts = {}
    for folder in {*all_locale_paths()}:
        file = Path(folder) / "de" / "LC_MESSAGES" / "django.mo"
        for entry in polib.mofile(str(file)) if file.exists() else []:
            # Of two packages that have a text, one may have it without a plural.
            texts[entry.msgctxt, entry.msgid, entry.msgid_plural] = entry
    catalog = polib.MOFile()
    catalog.metadata = {
        "Content-Type": "text/plain; charset=UTF-8",
        "Plural-Forms": "nplurals=2; plural=(n != 1);",
    }
    for entry in texts.values():
        marked = {"msgstr": f"⟦{entry.msgid}⟧"}
        if entry.msgid_plural:
            marked = {"msgstr_plural": {0: f"⟦{entry.msgid}⟧", 1: f"⟦{entry.msgid_plural}⟧"}}
        catalog.append(
            polib.MOEntry(
                msgctxt=entry.msgctxt, msgid=entry.msgid, msgid_plural=entry.msgid_plural or "", **marked
            )
        )
    target = tmp_path / PSEUDO / "LC_MESSAGES"
    target.mkdir(parents=True)
    catalog.save(str(target / "django.mo"))
    settings.LOCALE_PATHS = [str(tmp_path)]
    settings.LANGUAGES = [*settings.LANGUAGES, (PSEUDO, "⟦Pseudo⟧")]
    return {"accept-language": PSEUDO}


@pytest.fixture
def staff(client, boss, pseudo):
    client.force_login(boss)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = PSEUDO
    return client


def check(response, status=200):
    assert response.status_code == status
    html = response.content.decode()
    assert f'<html lang="{PSEUDO}"' in html
    assert untranslated(html) == []
    return response


def test_a_text_that_is_not_marked_is_found():
    html = '<p title="⟦Here⟧ it is">⟦See <a>the job</a>.⟧ by hand <b>66</b> m²</p><script>let x</script>'
    assert untranslated(html) == ["by hand", "it is"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "password_change/",
        "rooms/",
        "rooms/room/",
        "rooms/room/?price__gte=1&price__lte=100&size__isnull=false&changed=today",
        "rooms/room/?size__gte=5&size__isnull=true&changed=7d&q=66",
        "rooms/room/?price__lte=5",
        "rooms/room/add/",
        "rooms/room/activity/",
        "rooms/room/activity/?who=nobody",
        "rooms/room/jobs/",
        "rooms/room/import/",
        "rooms/room/export/",
        "rooms/room/?bbox=2,41,3,42&map=fit",
        "rooms/room/?near=2.15,41.4&within=1000&map=3/1/2",
        "rooms/room/?near=2.15,41.4",
        "account/",
        "account/second-factor/",
        "password_reset/",
    ],
)
def test_every_text_of_a_page_is_translated(staff, boss, path):
    room = RoomFactory(price=39, size=20, code=CODE)
    log_changes(boss, CHANGE, [(room, "price 39 → 45, size unknown → 20 (by an import)")])
    log_changes(boss, ADDITION, [(room, "added by an import"), (room, "restored (undo of job 3)")])
    Job.objects.create(title="Change prices by -5 euros per day, ending in 9", user=boss, total=2, changed=1)
    for title in (
        "Add a room",
        "Delete 1,200 rooms",
        "Import rooms.csv",
        "Undo job 3: Add a room",
        "Undo job 4",
    ):
        Job.objects.create(title=title, user=None, state="done")
    staff.post(f"{LIST}filters/", {"name": "my filter", "query": "price__gte=5"})
    check(staff.get(ADMIN + path))


@pytest.mark.parametrize(
    "query",
    [
        "price__gte=x",
        "price__gte=9&price__lte=5",
        "changed=30d",
        "nothing=1",
        "q=%3F",
        "q=1&q=2",
        "price__gte=1&price__gte=2",
    ],
)
def test_every_error_of_a_filter_is_translated(staff, query):
    staff.get(LIST)
    check(staff.get(f"{LIST}?{query}"))


def test_every_text_of_one_room_is_translated(staff, boss):
    room = RoomFactory(price=39, size=None, code=CODE)
    url = f"{LIST}{room.pk}/"
    check(staff.get(f"{url}history/"))
    opened = staff.get(page(room))
    check(staff.post(f"{url}change/", typed(opened) | {"price": "1e9", "size": "-1", "latitude": "x"}))
    check(staff.post(f"{url}change/", typed(opened) | {"price": "1.000"}))
    Room.objects.update(price=50)
    check(staff.post(f"{url}change/", typed(opened) | {"price": "45"}))
    check(staff.post(f"{url}change/", typed(staff.get(page(room))) | {"price": "45"}, follow=True))
    check(
        staff.post(
            f"{url}change/", typed(staff.get(page(room))) | {"price": "46", "_next": "yes"}, follow=True
        )
    )
    check(staff.get(f"{url}history/"))
    check(staff.get(f"{url}delete/"))
    new = {"code": "", "price": "46", "latitude": room.latitude, "longitude": room.longitude}
    check(staff.post(f"{LIST}add/", new))
    check(staff.post(f"{LIST}add/", new | {"code": CODE}))
    check(staff.post(f"{LIST}add/", new | {"code": CODE[::-1][:8] + CODE[8:]}, follow=True))
    Room.objects.filter(pk=room.pk).delete()
    check(staff.post(f"{url}change/", typed(opened), follow=True))
    log_changes(boss, DELETION, [(room, "code x, price 39")])
    check(staff.get(f"{url}change/", follow=True))
    check(staff.get(f"{ADMIN}nowhere/", headers={"accept": "text/html"}), 404)


def test_every_text_of_bulk_actions_and_undo_is_translated(staff):
    rooms = [RoomFactory(price=39, size=20), RoomFactory(price=50)]
    check(act(staff, "change_prices", rooms))
    check(act(staff, "change_prices", rooms, change="0", unit="euros"))
    check(act(staff, "change_prices", rooms, change="0.5", unit="euros"))
    check(act(staff, "change_prices", rooms, change="-100", unit="euros"))
    check(act(staff, "change_prices", rooms, change="900", unit="percent"))
    asked = check(act(staff, "change_prices", rooms, change="5", unit="percent", ending="9"))
    fields = {"change": "5", "unit": "percent", "ending": "9", "confirm": "yes"}
    check(act(staff, "change_prices", rooms, **fields, fingerprint="another"))
    check(act(staff, "change_prices", rooms, **fields, fingerprint=asked.context["fingerprint"]))
    job = Job.objects.get()
    shown = check(staff.get(job.get_absolute_url()))
    Room.objects.filter(pk=rooms[0].pk).update(price=1)
    check(staff.get(job.get_absolute_url()))
    check(
        staff.post(
            job.get_absolute_url(),
            {"undo": "yes", "fingerprint": shown.context["preview"].fingerprint},
            follow=True,
        )
    )
    shown = check(staff.get(job.get_absolute_url()))
    check(
        staff.post(
            job.get_absolute_url(),
            {"undo": "yes", "fingerprint": shown.context["preview"].fingerprint},
            follow=True,
        )
    )
    check(act(staff, "delete_selected", rooms))


def upload(staff, text):
    file = SimpleUploadedFile("rooms.csv", text.encode(), content_type="text/csv")
    return staff.post(f"{LIST}import/", {"import_file": file, "format": "0"})


def test_every_text_of_an_import_is_translated(staff):
    RoomFactory(code=CODE, price=39, size=20, latitude=1, longitude=2)
    for text in (
        "code,price\nx,1.000\n,5\n",
        "prize,size\n1,2\n",
        "code,code,price\n1,2,3\n",
        f"code,price\n{CODE},5,6\n",
        "\0",
        f"code,price\n{CODE},39\n",
    ):
        check(upload(staff, text))
    preview = check(upload(staff, f"code,price,a title\n{CODE},40,1\n"))
    check(staff.post(f"{LIST}process_import/", preview.context["confirm_form"].initial, follow=True))


def test_every_text_of_the_login_is_translated(client, pseudo):
    login = f"{ADMIN}login/"
    for _ in range(12):
        response = client.post(login, {"username": "boss", "password": "no"}, headers=pseudo)
    check(client.get(login, headers=pseudo))
    check(response, 429)


def test_scripts_of_the_admin_have_no_texts_of_their_own():
    folder = Path(__file__).parents[2] / "static" / "rooms" / "admin"
    for script in folder.glob("*.js"):
        code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", script.read_text(), flags=re.DOTALL)
        texts = [text for _, text in re.findall(r"([\"`'])((?:(?!\1).)*)\1", code)]
        assert [
            text
            for text in texts
            if re.search(r"^[A-Z][a-z]+\b|[a-z]{2,} [a-z]{2,}", text)
            and not re.search(
                r"[(\[=<#.{]|^(use strict|Arrow.*|Enter|Escape|Accept|Abort.*|Number|POST)$", text
            )
        ] == []


# --- What is stored is English, and is shown in the reader's language


@pytest.mark.parametrize(
    ("message", "german"),
    [
        ("price 39 → 45, size unknown → 20", "Preis 39 → 45, Größe unbekannt → 20"),
        ("price 39 → 45 (+5 %)", "Preis 39 → 45 (+5 %)"),
        ("price 39 → 45 (+2.5 %, rounded to 5)", "Preis 39 → 45 (+2,5 %, auf 5 gerundet)"),
        ("price 39 → 45 (to 45 euros per day)", "Preis 39 → 45 (auf 45 Euro pro Tag)"),
        ("price 1 → 2 (by an import)", "Preis 1 → 2 (durch einen Import)"),
        ("price 2 → 1 (undo of job 7)", "Preis 2 → 1 (Vorgang 7 rückgängig gemacht)"),
        ("latitude 51.5 → 51.50000001", "Breitengrad 51.5 → 51.50000001"),
        ("what another program wrote, 5 % (x)", "what another program wrote, 5 % (x)"),
        ("", ""),
    ],
)
def test_a_recorded_message_is_shown_in_the_readers_language(message, german):
    assert recorded.show_message(message) == message
    with translation.override("de"):
        assert recorded.show_message(message) == german


@pytest.mark.parametrize(
    ("title", "spanish"),
    [
        ("Add a room", "Añadir una habitación"),
        ("Change a room: price 39 → 45", "Modificar una habitación: precio 39 → 45"),
        ("Delete 1 room", "Eliminar 1 habitación"),
        ("Delete 1,200 rooms", "Eliminar 1\xa0200 habitaciones"),
        ("Delete rooms", "Eliminar habitaciones"),
        ("Change prices by -3 euros per day", "Cambiar precios en -3 euros por día"),
        (
            "Change prices to 49 euros per day, ending in 9",
            "Cambiar precios a 49 euros por día, terminado en 9",
        ),
        ("Import 100%s.csv", "Importar 100%s.csv"),
        ("Undo job 3: Delete 1 room", "Deshacer la operación 3: Eliminar 1 habitación"),
        ("Undo job 3", "Deshacer la operación 3"),
        ("Something else", "Something else"),
    ],
)
def test_the_title_of_a_job_is_shown_in_the_readers_language(title, spanish):
    assert recorded.show_title(title) == title
    with translation.override("es"):
        assert recorded.show_title(title) == spanish


def test_what_is_stored_is_the_same_in_every_language(client, boss):
    client.force_login(boss)
    stored = {}
    for language in ("en", "de", "es"):
        client.defaults["HTTP_ACCEPT_LANGUAGE"] = language
        room = RoomFactory(code=CODE, price=1039, size=None, latitude=1, longitude=2)
        form = typed(client.get(page(room))) | {"price": "1045", "size": "20"}
        assert client.post(f"{LIST}{room.pk}/change/", form).status_code == 302
        edit = {"name": "size", "value": "21", "version": "2"}
        assert client.post(f"{LIST}{room.pk}/cell/", edit).json()["saved"]
        fields = {"change": "2.5", "unit": "percent", "ending": "5"}
        asked = act(client, "change_prices", [room], **fields)
        act(
            client, "change_prices", [room], **fields, confirm="yes", fingerprint=asked.context["fingerprint"]
        )
        preview = upload(client, f"code,size\n{CODE},22\n")
        client.post(f"{LIST}process_import/", preview.context["confirm_form"].initial)
        asked = act(client, "delete_selected", [room])
        act(client, "delete_selected", [room], confirm="yes", fingerprint=asked.context["fingerprint"])
        stored[language] = (
            [*LogEntry.objects.order_by("pk").values_list("change_message", flat=True)],
            [*Job.objects.order_by("pk").values_list("title", flat=True)],
        )
        LogEntry.objects.all().delete()
        Job.objects.all().delete()
    assert len(stored["en"][0]) == len(stored["en"][1]) == 5
    assert stored["de"] == stored["en"] == stored["es"]


def test_an_export_is_the_same_in_every_language(client, boss):
    client.force_login(boss)
    room = RoomFactory(price=1000, latitude=1.5, longitude=2.5)
    log_changes(boss, ADDITION, [(room, '[{"added": {}}]')])
    files = set()
    for language in ("en", "de", "es"):
        response = client.post(f"{LIST}export/", {"format": "0"}, headers={"accept-language": language})
        files.add(b"".join(response))
        response = client.get(f"{LIST}activity.csv", headers={"accept-language": language})
        files.add(b"".join(response))
    assert len(files) == 2


def test_the_list_and_the_form_write_numbers_and_times_as_the_language_does(client, boss):
    client.force_login(boss)
    room = RoomFactory(price=12345, size=None)
    shown = page_text(client.get(LIST, headers={"accept-language": "de"}))
    assert "12.345" in shown
    assert "1 Zimmer" in shown
    assert re.search(r"\d\d?\. \w+\.? 20\d\d, \d\d:\d\d UTC", shown)
    assert "12\xa0345" in client.get(LIST, headers={"accept-language": "es"}).content.decode()
    form = client.get(f"{LIST}{room.pk}/change/", headers={"accept-language": "de"})
    assert 'name="price" value="12345"' in form.content.decode()
    assert "Euro pro Tag. 0 bis 1.000.000 € pro Tag." in page_text(form)


# --- Numbers that are typed


@pytest.mark.parametrize(
    ("language", "text", "number"),
    [
        ("de", "66,50", "66.50"),
        ("es", "66,50", "66.50"),
        ("en", "66.50", "66.50"),
        ("de", "66.5", "66.5"),
        ("de", "-2,5", "-2.5"),
        ("de", "1.000", "1000"),
        ("de", "1.000.000,5", "1000000.5"),
        ("es", "1 000", "1000"),
        ("es", "1\xa0000,5", "1000.5"),
        ("en", "1,000", "1000"),
        ("en", "+1,234.5", "+1234.5"),
        ("de", "0.500", "0.500"),
        ("en", "66,50", "66,50"),
        ("de", "1.2.3", "1.2.3"),
        ("de", "1,5,5", "1,5,5"),
        ("en", "1 000", "1 000"),
        ("de", "12.34.567", "12.34.567"),
        ("de", " 5 ", "5"),
        ("de", "", ""),
        ("de", "NaN", "NaN"),
    ],
)
def test_a_typed_number_is_read_as_the_language_writes_it(language, text, number):
    with translation.override(language):
        assert plain_number(text) == number


@pytest.mark.parametrize(
    ("language", "text"),
    [("en", "1.000"), ("en", "-12.345"), ("de", "1,000"), ("es", "1.000"), ("es", "1,000")],
)
def test_a_number_that_can_be_read_in_two_ways_is_refused(language, text):
    with translation.override(language), pytest.raises(ValidationError):
        plain_number(text)


@pytest.mark.parametrize(
    ("language", "text", "price"),
    [
        ("de", "1.000", 1000),
        ("de", "66,0", 66),
        ("en", "1,000", 1000),
        ("en", "1.000", None),
        ("de", "66,5", None),
    ],
)
def test_the_form_stores_the_price_that_was_meant_or_none(client, boss, language, text, price):
    client.force_login(boss)
    room = RoomFactory(price=39)
    form = typed(client.get(page(room))) | {"price": text}
    response = client.post(f"{LIST}{room.pk}/change/", form, headers={"accept-language": language})
    assert response.status_code == (302 if price else 200)
    assert Room.objects.get().price == (price or 39)


@pytest.mark.parametrize(
    ("language", "text", "latitude"),
    [
        ("de", "51,754", 51.754),
        ("de", "51.754", 51.754),
        ("en", "51.754", 51.754),
        ("en", "51,754", None),
        ("es", "0,123", 0.123),
    ],
)
def test_a_coordinate_has_decimals_and_no_thousands(client, boss, language, text, latitude):
    client.force_login(boss)
    room = RoomFactory(latitude=1)
    form = typed(client.get(page(room))) | {"latitude": text}
    client.post(f"{LIST}{room.pk}/change/", form, headers={"accept-language": language})
    assert Room.objects.get().latitude == (latitude or 1)


@pytest.mark.parametrize(
    ("language", "text", "price"),
    [("de", "2,5", 41), ("es", "2,5", 41), ("en", "2.5", 41), ("de", "1.000", 440)],
)
def test_percents_are_read_as_the_language_writes_them(client, boss, language, text, price):
    client.force_login(boss)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = language
    fields = {"change": text, "unit": "percent", "sure": "on"}
    room = RoomFactory(price=40)
    asked = act(client, "change_prices", [room], **fields)
    act(client, "change_prices", [room], **fields, confirm="yes", fingerprint=asked.context["fingerprint"])
    assert Room.objects.get().price == price


def test_a_cell_of_the_list_is_read_as_the_language_writes_it(client, boss):
    client.force_login(boss)
    room = RoomFactory(price=39)
    edit = {"name": "price", "value": "1.000", "version": "1"}
    refused = client.post(f"{LIST}{room.pk}/cell/", edit, headers={"accept-language": "en"}).json()
    assert (refused["saved"], refused["invalid"]) == (False, True)
    saved = client.post(f"{LIST}{room.pk}/cell/", edit, headers={"accept-language": "de"}).json()
    assert (saved["saved"], saved["shown"], saved["message"]) == (True, "1.000", "Gespeichert.")
    assert Room.objects.get().price == 1000


@pytest.mark.parametrize("text", ["1.000", "1,000", "12.345"])
def test_a_file_with_a_price_that_can_be_read_in_two_ways_is_refused(client, boss, text):
    client.force_login(boss)
    RoomFactory(code=CODE, price=39)
    preview = upload(client, f'code;price\n{CODE};"{text}"\n')
    assert f"must be a whole number, not '{text}'" in page_text(preview)
    assert cell_text("latitude", "51,754") == "51.754"
