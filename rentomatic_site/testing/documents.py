"""
The documents as the tests see them: their lines, links and commands.

A block marked `console` shows commands behind `$ ` with their output; `…` in the output stands for anything.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rentomatic_site.testing.plugin import PROJECT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Command:
    """A command of a `console` block with the output that the document shows."""

    line: str
    output: str

    def __str__(self) -> str:
        return self.line

    def matches(self, output: str) -> bool:
        """Whether this is the output, but for what the document leaves out."""
        pattern = ".*".join(re.escape(part) for part in self.output.strip().split("…"))
        plain = output.strip().replace("\r", "").replace("\N{NO-BREAK SPACE}", " ")
        return re.fullmatch(pattern, plain, re.DOTALL) is not None


@dataclass(frozen=True)
class Document:
    """A Markdown file of the project; `name` is its path from the project's folder."""

    name: str

    @property
    def path(self) -> Path:
        return PROJECT / self.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without its blocks."""
        return BLOCK.sub("", self.text)

    def blocks(self, language: str = "") -> list[str]:
        """The contents of the fenced blocks of a language; without one those that have none."""
        return [block for marked, block in BLOCK.findall(self.text) if marked == language]

    @property
    def commands(self) -> list[Command]:
        """The commands that are shown with their output."""
        return [
            Command(line, output)
            for block in self.blocks("console")
            for line, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
        ]

    @property
    def lines_to_type(self) -> list[str]:
        """The lines of all blocks without a language, which are commands; without comments."""
        lines = "\n".join(self.blocks()).splitlines()
        return [line.partition("  #")[0].strip() for line in lines if line.strip() and line[0] != "#"]

    def section(self, heading: str) -> str:
        """The text below a heading, down to the next one of its level or above."""
        level = len(heading) - len(heading.lstrip("#"))
        found = re.search(
            rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", self.text, re.DOTALL | re.MULTILINE
        )
        assert found, f"{self.name} has no heading {heading!r}"
        return found[1]

    def rows(self, heading: str) -> list[list[str]]:
        """The cells of the tables below a heading, without their own heads."""
        lines = [line for line in self.section(heading).splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        rules = {number for number, row in enumerate(rows) if set("".join(row)) <= set("-:")}
        return [row for number, row in enumerate(rows) if not {number, number + 1} & rules]

    @property
    def anchors(self) -> set[str]:
        """The names under which headings can be linked to, as GitHub makes them."""
        headings = re.findall(r"^#{1,6} (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    @property
    def links(self) -> list[str]:
        """The targets of links and pictures, without those to other sites and servers."""
        return [link for link in LINK.findall(self.prose) if not re.match(r"https?:|mailto:", link)]


DOCUMENTS = [
    Document(str(path.relative_to(PROJECT)))
    for path in sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("benchmarks/*.md")])
]
