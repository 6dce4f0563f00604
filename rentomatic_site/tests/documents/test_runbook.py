"""docs/runbook.md: it fits a terminal; its messages, services and statements are real."""

import re
from functools import cache

import pytest
import yaml
from django.db import connection

from rentomatic_site.testing.documents import PROJECT, Document

RUNBOOK = Document("docs/runbook.md")
FILES = [PROJECT / "compose.yml", PROJECT / "deploy/compose.pooler.yml"]
SERVICES = {name for file in FILES for name in yaml.safe_load(file.read_text())["services"]}
HEADINGS = re.findall(r"^## .*$", RUNBOOK.text, re.MULTILINE)
MESSAGES = [line for block in RUNBOOK.blocks("text") for line in block.splitlines()]
STATEMENTS = re.findall(r'psql -U postgres -c "\s*([^"]*)"', RUNBOOK.text)


@cache
def sources() -> str:
    """The project's programs and templates, in which strings that are split over lines are one."""
    files = [*PROJECT.glob("r*/**/*.py"), *PROJECT.glob("r*/**/*.html"), *PROJECT.glob("deploy/**/*")]
    left_out = {"tests", "__pycache__"}
    texts = [file.read_text() for file in files if file.is_file() and not left_out & set(file.parts)]
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", "\n".join(texts))


def test_lines_fit_a_terminal() -> None:
    assert [line for line in RUNBOOK.text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("heading", HEADINGS)
def test_entry_says_what_is_seen_what_it_is_and_what_to_type(heading: str) -> None:
    entry = RUNBOOK.section(heading)
    parts = [entry.index(part) for part in ("**You see**", "**It is**")]
    assert parts == sorted(parts)
    assert "```\n" in entry or "**Type** nothing" in entry


def test_every_entry_is_in_the_table_at_the_top() -> None:
    top = RUNBOOK.text[: RUNBOOK.text.index("\n## ")]
    linked = set(re.findall(r"\(#([^)]+)\)", top))
    assert linked == RUNBOOK.anchors - {"runbook"}


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_one_of_the_projects(message: str) -> None:
    parts = [part.strip() for part in message.split("…") if len(part.strip()) > 3]
    assert parts
    assert [part for part in parts if part not in sources()] == []


def test_services_exist() -> None:
    named = re.findall(r"docker compose (?:exec|run) (?:-T |--rm )*(\w+)", RUNBOOK.text)
    named += re.findall(r"docker compose (?:restart|kill -s HUP) (\w+)", RUNBOOK.text)
    assert set(named) == {"db", "web", "migrate", "pooler"} <= SERVICES


@pytest.mark.django_db
@pytest.mark.parametrize("statement", STATEMENTS)
def test_statement_runs(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement.replace("PID", "0").replace("%", "%%"))
        assert cursor.description
