"""What makes a scenario stale, and what its chance follows from."""

import re
from pathlib import Path

import pytest
from django.test import override_settings

from rentomatic_site.scenarios import sources
from rentomatic_site.scenarios.discovery import Scenario
from rentomatic_site.scenarios.tests.test_launch import run_pytest
from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.plugin import PROJECT

CHANCE = """
    import random
    from rooms.seeding import room

    PRICE = random.randint(0, 10**6)
    EXPECT = {f"filter_price__eq={PRICE}": 1}

    def run():
        room(price=PRICE)
        room(price=random.randint(0, 10**6))
"""


def names(paths: list[Path]) -> set[str]:
    return {str(path.relative_to(PROJECT)) for path in paths}


def test_a_scenario_depends_on_what_its_words_depend_on() -> None:
    found = names(sources.files(PROJECT / "scenarios" / "demo.py"))
    assert {"scenarios/demo.py", "scenarios/book_rooms.py"} <= found
    assert {"rooms/seeding.py", "rooms/distributions.py", "rooms/columns.py", "rooms/models.py"} <= found
    assert not [name for name in found if name.startswith((".venv", "rentomatic_site", "scenarios/staff"))]


@pytest.mark.parametrize(
    "statement",
    [
        "from helper.prices import PRICES",
        "from helper import prices",
        "import helper.prices as prices",
        "import os, helper.prices",
        "from helper.more import anything",
    ],
)
def test_a_changed_helper_of_the_project_is_a_change(tmp_path: Path, statement: str) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "helper").mkdir()
    scenario = tmp_path / "scenarios" / "t_one.py"
    scenario.write_text(f"{statement}\n")
    helper = tmp_path / "helper" / "prices.py"
    helper.write_text("PRICES = [30]\n")
    (tmp_path / "helper" / "more.py").write_text("from .prices import PRICES\n")
    with override_settings(BASE_DIR=tmp_path, SCENARIOS_DIR=tmp_path / "scenarios"):
        before = Scenario("t_one", scenario).fingerprint(1)
        assert Scenario("t_one", scenario).fingerprint(1) == before
        helper.write_text("PRICES = [31]\n")
        assert Scenario("t_one", scenario).fingerprint(1) != before


@pytest.mark.parametrize(
    ("data", "counts"),
    [("rooms.csv", True), ("lists/rooms.csv", True), ("other.csv", False), ("t_one/any.bin", True)],
)
def test_a_changed_data_file_that_the_scenario_names_is_a_change(
    tmp_path: Path, data: str, counts: bool
) -> None:
    file = tmp_path / data
    file.parent.mkdir(exist_ok=True)
    file.write_text("39")
    scenario = tmp_path / "t_one.py"
    scenario.write_text("open('rooms.csv')\n")
    with override_settings(SCENARIOS_DIR=tmp_path):
        before = Scenario("t_one", scenario).fingerprint(1)
        file.write_text("40")
        assert (Scenario("t_one", scenario).fingerprint(1) != before) == counts


def test_chance_at_the_top_of_a_file_is_the_same_under_pytest(workshop: Workshop) -> None:
    workshop.write("t_top", CHANCE)
    done = workshop.load("t_top")
    assert done.returncode == 0, done.stdout
    (label,) = re.findall(r"✓ (filter_price__eq=\d+) → 1 room", done.stdout)
    assert f"t_top.py::{label} → 1 room PASSED" in run_pytest(workshop).stdout


def test_chance_at_the_top_of_a_file_is_the_same_after_a_reset(workshop: Workshop) -> None:
    workshop.write("t_top", CHANCE)
    first = workshop.load("t_top", "--seed", "9").stdout
    again = workshop.load("t_top", "--reset").stdout
    assert re.findall("✓ .*", again) == re.findall("✓ .*", first)


@pytest.mark.parametrize("option", ["--reset", "--rebuild"])
def test_a_reset_keeps_the_seed_that_was_chosen(workshop: Workshop, option: str) -> None:
    workshop.write("t_top", CHANCE)
    workshop.load("t_top", "--seed", "9")
    prices = workshop.prices("t_top")
    assert "seed 9" in workshop.load("t_top", option).stdout
    assert workshop.prices("t_top") == prices
    assert "seed 1" in workshop.load("t_top", option, "--seed", "1").stdout
    assert workshop.prices("t_top") != prices


@pytest.mark.parametrize("command", ["load_scenario", "rooms"])
def test_ctrl_c_during_the_start_shows_no_traceback(workshop: Workshop, tmp_path: Path, command: str) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfrom rentomatic_site.settings import *\n"
    )
    done = workshop.manage(
        command, PYTHONPATH=str(tmp_path), DJANGO_SETTINGS_MODULE="interrupted", DEBUG="on"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
