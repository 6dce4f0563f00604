"""docs/scenarios.md: its tutorial works step by step; its words, options and scenarios exist."""

import re
import shutil

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import DjangoHelpFormatter

from rentomatic_site.scenarios import discovery
from rentomatic_site.scenarios.tests.test_fixture import run
from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.documents import PROJECT, Document
from rooms import distributions, seeding

SCENARIOS = Document("docs/scenarios.md")
EXAMPLE, EXPECT, CHECK, LARGE, PLANS, TEST, WORDS_USED, PARALLEL = SCENARIOS.blocks("python")
LOADED, ROOMS, REFUSED = SCENARIOS.commands
WORDS = SCENARIOS.section("### Words for filling")


def test_the_tutorial_works_step_by_step(workshop: Workshop) -> None:
    def load(source: str) -> tuple[int, str]:
        workshop.write("t_cheap_rooms", source)
        done = workshop.load("t_cheap_rooms")
        return done.returncode, done.stdout.replace("t_cheap_rooms", "cheap_rooms")

    status, output = load(EXAMPLE)
    assert status == 0
    assert LOADED.matches(output), output
    output = workshop.manage("rooms", "price__lt=66", SCENARIO="t_cheap_rooms").stdout
    assert ROOMS.matches(output), output
    status, output = load(EXAMPLE + EXPECT)
    assert status == 1
    assert REFUSED.matches(output), output
    status, output = load(EXAMPLE + EXPECT.replace("3}", "2}") + CHECK)
    assert status == 0
    assert "✓ filter_price__lt=66 → 2 rooms\n  ✓ check(client)" in output
    assert "stale: the scenario or the migrations have changed since" in output


def test_the_large_example_fills(workshop: Workshop) -> None:
    workshop.write("t_large", LARGE.replace("100_000", "1_000"))
    done = workshop.load("t_large")
    assert "; 1,000 rooms," in done.stdout, done.stderr


def test_the_expected_plans_of_the_example_are_so(workshop: Workshop) -> None:
    workshop.write("t_plans", PLANS)
    done = workshop.load("t_plans", "--check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("✓ plan of ") == 2


def test_the_example_with_all_words_fills_and_is_the_same_twice(workshop: Workshop) -> None:
    workshop.write("t_words", WORDS_USED)
    done = workshop.load("t_words")
    assert "; 2,020 rooms," in done.stdout, done.stderr
    assert workshop.sql("t_words", "SHOW random_page_cost") == [("4",)]
    twice = workshop.load("t_words", "--twice")
    assert "Two runs of t_words with one seed are the same." in twice.stdout, twice.stdout


def test_the_example_of_two_sessions_ends_as_it_says(workshop: Workshop) -> None:
    workshop.write("t_parallel", PARALLEL)
    done = workshop.load("t_parallel")
    assert "✓ check(client)" in done.stdout, done.stdout


def test_the_example_of_a_test_passes(workshop: Workshop) -> None:
    shutil.copy(PROJECT / "scenarios" / "book_rooms.py", workshop.folder)
    done = run(workshop, TEST, "-n", "0")
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("word", sorted(set(re.findall(r"`([A-Za-z_]+)\(", WORDS)) - {"run", "check"}))
def test_each_word_for_filling_exists(word: str) -> None:
    assert word == "subprocess" or callable(getattr(seeding, word))


def test_every_word_that_a_scenario_uses_is_written_down() -> None:
    used = {
        name.strip()
        for path in (PROJECT / "scenarios").glob("*.py")
        for names in re.findall(r"from rooms\.seeding import (.*)", path.read_text())
        for name in names.split(",")
    }
    used |= {
        re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
        for kind in distributions.Distribution.__subclasses__()
    }
    assert {"room", "many_rooms", "skewed", "always"} <= used
    assert [name for name in sorted(used) if f"`{name}(" not in WORDS] == []


@pytest.mark.parametrize(
    "command",
    [
        "load_scenario",
        "list_scenarios",
        "drop_scenario",
        "adopt_scenario",
        "query_lab",
        "capture_scenario",
    ],
)
def test_every_option_of_a_command_is_in_its_table(command: str) -> None:
    parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
    options = {option for action in parser._actions for option in action.option_strings if "--" in option}
    own = options - DjangoHelpFormatter.show_last - {"--help"}
    rows = [cell for row in SCENARIOS.rows("### Commands") if command in row[0] for cell in row]
    assert [option for option in sorted(own) if option not in " ".join(rows)] == []


def test_every_scenario_that_ships_is_written_down_and_says_what_it_is() -> None:
    descriptions = {scenario.name: scenario.description for scenario in discovery.scenarios()}
    rows = {row[0].strip("`") for row in SCENARIOS.rows("### Scenarios that ship")}
    assert rows == set(descriptions)
    assert all(len(text) > 20 for text in descriptions.values())
