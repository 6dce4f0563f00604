"""Setting up, replacing and losing a second factor; who has to have one."""

import io
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts.models import RecoveryCode, Session
from rentomatic_site.accounts.tests.conftest import (
    ACCOUNT,
    CODE,
    KEY,
    LOGIN,
    PASSWORDS,
    SET_UP,
    code,
    give_password,
    give_second_factor,
    is_logged_in,
    log_in,
    wrong_code,
)
from rooms.tests.admin.pages import page_text

pytestmark = pytest.mark.django_db


def shown_key(page):
    """The signed key of the form, and the key to type as hexadecimal digits."""
    from base64 import b32decode

    content = page.content.decode()
    typed = re.search(r'<code class="app-key">([A-Z2-7 ]+)</code>', content)[1]
    return re.search(r'name="key" value="([^"]+)"', content)[1], b32decode(typed.replace(" ", "")).hex()


def set_up(client, user, **changes):
    """The response to the form, filled in rightly but for the changes."""
    signed, key = shown_key(client.get(SET_UP))
    form = {"key": signed, "token": code(key), "password": PASSWORDS[user.username]}
    return client.post(SET_UP, form | changes)


def codes_on(page):
    return re.findall(r"<code>([a-z2-7 ]{19})</code>", page.content.decode())


def test_setting_up_shows_ten_codes_once_and_asks_for_the_next_login(boss):
    client = log_in(boss)
    done = set_up(client, boss)
    codes = codes_on(done)
    assert len(set(codes)) == 10
    assert "no-store" in done["Cache-Control"]
    assert codes_on(client.get(ACCOUNT)) == []
    assert client.get(SET_UP)["Location"] == ACCOUNT
    key = TOTPDevice.objects.get().key
    assert key not in client.get(ACCOUNT).content.decode()
    other = Client()
    give_password(other, boss)
    assert not is_logged_in(other)
    other.post(CODE, {"token": codes[9]})
    assert is_logged_in(other)


def test_the_first_code_of_a_set_up_is_used(boss):
    client = log_in(boss)
    signed, key = shown_key(client.get(SET_UP))
    token = code(key)
    client.post(SET_UP, {"key": signed, "token": token, "password": PASSWORDS["boss"]})
    other = Client()
    give_password(other, boss)
    other.post(CODE, {"token": token})
    assert not is_logged_in(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": "wrong"}, "This is not your password."),
        ({"token": ""}, "This field is required."),
        ({"token": "12345"}, "A code of the app has 6 digits."),
        ({"token": "aaaa bbbb cccc dddd"}, "A code of the app has 6 digits."),
        ({"key": "x"}, "This page is too old."),
    ],
    ids=str,
)
def test_a_set_up_that_is_filled_in_wrongly_changes_nothing(boss, changes, message):
    client = log_in(boss)
    page = set_up(client, boss, **changes)
    assert message in page_text(page)
    assert TOTPDevice.objects.count() == RecoveryCode.objects.count() == 0
    signed, key = shown_key(page)
    client.post(SET_UP, {"key": signed, "token": code(key), "password": PASSWORDS["boss"]})
    assert TOTPDevice.objects.get().key == key


def test_a_wrong_first_code_keeps_the_key_that_was_scanned(boss):
    client = log_in(boss)
    signed, key = shown_key(client.get(SET_UP))
    page = client.post(SET_UP, {"key": signed, "token": wrong_code(key), "password": PASSWORDS["boss"]})
    assert "Is the clock of the phone right?" in page_text(page)
    assert shown_key(page) == (signed, key)
    assert TOTPDevice.objects.count() == 0


def test_the_key_of_somebody_elses_page_is_refused(boss, editor):
    signed, key = shown_key(log_in(editor).get(SET_UP))
    page = set_up(log_in(boss), boss, key=signed, token=code(key))
    assert "This page is too old." in page_text(page)


def test_wrong_passwords_at_the_set_up_are_throttled(boss, clock):
    client = log_in(boss)
    assert [set_up(client, boss, password="wrong").status_code for _ in range(6)] == [200] * 5 + [429]


