"""docs/architecture.md: its drawings name what exists, and each dependency has its reason."""

import re

import pytest
from django.db import connection

from rentomatic_site.testing.documents import PROJECT, Document
from rooms.models import Room

ARCHITECTURE = Document("docs/architecture.md")
PACKAGES = sorted(
    {
        package
        for file in (PROJECT / "requirements").glob("*.in")
        for package in re.findall(r"^([A-Za-z][\w.-]+)", file.read_text(), re.MULTILINE)
    }
)


def test_processes_and_requests_are_drawn() -> None:
    processes, request = ARCHITECTURE.blocks("mermaid")
    assert processes.startswith("flowchart")
    assert request.startswith("sequenceDiagram")


def test_folders_exist() -> None:
    (map_,) = ARCHITECTURE.blocks("text")
    folder, missing = PROJECT, []
    for indent, name in re.findall(r"^( *)(\w+)/ ", map_, re.MULTILINE):
        path = folder / name if indent else PROJECT / name
        folder = folder if indent else path
        missing += [] if path.is_dir() else [path]
    assert missing == []


def test_modules_on_the_way_of_a_request_exist() -> None:
    way = re.findall(r"`(api/\w+)`", ARCHITECTURE.section("## The way of a request"))
    assert len(way) == 9
    assert [name for name in way if not (PROJECT / "rooms" / f"{name}.py").exists()] == []


@pytest.mark.django_db
def test_the_statement_of_the_book_works() -> None:
    (statement,) = ARCHITECTURE.blocks("sql")
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert Room.objects.get().price == 39


@pytest.mark.parametrize("package", PACKAGES)
def test_dependency_has_its_reason(package: str) -> None:
    rows = ARCHITECTURE.rows("### Libraries outside the domain")
    named = {name.strip().lower() for row in rows for name in row[0].split(",")}
    assert package.lower() in named, f"{package}: why is it here?"
