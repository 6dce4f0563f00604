"""Permissions and logins of the admin, and the security headers of its pages."""

import re

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text

LIST = "/admin/rooms/room/"
LOGIN = "/admin/login/"
SEEN = {"activity", "jobs", "map", "map image"}


@pytest.fixture
def room(db):
    return RoomFactory(price=39)


@pytest.fixture
def urls(room):
    return {
        "list": LIST,
        "add": f"{LIST}add/",
        "change": f"{LIST}{room.pk}/change/",
        "delete": f"{LIST}{room.pk}/delete/",
        "history": f"{LIST}{room.pk}/history/",
        "import": f"{LIST}import/",
        "export": f"{LIST}export/",
        "activity": f"{LIST}activity/",
        "jobs": f"{LIST}jobs/",
        "map": f"{LIST}map/?zoom=3",
        "map image": f"{LIST}map.svg",
    }


@pytest.mark.parametrize(
    ("group", "allowed"),
    [
        ("Room editors", {"list", "add", "change", "history", "import", "export", *SEEN}),
        ("Room viewers", {"list", "change", "history", "export", *SEEN}),
        (None, set()),
    ],
)
@pytest.mark.django_db
def test_each_group_can_open_its_pages_only(client, urls, group, allowed):
    user = User.objects.create_user("someone", password="x", is_staff=True)
    if group:
        user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    got = {name for name, url in urls.items() if client.get(url).status_code == 200}
    assert got == allowed
    others = [client.get(url).status_code for name, url in urls.items() if name not in got]
    assert others == [403] * len(others)


@pytest.mark.django_db
@pytest.mark.parametrize("staff", [False, None])
def test_users_who_are_not_staff_are_redirected_to_the_login(client, urls, staff):
    if staff is False:
        client.force_login(User.objects.create_user("customer"))
    for url in ["/admin/", *urls.values()]:
        response = client.get(url)
        assert response.status_code == 302
        assert response["Location"].startswith(LOGIN)


@pytest.mark.django_db
@pytest.mark.parametrize("group", ["Room viewers", None])
def test_changes_without_the_permission_are_403(client, room, urls, group):
    user = User.objects.create_user("someone", password="x", is_staff=True)
    if group:
        user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    fields = {"code": room.code, "price": 1, "latitude": 1, "longitude": 1, "loaded_version": 1}
    file = SimpleUploadedFile("rooms.csv", b"code,size,price,latitude,longitude\n")
    assert client.post(urls["change"], fields).status_code == 403
    assert client.post(urls["add"], fields).status_code == 403
    assert client.post(urls["delete"], {"post": "yes"}).status_code == 403
    assert client.post(urls["import"], {"import_file": file, "format": "0"}).status_code == 403
    assert client.post(f"{LIST}process_import/", {"format": "0"}).status_code == 403
    for action in ("change_prices", "delete_selected"):
        client.post(LIST, {"action": action, "_selected_action": room.pk, "confirm": "yes", "change": 5})
    assert list(Room.objects.values_list("pk", "price", "version")) == [(room.pk, 39, 1)]


@pytest.mark.django_db
def test_what_is_forbidden_or_missing_in_the_admin_is_a_page_of_the_admin(client, viewer, room, urls):
    client.force_login(viewer)
    pages = [client.get(url, HTTP_ACCEPT="text/html") for url in (urls["add"], "/admin/nope/")]
    assert [page.status_code for page in pages] == [403, 404]
    for page in pages:
        content = page.content.decode()
        assert 'id="logout-form"' in content
        assert f'href="{LIST}"' in content
    assert "doesn't have the right" in page_text(pages[0])
    assert client.get(urls["add"]).json()["status"] == 403
    assert "logout-form" not in client.get("/nope", HTTP_ACCEPT="text/html").content.decode()


@pytest.mark.django_db
def test_a_forbidden_page_links_to_no_rooms_that_its_reader_may_not_see(client, urls):
    client.force_login(User.objects.create_user("someone", is_staff=True))
    page = client.get(urls["list"], HTTP_ACCEPT="text/html")
    assert page.status_code == 403
    assert f'href="{LIST}"' not in page.content.decode()


@pytest.mark.django_db
def test_an_editor_changes_but_does_not_delete(as_editor, boss, room):
    text = page_text(as_editor.get(LIST))
    assert "Change prices…" in text
    assert "Delete" not in text
    form = {"action": "delete_selected", "_selected_action": room.pk}
    as_boss = Client()
    as_boss.force_login(boss)
    confirmed = form | {"confirm": "yes", "fingerprint": as_boss.post(LIST, form).context["fingerprint"]}
    as_editor.post(LIST, confirmed)
    assert Room.objects.count() == 1
    as_boss.post(LIST, confirmed)
    assert Room.objects.count() == 0


