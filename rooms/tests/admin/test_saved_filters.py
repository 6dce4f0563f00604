"""Filters of the list that are kept under a name."""

import pytest
from django.test import Client

from rooms.admin import saved_filters
from rooms.factories import RoomFactory
from rooms.models import SavedFilter
from rooms.tests.admin.pages import page_text

LIST = "/admin/rooms/room/"
SAVE = f"{LIST}filters/"
pytestmark = pytest.mark.django_db


def save(client, name="Cheap", query="price__lte=50&o=3&p=2", **fields):
    return client.post(SAVE, {"name": name, "query": query, **fields}, follow=True)


def links(client):
    """The saved filters that a list shows: names and queries."""
    return [(saved.name, saved.query) for saved in client.get(LIST).context["saved_filters"]]


def test_a_filter_is_saved_without_its_page_and_leads_to_its_rooms(as_editor):
    RoomFactory(price=90)
    room = RoomFactory(price=40)
    saved = save(as_editor)
    assert "Saved as “Cheap”." in page_text(saved)
    assert links(as_editor) == [("Cheap", "price__lte=50&o=3")]
    assert 'href="?price__lte=50&amp;o=3"' in saved.content.decode()
    assert list(as_editor.get(f"{LIST}?price__lte=50&o=3").context["cl"].result_list) == [room]


def test_the_same_name_replaces_a_filter(as_editor):
    save(as_editor)
    save(as_editor, query="q=66")
    assert links(as_editor) == [("Cheap", "q=66")]


def test_others_see_shared_filters_only_and_do_not_remove_them(as_editor, viewer, editor):
    save(as_editor, "Mine")
    save(as_editor, "Ours", shared="on")
    other = Client()
    other.force_login(viewer)
    assert [name for name, _ in links(other)] == ["Ours"]
    text = page_text(other.get(LIST))
    assert "Ours of ed" in text
    for saved in SavedFilter.objects.all():
        other.post(f"{SAVE}{saved.pk}/delete/")
    assert SavedFilter.objects.count() == 2
    save(other, "Ours", query="q=1")
    assert len(links(other)) == 2
    for saved in SavedFilter.objects.filter(user=editor):
        as_editor.post(f"{SAVE}{saved.pk}/delete/")
    assert links(as_editor) == []
    editor.delete()
    assert SavedFilter.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "x" * 61}, "at most 60 characters"),
        ({"name": "\0"}, "Null characters are not allowed."),
        ({"query": "p=3&nope=1"}, "The list has no filter, search or order to save."),
        ({"query": "price__lte="}, "The list has no filter, search or order to save."),
        ({"query": "q=" + "x" * 500}, "at most 500 characters"),
    ],
    ids=str,
)
def test_what_is_no_filter_is_not_saved(as_editor, fields, message):
    text = page_text(save(as_editor, **fields))
    assert "Not saved:" in text
    assert message in text
    assert not SavedFilter.objects.exists()


def test_a_user_has_a_limited_number_of_filters(as_editor, monkeypatch):
    monkeypatch.setattr(saved_filters, "MAX_SAVED", 2)
    for name in ("a", "b", "c"):
        last = save(as_editor, name)
    assert "Not saved: you have 2 filters." in page_text(last)
    save(as_editor, "b", query="q=1")
    assert links(as_editor) == [("a", "price__lte=50&o=3"), ("b", "q=1")]


def test_saving_takes_the_right_to_see_rooms_a_post_and_a_token(client, editor, django_user_model):
    cross_site = Client(enforce_csrf_checks=True)
    cross_site.force_login(editor)
    assert cross_site.post(SAVE, {"name": "x", "query": "q=1"}).status_code == 403
    client.force_login(editor)
    assert client.get(SAVE).status_code == 405
    assert client.post(f"{SAVE}{'9' * 30}/delete/").status_code == 302
    client.force_login(django_user_model.objects.create_user("temp", is_staff=True))
    assert client.post(SAVE, {"name": "x", "query": "q=1"}).status_code == 403
    assert not SavedFilter.objects.exists()


def test_a_name_is_shown_as_text(as_editor):
    content = save(as_editor, "<b>'\"&").content.decode()
    assert "<b>'" not in content
    assert "&lt;b&gt;" in content
