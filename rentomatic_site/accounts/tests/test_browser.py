"""Logging in and one's own account in Chromium: as people do it, and how the pages look."""

import re

import pytest
from django.contrib.auth.models import User

from rentomatic_site.accounts.tests.conftest import ACCOUNT, PASSWORDS, SET_UP, code, give_second_factor

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def required(settings):
    settings.SECOND_FACTOR = "privileged"


def type_password(page, name="boss"):
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name])
    page.get_by_role("button", name="Log in").click()


def key_to_type(page):
    from base64 import b32decode

    return b32decode(page.locator(".app-key").inner_text().replace(" ", "")).hex()


def test_setting_up_at_the_first_login_and_logging_in_by_it(open_window, boss, required):
    page = open_window("/admin/")
    type_password(page)
    page.wait_for_url(f"**{SET_UP}*")
    assert page.locator(".qr-frame svg path").count() >= 1
    key = key_to_type(page)
    page.get_by_label("Code").fill(code(key))
    page.get_by_label("Your password").fill(PASSWORDS["boss"])
    page.get_by_role("button", name="Set up").click()
    codes = page.locator(".codes code").all_inner_texts()
    assert len(codes) == 10
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "rentomatic-recovery-codes.txt"
    file = download.value.path().read_text()
    assert [line for line in file.splitlines() if line in codes] == codes
    assert file.startswith("Recovery codes of boss, ")
    page.get_by_role("link", name="I have kept them").click()
    page.get_by_role("heading", name="Rooms for rent").wait_for()

    other = open_window("/admin/")
    type_password(other)
    other.get_by_label("Code").fill("00 00")
    other.get_by_role("button", name="Log in").click()
    assert "A code of the app has 6 digits" in other.get_by_role("alert").inner_text()
    other.get_by_label("Code").fill(codes[0])
    other.get_by_role("button", name="Log in").click()
    assert "You used a recovery code; 9 are left." in other.locator(".messagelist").inner_text()


def test_the_recovery_codes_are_printed_by_a_button(open_window, boss, codes):
    page = open_window("/admin/")
    page.add_init_script("window.print = () => { document.documentElement.dataset.printed = 'yes' }")
    type_password(page)
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Log in").click()
    page.goto("/admin/account/recovery-codes/")
    page.get_by_label("Code").fill(codes[1])
    page.get_by_role("button", name="Make new codes").click()
    page.get_by_role("button", name="Print").click()
    assert page.locator("html").get_attribute("data-printed") == "yes"
    page.emulate_media(media="print")
    assert page.locator(".codes li").count() == 10
    assert not page.get_by_role("link", name="Download").is_visible()


def test_the_codes_are_gone_after_going_on_and_back(open_window, boss, codes):
    page = open_window("/admin/account/recovery-codes/")
    type_password(page)
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Code").fill(codes[1])
    page.get_by_role("button", name="Make new codes").click()
    page.locator(".codes").wait_for()
    page.get_by_role("link", name="I have kept them").click()
    page.get_by_role("heading", name="Sessions").wait_for()
    page.evaluate("history.back()")
    page.wait_for_timeout(1000)
    assert page.locator(".codes").count() == 0


def test_the_back_button_shows_nothing_after_logging_out(open_window, boss):
    page = open_window("/admin/")
    type_password(page)
    page.get_by_role("link", name="Account").click()
    page.get_by_role("heading", name="Sessions").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Logged out").wait_for()
    page.go_back()
    page.get_by_label("Username").wait_for()
    assert page.get_by_role("heading", name="Sessions").count() == 0


def test_a_session_of_another_browser_is_ended_by_a_click(open_window, boss):
    other, page = open_window("/admin/"), open_window("/admin/")
    type_password(other)
    other.get_by_role("link", name="Account").wait_for()
    type_password(page)
    page.get_by_role("link", name="Account").click()
    page.get_by_role("button", name=re.compile("^End Chrome on Linux of 127.0.0.1")).click()
    assert "1 session ended." in page.locator(".messagelist").inner_text()
    other.reload()
    other.get_by_label("Username").wait_for()


def test_an_administrator_takes_away_a_second_factor_by_clicks(open_window, boss, editor):
    give_second_factor(editor)
    page = open_window(f"/admin/auth/user/{editor.pk}/change/")
    type_password(page)
    page.get_by_role("link", name="Take it away…").click()
    page.get_by_role("button", name="Take it away").click()
    assert "The second factor of ed is removed" in page.locator(".messagelist").inner_text()
    assert page.get_by_text("Not set up.").is_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_accessible_and_fit_the_screen(
    open_window, boss, editor, settings, width, scheme, tmp_path, request
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    settings.EMAIL_URL = "smtp://mail.example.com"
    codes = give_second_factor(boss)
    give_second_factor(editor)
    how = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True}
    page = open_window("/admin/password_reset/", **how)
    findings = []

    def look(name):
        found = axe.run(page, options={"preload": False}).response["violations"]
        findings.extend((name, finding["id"], finding["nodes"][0]["html"]) for finding in found)
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if overflow > 0:
            findings.append((name, "wider than the screen", overflow))
        page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png", full_page=True)

    look("reset")
    page.goto("/admin/password_reset/done/")
    look("reset-sent")
    page.goto("/admin/password_reset/x/y-z/")
    look("reset-invalid")
    page.goto("/admin/")
    look("login")
    type_password(page)
    look("code")
    page.get_by_label("Code").fill("12345")
    page.get_by_role("button", name="Log in").click()
    look("code-error")
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Account").wait_for()
    for name, path in {
        "account": ACCOUNT,
        "new-codes": "/admin/account/recovery-codes/",
        "remove": f"{SET_UP}remove/",
        "user": f"/admin/auth/user/{editor.pk}/change/",
        "users": "/admin/auth/user/",
        "take-away": f"/admin/auth/user/{editor.pk}/second-factor/",
    }.items():
        page.goto(path)
        look(name)
    page.goto("/admin/account/recovery-codes/")
    page.get_by_label("Code").fill(codes[1])
    page.get_by_role("button", name="Make new codes").click()
    look("codes")
    page.goto(f"{SET_UP}remove/")
    page.get_by_label("Code").fill(code())
    page.get_by_role("button", name="Remove").click()
    look("account-without")
    page.goto(SET_UP)
    look("set-up")
    page.get_by_label("Code").fill("123456")
    page.get_by_label("Your password").fill("wrong")
    page.get_by_role("button", name="Set up").click()
    look("set-up-error")
    assert findings == []
    assert User.objects.count() == 2
