"""The README's section on scenarios is true: its example, its words, its options, and the files that ship."""

import re

import pytest
from django.core.management import load_command_class

from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.plugin import PROJECT
from rooms import seeding

README = (PROJECT / "README.md").read_text()
SECTION = README[README.index("\n## Scenarios") : README.index("\n## The admin")]
EXAMPLE, EXPECT, CHECK = re.findall(r"^```python\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)


def test_the_worked_example_works_step_by_step(workshop: Workshop) -> None:
    def load(source: str) -> tuple[int, str]:
        workshop.write("cheap_rooms", source)
        done = workshop.load("cheap_rooms", "--as", "t_cheap_rooms")
        return done.returncode, done.stdout

    try:
        status, output = load(EXAMPLE)
        assert status == 0
        assert "; 3 rooms, 8." in output
        status, output = load(EXAMPLE + EXPECT)
        assert status == 1
        cross = "✗ filter_price__lt=66 → 3 rooms: found 2 rooms"
        assert cross in output
        assert cross in SECTION
        status, output = load(EXAMPLE + EXPECT.replace("3}", "2}") + CHECK)
        assert status == 0
        assert "✓ filter_price__lt=66 → 2 rooms\n  ✓ check(client)" in output
        assert "stale" not in output
    finally:
        workshop.call("drop_scenario", "t_cheap_rooms")
        workshop.call("drop_scenario", "cheap_rooms")


@pytest.mark.parametrize(
    "word", sorted(set(re.findall(r"\b([A-Za-z_]+)\((?!client)", SECTION)) - {"run", "get"})
)
def test_each_word_for_filling_exists(word: str) -> None:
    assert word in {"check", "json", "coalesce"} or callable(getattr(seeding, word))


def test_each_option_exists() -> None:
    table = SECTION[SECTION.index("### Using") : SECTION.index("### How it works")]
    commands = ("load_scenario", "drop_scenario", "query_lab", "capture_scenario")
    parsers = [
        load_command_class("rentomatic_site", name).create_parser("manage.py", name) for name in commands
    ]
    offered = "".join(parser.format_help() for parser in parsers)
    assert set(re.findall(r"--[a-z][a-z-]+", table)) <= set(re.findall(r"--[a-z-]+", offered))


def test_every_shipped_scenario_says_what_it_is() -> None:
    from rentomatic_site.scenarios import discovery

    descriptions = {scenario.name: scenario.description for scenario in discovery.scenarios()}
    assert set(descriptions) >= {
        "foo",
        "book_rooms",
        "demo",
        "million_rooms",
        "edge_cases",
        "skewed",
        "staff",
    }
    assert all(len(text) > 20 for text in descriptions.values())
