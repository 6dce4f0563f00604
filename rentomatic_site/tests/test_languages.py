"""The catalogs of the admin's languages are complete, and no language leaves the admin."""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation

from rentomatic_site.testing.documents import PROJECT
from rooms.factories import RoomFactory

CATALOGS = sorted(PROJECT.glob("*/locale/*/LC_MESSAGES/django.po"))
each_catalog = pytest.mark.parametrize(
    "file", CATALOGS, ids=lambda file: f"{file.parents[3].name}-{file.parents[1].name}"
)


def test_every_app_has_every_language() -> None:
    languages = {code for code, _ in settings.LANGUAGES} - {settings.LANGUAGE_CODE}
    found = {(file.parents[3].name, file.parents[1].name) for file in CATALOGS}
    assert found == set(product({"rentomatic_site", "rooms"}, languages))


@each_catalog
def test_no_text_is_untranslated_or_fuzzy(file: Path) -> None:
    catalog = polib.pofile(str(file))
    assert [entry.msgid for entry in catalog if not entry.translated()] == []
    assert [entry.msgid for entry in catalog if entry.fuzzy] == []
    assert not catalog.metadata_is_fuzzy


@each_catalog
def test_the_compiled_catalog_is_that_of_its_source(file: Path) -> None:
    def texts(catalog: polib.POFile | polib.MOFile) -> dict:
        return {
            (entry.msgctxt, entry.msgid): (entry.msgstr, entry.msgid_plural or "", dict(entry.msgstr_plural))
            for entry in catalog
        }

    compiled = polib.mofile(str(file.with_suffix(".mo")))
    assert texts(compiled) == texts(polib.pofile(str(file)))


def signs(text: str) -> list[str]:
    """Placeholders and markup, which a translation keeps."""
    return sorted(re.findall(r"%%|%\(\w+\)[sd]|\{\w*\}|<[^>]+>", text))


@each_catalog
def test_a_translation_keeps_placeholders_and_markup_and_fits_attributes(file: Path) -> None:
    for entry in polib.pofile(str(file)):
        pairs = [(entry.msgid, entry.msgstr)]
        if entry.msgid_plural:
            pairs = [(entry.msgid, entry.msgstr_plural[0]), (entry.msgid_plural, entry.msgstr_plural[1])]
        for text, translated in pairs:
            assert signs(translated) == signs(text), text
            assert '"' not in re.sub("<[^>]+>", "", translated), text
            assert translated[-1:].isspace() == text[-1:].isspace(), text


@pytest.mark.needs("xgettext", "msgmerge")
def test_the_catalogs_have_the_texts_of_the_sources(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.mo", "*.gz", "*.zip", "static", "images")
    shutil.copytree(PROJECT, copy, ignore=ignored)
    for file in copy.glob("*/locale/*/LC_MESSAGES/django.po"):
        file.write_text('msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n')
    (target,) = re.findall(
        r"^messages:.*?(makemessages.*?)\n\t@", (PROJECT / "Makefile").read_text(), re.DOTALL | re.MULTILINE
    )
    arguments = target.replace("\\\n", " ").split()
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=copy, check=True, capture_output=True)
    for file in CATALOGS:
        expected = {
            (entry.msgctxt, entry.msgid) for entry in polib.pofile(str(copy / file.relative_to(PROJECT)))
        }
        assert {(entry.msgctxt, entry.msgid) for entry in polib.pofile(str(file))} == expected, (
            "make messages"
        )


# --- Whose language


def language_of(response) -> str:  # type: ignore[no-untyped-def]  # of the test client
    (found,) = re.findall(r'<html lang="([\w-]+)"', response.content.decode())
    return str(found)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de", "de"),
        ("de-AT,en;q=0.5", "de"),
        ("es-MX", "es"),
        ("fr,es;q=0.3", "es"),
        ("fr", "en"),
        ("", "en"),
        ("*;q=x", "en"),
    ],
)
def test_the_admin_has_the_language_of_the_browser(client: Client, accepted: str, language: str) -> None:
    response = client.get("/admin/login/", headers={"accept-language": accepted})
    assert language_of(response) == language
    assert response.headers["Content-Language"] == language
    assert "accept-language" in response.headers["Vary"].lower()


