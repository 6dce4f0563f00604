"""CONTRIBUTING.md: its recipes are those that are tried, and every make target is there."""

import re
from textwrap import dedent

from rentomatic_site.testing.documents import PROJECT, Document
from rooms.tests.new_column.test_recipe import FIELD, ROW

CONTRIBUTING = Document("CONTRIBUTING.md")


def test_the_recipe_for_a_column_is_the_one_that_is_tried() -> None:
    recipe = CONTRIBUTING.section("### A column")
    assert f"`{FIELD.strip()}`" in recipe
    assert dedent(ROW).strip("\n,") in recipe


def test_every_recipe_names_what_it_takes() -> None:
    recipes = re.findall(r"^### (.*)$", CONTRIBUTING.section("## Recipes"), re.MULTILINE)
    assert recipes == [
        "A column",
        "Another type of a column",
        "An operator",
        "A format",
        "A page",
        "A list filter",
        "A scenario word",
        "A setting",
        "A command",
        "An nginx directive",
        "A command of operators",
        "A runbook entry",
        "A text of the admin",
        "A language",
        "A document",
    ]


def test_every_make_target_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    written = [row[0] for row in CONTRIBUTING.rows("## Make")]
    assert {f"`make {target}`" for target in targets} == {cell for cell in written if "make " in cell}
