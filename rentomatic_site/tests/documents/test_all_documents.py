"""What holds for every document: lines that can be read, links that lead somewhere, commands that exist."""

import re
import subprocess

import pytest
from django.core.management import get_commands, load_command_class

from rentomatic_site.testing.documents import DOCUMENTS, PROJECT, Document

OURS = sorted(
    name for name, app in get_commands().items() if app.partition(".")[0] in {"rentomatic_site", "rooms"}
)
"""The project's own management commands."""
TEXTS = {document.name: document.text for document in DOCUMENTS}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


@each_document
def test_lines_are_150_characters_at_most_and_200_in_tables(document: Document) -> None:
    long = [
        number
        for number, line in enumerate(document.text.splitlines(), 1)
        if len(line) > (200 if line.startswith("|") else 150)
    ]
    assert long == []


@each_document
def test_links_lead_to_files_and_headings_that_exist(document: Document) -> None:
    broken = []
    for link in document.links:
        name, _, anchor = link.partition("#")
        target = (document.path.parent / name).resolve() if name else document.path
        headings = Document(str(target.relative_to(PROJECT))).anchors if anchor else set()
        if not target.exists() or (anchor and anchor not in headings):
            broken.append(link)
    assert broken == []


@each_document
def test_commands_to_type_are_valid_for_a_shell(document: Document) -> None:
    for block in document.blocks():
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (block, done.stderr) == (block, "")


def offered(name: str) -> set[str]:
    """The options of a management command."""
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    # A command with actions, such as `scenario save`, has a parser for each.
    choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    parsers = [parser, *(one for actions in choices for one in actions.values())]
    return {option for one in parsers for option in re.findall(r"--[a-z][a-z-]+", one.format_help())}


@each_document
def test_management_commands_and_their_options_exist(document: Document) -> None:
    named = re.findall(r"\./manage\.py ([a-z_]+)([^`\n|]*)", document.text)
    named += re.findall(rf"`({'|'.join(OURS)})\b([^`]*)`", document.prose)
    wrong = [
        (name, options)
        for name, options in named
        if name != "help"
        and (
            name not in get_commands()
            or not set(re.findall(r"(?<=\s)--[a-z][a-z-]+", options)) <= offered(name)
        )
    ]
    assert wrong == []


@each_document
def test_make_targets_exist(document: Document) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make ([a-z-]+)", document.prose)
    named += re.findall(r"^make ([a-z-]+)", "\n".join(document.lines_to_type), re.MULTILINE)
    assert set(named) <= targets


@each_document
def test_source_files_that_are_named_exist(document: Document) -> None:
    named = re.findall(r"`((?:rooms|rentomatic_site|requirements|deploy)/[\w/.-]+\.\w+)`", document.prose)
    named += re.findall(r"\./((?:deploy|requirements)/[\w/]+)", document.text)
    ours = [name for name in named if not re.match(r"deploy/(secrets|certificates|backups)", name)]
    assert [name for name in ours if not (PROJECT / name).exists()] == []


@pytest.mark.parametrize("name", OURS)
def test_management_command_is_written_down(name: str) -> None:
    assert [document for document, text in TEXTS.items() if re.search(rf"[`/ ]{name}\b", text)]


@pytest.mark.parametrize("name", OURS)
def test_management_command_has_help(name: str) -> None:
    assert len(load_command_class(get_commands()[name], name).help.split()) >= 5


def test_pictures_are_shown_with_words_for_those_who_do_not_see_them() -> None:
    shown = {
        (document.path.parent / link).resolve(): text
        for document in DOCUMENTS
        for text, link in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", document.prose)
    }
    assert set(shown) == set((PROJECT / "docs" / "images").iterdir())
    assert all(len(text.split()) >= 4 for text in shown.values())