@pytest.mark.django_db
def test_staff_choose_a_language_that_is_kept_for_the_admin_only(client: Client) -> None:
    german = {"accept-language": "de"}
    chosen = client.post(
        "/admin/language/", {"language": "es", "next": "/admin/login/?next=/admin/"}, headers=german
    )
    assert (chosen.status_code, chosen.headers["Location"]) == (302, "/admin/login/?next=/admin/")
    cookie = chosen.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie["path"], bool(cookie["httponly"]), cookie["samesite"]) == ("/admin/", True, "Lax")
    assert cookie["max-age"] > 86400 * 300
    shown = client.get("/admin/login/", headers=german)
    assert language_of(shown) == "es"
    assert 'value="es" lang="es" title="Español" aria-current="true"' in shown.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "http:///x"]
)
def test_choosing_a_language_leads_to_no_other_site(client: Client, target: str) -> None:
    response = client.post("/admin/language/", {"language": "de", "next": target})
    assert response.headers["Location"] == "/"


@pytest.mark.django_db
@pytest.mark.parametrize("language", ["", "../../x", "d" * 9000, "\0"])
def test_an_unknown_language_is_not_kept(client: Client, language: str) -> None:
    response = client.post("/admin/language/", {"language": language, "next": "/admin/"})
    assert response.status_code == 302
    assert settings.LANGUAGE_COOKIE_NAME not in response.cookies


@pytest.mark.django_db
@pytest.mark.parametrize("kept", ["fr", "xx", "de;", "../de"])
def test_a_kept_language_that_the_admin_does_not_have_is_the_browsers(client: Client, kept: str) -> None:
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = kept
    assert language_of(client.get("/admin/login/", headers={"accept-language": "es"})) == "es"


@pytest.mark.django_db
def test_a_language_is_chosen_by_a_form_of_ours_only() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/admin/language/", {"language": "de"}).status_code == 403
    assert settings.LANGUAGE_COOKIE_NAME not in client.get("/admin/language/?language=de").cookies


ELSEWHERE = [
    "/rooms",
    "/rooms?view=table",
    "/rooms.json",
    "/rooms?filter_price__lt=x",
    "/rooms?prize=5",
    "/rooms/stats",
    "/docs",
    "/openapi.json",
    "/nowhere",
    "/livez",
]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_no_other_response_depends_on_the_language(client: Client, path: str, accept: str) -> None:
    RoomFactory(price=1234567 // 10)

    def body(response) -> bytes:  # type: ignore[no-untyped-def]  # of the test client
        content = b"".join(response) if response.streaming else response.content
        return re.sub(rb'"[^"]*csrf[^"]*"', b"", content)

    plain = client.get(path, headers={"accept": accept})
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "de"
    german = client.get(path, headers={"accept": accept, "accept-language": "de"})
    assert body(german) == body(plain)
    assert "language" not in german.headers.get("Vary", "").lower()
    assert "Content-Language" not in german.headers


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/admin/nowhere/", "/admin/", "/admin/jsi18n/"])
def test_no_language_stays_in_the_thread(client: Client, path: str) -> None:
    client.get(path, headers={"accept-language": "de"})
    assert translation.get_language() == "en"
    refused = client.get("/rooms?filter_price__lt=x", headers={"accept-language": "de"})
    assert "must be a whole number" in refused.json()["message"]


@pytest.mark.django_db(transaction=True)
def test_threads_have_languages_of_their_own() -> None:
    def ask(number: int) -> tuple[str, str]:
        language = ("en", "de", "es")[number % 3]
        admin = Client().get("/admin/login/", headers={"accept-language": language})
        error = Client().get("/rooms?filter_price__lt=x", headers={"accept-language": language})
        assert "must be a whole number" in error.json()["message"]
        return language, language_of(admin)

    with ThreadPoolExecutor(4) as pool:
        assert all(asked == shown for asked, shown in pool.map(ask, range(60)))
