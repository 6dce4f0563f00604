"""README.md: short, and its request has the response that is shown."""

import pytest

from rentomatic_site.testing.documents import DOCUMENTS, Document
from rentomatic_site.tests.documents.conftest import Run

README = Document("README.md")


def test_it_has_120_lines_at_most() -> None:
    assert len(README.text.splitlines()) <= 120


def test_it_leads_to_every_document() -> None:
    assert {document.name for document in DOCUMENTS} - {"README.md"} <= set(README.links)


@pytest.mark.needs("curl")
def test_its_request_has_the_response_that_it_shows(on_demo: Run) -> None:
    (command,) = README.commands
    output = on_demo(command)
    assert command.matches(output), output


def test_its_figures_are_those_of_the_benchmark() -> None:
    result = Document("benchmarks/README.md").section("## Result")
    figures = [cell for row in README.rows("## How quick it is") for cell in row[1:]]
    assert len(figures) == 12
    assert [figure for figure in figures if f"| {figure} |" not in result] == []
