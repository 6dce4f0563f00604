"""Users of the admin, and clients that are logged in."""

import pytest
from django.contrib.auth.models import Group, User


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