def test_setting_up_ends_the_other_sessions_and_is_in_the_history(boss):
    other, client = log_in(boss), log_in(boss)
    before = client.session.session_key
    set_up(client, boss)
    assert is_logged_in(client)
    assert client.session.session_key != before
    assert not is_logged_in(other)
    assert "Second factor set up, from 127.0.0.1." in page_text(client.get(ACCOUNT))


def test_the_qr_code_is_in_the_page_without_styles(boss):
    content = log_in(boss).get(SET_UP).content.decode()
    svg = re.search(r"<svg[^>]*viewBox.*?</svg>", content, re.DOTALL)[0]
    assert "style" not in svg
    assert "http" not in svg
    assert "<path" in svg


# --- Who has to have one


@pytest.mark.parametrize(
    ("setting", "asked"),
    [
        ("optional", set()),
        ("privileged", {"boss", "deleter", "manager", "granter"}),
        ("staff", {"boss", "deleter", "manager", "granter", "vera", "ed"}),
    ],
)
def test_the_setting_says_who_has_to_have_a_second_factor(settings, boss, viewer, editor, setting, asked):
    settings.SECOND_FACTOR = setting
    for name, right in [("deleter", "delete_room"), ("manager", "change_user"), ("granter", "change_group")]:
        group = Group.objects.create(name=f"{name}s")
        group.permissions.add(Permission.objects.get(codename=right))
        User.objects.create_user(name, is_staff=True).groups.add(group)
    found = set()
    for user in User.objects.all():
        client = Client()
        client.force_login(user)
        if client.get("/admin/").status_code == 302:
            found.add(user.username)
    assert found == asked


def test_until_it_is_set_up_every_page_leads_to_the_set_up(settings, boss):
    settings.SECOND_FACTOR = "privileged"
    client = log_in(boss)
    room_list = "/admin/rooms/room/"
    assert client.get(f"{room_list}?o=3")["Location"] == f"{SET_UP}?next=%2Fadmin%2Frooms%2Froom%2F%3Fo%3D3"
    for path in (f"{room_list}add/", f"{room_list}import/", f"{room_list}export/", "/admin/auth/user/add/"):
        assert client.get(path)["Location"].startswith(SET_UP), path
        assert client.post(path, {"username": "new"})["Location"].startswith(SET_UP), path
    assert User.objects.count() == 1
    page = set_up(client, boss, next=f"{room_list}?o=3")
    assert f'href="{room_list}?o=3"' in page.content.decode()
    assert client.get(room_list).status_code == 200


def test_a_session_without_a_code_is_asked_for_one_where_it_is_required(settings, boss, codes):
    settings.SECOND_FACTOR = "privileged"
    client = Client()
    client.force_login(boss)
    assert client.get("/admin/")["Location"] == f"{CODE}?next=%2Fadmin%2F"
    for path in (ACCOUNT, SET_UP, f"{SET_UP}remove/", "/admin/account/recovery-codes/"):
        assert client.post(path, {"token": code()})["Location"].startswith(CODE), path
    assert client.post(f"{CODE}?next=/admin/", {"token": code()})["Location"] == "/admin/"
    assert is_logged_in(client)


def test_who_must_set_up_a_second_factor_may_log_out(settings, boss):
    settings.SECOND_FACTOR = "privileged"
    client = log_in(boss)
    assert client.post("/admin/logout/").status_code == 200
    assert "_auth_user_id" not in client.session


# --- Removing it


def test_removing_takes_a_code_and_ends_the_other_sessions(boss, codes):
    client, other = log_in(boss, codes[0]), log_in(boss, codes[1])
    assert client.post(f"{SET_UP}remove/", {"token": wrong_code()}).status_code == 200
    assert TOTPDevice.objects.count() == 1
    page = client.post(f"{SET_UP}remove/", {"token": codes[2]}, follow=True)
    assert "Your second factor is removed" in page_text(page)
    assert (TOTPDevice.objects.count(), RecoveryCode.objects.count()) == (0, 0)
    assert "Second factor removed, from 127.0.0.1." in page_text(page)
    assert not is_logged_in(other)


