"""Users of the admin, and clients that are logged in."""

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client


@pytest.fixture
def editor(db):
    """A user who may add, change, import and export rooms."""
    user = User.objects.create_user("ed", password="ed-the-editor", is_staff=True)
    user.groups.add(Group.objects.get(name="Room editors"))
    return user


@pytest.fixture
def viewer(db):
    """A user who may view and export rooms."""
    user = User.objects.create_user("vera", password="vera-the-viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="Room viewers"))
    return user


@pytest.fixture
def boss(db):
    """A superuser."""
    return User.objects.create_superuser("boss", password="boss-of-rooms")


@pytest.fixture
def as_editor(client, editor):
    client.force_login(editor)
    return client


@pytest.fixture
def django_capture_queries():
    """A context manager whose value is the list of queries made inside, once it is left."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    return lambda: CaptureQueriesContext(connection)


@pytest.fixture
def open_page(open_window, live_server, boss):
    """Open a window of the admin for a user who is logged in; `open_page(path, **how)`."""

    def run(path, user=boss, **how):
        if not user:
            return open_window(path, **how)
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}
        return open_window(path, cookies=[cookie], **how)

    return run
