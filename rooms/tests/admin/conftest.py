"""Who works in the admin, and a browser to do it with."""

import pytest
from django.contrib.auth.models import Group, User


@pytest.fixture
def editor(db):
    """Somebody who adds, changes, imports and exports rooms."""
    user = User.objects.create_user("ed", password="ed-the-editor", is_staff=True)
    user.groups.add(Group.objects.get(name="Room editors"))
    return user


@pytest.fixture
def viewer(db):
    """Somebody who sees and exports rooms."""
    user = User.objects.create_user("vera", password="vera-the-viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="Room viewers"))
    return user


@pytest.fixture
def boss(db):
    """Somebody who may do everything."""
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
