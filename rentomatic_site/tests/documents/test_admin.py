"""docs/admin.md: its commands, filters and groups exist, and its pictures can be taken again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import Group

from rentomatic_site.testing.documents import PROJECT, Document
from rentomatic_site.testing.plugin import Manage
from rooms.admin import RoomAdmin

ADMIN = Document("docs/admin.md")


@pytest.mark.django_db(transaction=True)
def test_its_file_is_imported_as_it_is_shown(tmp_path: Path, manage: Manage) -> None:
    (file,) = ADMIN.blocks("csv")
    (tmp_path / "rooms.csv").write_text(file)
    assert len(ADMIN.commands) == 3
    for command in ADMIN.commands:
        arguments = command.line.replace("rooms.csv", str(tmp_path / "rooms.csv")).split()
        done = manage(*arguments[1:])
        assert command.matches(done.stdout), done.stdout + done.stderr


def test_every_filter_of_the_list_is_there() -> None:
    rows = ADMIN.rows("## The list")
    written = [name for row in rows for name in re.findall(r"`(\w+)`", row[2])]
    offered = [
        getattr(filter_, "names", None) or (filter_.parameter_name,) for filter_ in RoomAdmin.list_filter
    ]
    assert written == [name for names in offered for name in names]


@pytest.mark.django_db
def test_every_group_is_there_with_what_it_may_do() -> None:
    verbs = {"view": "see"}
    for group in Group.objects.all():
        (row,) = [row for row in ADMIN.rows("## Rights") if row[0] == f"*{group.name}*"]
        may = {name.partition("_")[0] for name in group.permissions.values_list("codename", flat=True)}
        assert {verbs.get(verb, verb) for verb in may} == set(re.findall(r"\w+", row[1])) - {"and", "rooms"}


@pytest.mark.needs("chromium")
def test_pictures_can_be_taken_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/screenshots.py", tmp_path],
        cwd=PROJECT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    taken = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(taken) == {path.name for path in (PROJECT / "docs" / "images").iterdir()}
    assert all(5_000 < size <= 60_000 for size in taken.values()), taken