@pytest.mark.django_db
def test_a_viewer_does_not_change_prices_that_an_editor_has_previewed(as_editor, viewer, room):
    form = {"action": "change_prices", "_selected_action": room.pk, "change": "5", "unit": "euros"}
    shown = as_editor.post(LIST, form | {"preview": "yes"})
    confirmed = form | {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    as_viewer = Client()
    as_viewer.force_login(viewer)
    as_viewer.post(LIST, confirmed)
    assert Room.objects.get().price == 39
    as_editor.post(LIST, confirmed)
    assert Room.objects.get().price == 44


@pytest.mark.django_db
def test_a_viewer_sees_a_room_with_its_map_and_nothing_to_save(client, viewer, room, urls):
    client.force_login(viewer)
    content = client.get(urls["change"]).content.decode()
    assert f'data-place="{room.latitude}, {room.longitude}"' in content
    assert 'name="_save"' not in content
    assert "Change prices" not in page_text(client.get(LIST))
    assert "Export as CSV" in page_text(client.get(LIST))


# --- Logging in


def log_in(client, username="boss", right=False, **headers):
    password = "boss-of-rooms" if right else "wrong"
    return client.post(LOGIN, {"username": username, "password": password}, **headers)


@pytest.mark.django_db
def test_logging_in_leads_to_the_admin_and_never_to_another_site(client, boss):
    for target in ("", "//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil.example"):
        response = client.post(LOGIN, {"username": "boss", "password": "boss-of-rooms", "next": target})
        assert response.status_code == 302
        assert response["Location"] == "/admin/"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "username", ["", "\0", "x" * 5000, "boss\0", "\u202eboss", "'; DROP TABLE room; --", "%00"]
)
def test_odd_names_at_the_login_are_form_errors(client, username):
    assert log_in(client, username=username).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("cookie", ["\\000aaaa", "x" * 4000, '"', "aaaa\\012", "é"])
@pytest.mark.parametrize("name", ["sessionid", "csrftoken", "messages"])
def test_odd_cookies_are_no_error_of_ours(client, name, cookie):
    response = client.get("/admin/", HTTP_COOKIE=f'{name}="{cookie}"'.encode().decode("latin-1"))
    assert response.status_code in (302, 400)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        "price__gte=%00",
        "q=%00",
        "q=%FF%FE",
        "q=%ED%A0%80",
        "changed=%F0%9F%98%80",
        "size__isnull=x",
        "code__exact=x",
        "price=abc",
        "id__in=x",
        "code__regex=(",
        "version__gte=99999999999999999999",
        "nope=1",
        "user__password=x",
        "_connector=OR",
        "_popup=1&_to_field=x",
        "p=" + "9" * 5000,
        "e=1",
        "o=1.1.1.-1.x",
        "bbox=%ED%A0%80",
        "bbox=" + ",".join("9" * 5000 for _ in range(4)),
        "bbox=" + "1," * 3000,
        "bbox=-1e-300,-1e-300,1e-300,1e-300",
        "near=180.00000000001,90&within=99999999999999999999",
        "near=180,90&within=20015115&bbox=180,90,180,90",
        "map=" + "9" * 5000,
        "map=1/1e400/nan",
        "map=fit&near=-180,-90&within=1",
    ],
)
def test_odd_queries_of_the_list_are_never_an_error_of_ours(as_editor, room, query):
    assert as_editor.get(f"{LIST}?{query}", follow=True).status_code in (200, 400)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers", [{}, {"HTTP_ORIGIN": "https://evil.example"}, {"HTTP_REFERER": "https://evil.example/"}]
)
def test_a_cross_site_form_is_rejected_with_a_page(boss, headers):
    client = Client(enforce_csrf_checks=True)
    response = client.post(
        LOGIN, {"username": "boss", "password": "boss-of-rooms"}, HTTP_ACCEPT="text/html", **headers
    )
    assert response.status_code == 403
    assert "reload the page and send it again" in page_text(response)
    assert "<style" not in response.content.decode()
    assert "_auth_user_id" not in client.session


@pytest.mark.django_db
def test_the_session_lasts_a_working_day_with_an_httponly_cookie(client, boss):
    log_in(client, right=True)
    cookie = client.cookies["sessionid"]
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (36000, True, "Lax")


# --- Security headers


@pytest.mark.django_db
def test_every_page_forbids_inline_and_external_content(client, boss, urls):
    pages = [client.get(LOGIN)]
    client.force_login(boss)
    asked = [client.get(url) for url in ["/admin/", "/admin/password_change/", *urls.values()]]
    pages += [page for page in asked if page["Content-Type"].startswith("text/html")]
    for page in pages:
        policy = page["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        content = page.content.decode()
        assert not re.search(r"<style|<script(?![^>]* src=)|\son[a-z]+=|\sstyle=", content)


@pytest.mark.django_db
def test_admin_pages_are_not_cached(as_editor, urls):
    assert "no-store" in as_editor.get(urls["change"])["Cache-Control"]