def test_new_recovery_codes_take_a_code_and_void_the_former_ones(boss, codes):
    client = log_in(boss, codes[0])
    path = "/admin/account/recovery-codes/"
    assert codes_on(client.get(path)) == []
    assert codes_on(client.post(path, {"token": wrong_code()})) == []
    assert codes_on(client.post(path, {"token": codes[0]})) == []  # it is used
    new = codes_on(client.post(path, {"token": codes[1]}))
    assert len(set(new)) == 10
    assert not set(new) & set(codes)
    other = Client()
    give_password(other, boss)
    other.post(CODE, {"token": codes[2]})
    assert not is_logged_in(other)
    assert "New recovery codes made" in page_text(client.get(ACCOUNT))


def take_away(client, user):
    return client.post(f"/admin/auth/user/{user.pk}/second-factor/", follow=True)


def test_an_administrator_takes_it_away_from_who_has_lost_it(boss, editor):
    give_second_factor(editor)
    client, theirs = log_in(boss), log_in(editor, code())
    person = client.get(f"/admin/auth/user/{editor.pk}/change/")
    assert f'href="/admin/auth/user/{editor.pk}/second-factor/"' in person.content.decode()
    assert "Be sure who asks you" in page_text(client.get(f"/admin/auth/user/{editor.pk}/second-factor/"))
    assert TOTPDevice.objects.count() == 1
    assert "The second factor of ed is removed, and their sessions have ended." in page_text(
        take_away(client, editor)
    )
    assert (TOTPDevice.objects.count(), RecoveryCode.objects.count()) == (0, 0)
    assert not is_logged_in(theirs)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (boss, str(editor.pk))
    assert entry.change_message == "Second factor removed by an administrator, from 127.0.0.1."
    assert entry.change_message in page_text(client.get(f"/admin/auth/user/{editor.pk}/history/"))
    assert "There was no second factor of ed." in page_text(take_away(client, editor))


def test_only_superusers_take_it_away_from_superusers(boss, editor, viewer, codes):
    editor.user_permissions.add(Permission.objects.get(codename="change_user"))
    give_second_factor(viewer, key="aa" * 20)
    client = log_in(editor)
    assert take_away(client, boss).status_code == 403
    assert take_away(client, viewer).status_code == 200
    assert TOTPDevice.objects.get().user == boss
    assert take_away(log_in(viewer), editor).status_code == 403


def test_ones_own_is_removed_by_a_code_only(boss, codes):
    client = log_in(boss, codes[0])
    assert take_away(client, boss).redirect_chain[-1] == (f"{SET_UP}remove/", 302)
    assert TOTPDevice.objects.count() == 1


def test_the_list_of_users_shows_who_has_a_second_factor(boss, editor, codes):
    page = log_in(boss, codes[0]).get("/admin/auth/user/?o=1").content.decode()
    marks = re.findall(r'field-has_second_factor"><img[^>]*alt="(\w+)"', page)
    assert marks == ["True", "False"]


def test_keys_of_apps_are_not_in_the_admin(boss, codes):
    client = log_in(boss, codes[0])
    assert client.get("/admin/otp_totp/totpdevice/").status_code == 404
    assert KEY not in client.get(f"/admin/auth/user/{boss.pk}/change/").content.decode()


def test_the_command_removes_it_and_leaves_the_password(boss, codes):
    theirs = log_in(boss, codes[0])
    out = io.StringIO()
    call_command("remove_second_factor", "boss", stdout=out)
    assert out.getvalue() == "The second factor of boss is removed, and the user's sessions have ended.\n"
    assert not is_logged_in(theirs)
    assert Session.objects.filter(user=boss).count() == 0
    again = io.StringIO()
    call_command("remove_second_factor", "boss", stdout=again)
    assert again.getvalue() == "boss has no second factor; nothing was changed.\n"
    client = log_in(boss)
    assert "Second factor removed by ./manage.py remove_second_factor." in page_text(client.get(ACCOUNT))
    assert client.get(LOGIN)["Location"] == "/admin/"


def test_the_command_names_the_next_step_for_an_unknown_name():
    with pytest.raises(CommandError, match=r"No user is named 'bos'. Next: "):
        call_command("remove_second_factor", "bos")
