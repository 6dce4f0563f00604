"""`.env`, read as Compose reads it, and changed in one step."""

import os

import pytest

from deploy.operations.environment import changed, parse, replace


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=rooms", "rooms"),
        ("NAME = rooms ", "rooms"),
        ("export NAME=rooms", "rooms"),
        ("NAME='rooms # no comment'", "rooms # no comment"),
        ('NAME="rooms"', "rooms"),
        ('NAME="two \\"words\\"" # comment', 'two "words"'),
        ("NAME=rooms # the database", "rooms"),
        ("NAME=rooms#1", "rooms#1"),
        ("NAME=# nothing", ""),
        ("NAME=", ""),
        ("NAME='it''s'", "it"),
    ],
)
def test_quotes_and_comments_are_no_part_of_a_value(line, value):
    assert parse(f"OTHER=1\n{line}\n")["NAME"] == value


def test_comments_are_no_variables_and_the_last_of_two_counts():
    assert parse("#NAME=1\nNAME=2\nNAME=3\n") == {"NAME": "3"}


def test_a_changed_value_keeps_its_place_and_the_comments():
    text = "# first\nNAME=1\nOTHER=2\nNAME=3\n"
    assert changed(text, "NAME", "4") == "# first\nNAME=4\nOTHER=2\n"
    assert changed(text, "NEW", "4") == text + "NEW=4\n"
    assert changed(text, "NAME", None) == "# first\nOTHER=2\n"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_replaced_file_keeps_its_mode(tmp_path, umask):
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o640)
    before = os.umask(umask)
    try:
        replace(file, "new")
    finally:
        os.umask(before)
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["secret"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    """As a container that has it mounted."""
    file = tmp_path / "secret"
    file.write_text("old")
    with file.open() as mounted:
        replace(file, "new")
        assert mounted.read() == "old"
