"""
The files that a scenario's database depends on: its own, what it and the seeding module import from the
project, and data.

No code is run: import statements are found by their text. Libraries are none of these files.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

PACKAGE = "scenarios"

IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<package>[.\w]+)[ \t]+import\b(?P<names>[^\n(]*(?:\([^)]*\))?)"
    r"|import\b(?P<modules>[^\n]*))",
    re.MULTILINE,
)
"""An import statement; names in parentheses may stand on several lines."""

WORD = re.compile(r"[.\w]+")


def folder() -> Path:
    """The folder of the scenarios' files."""
    return Path(settings.SCENARIOS_DIR)


def files(scenario: Path) -> list[Path]:
    """
    The scenario's file, the modules of the project that it and the seeding module import, directly or not,
    and data files: those in the folder of such a scenario's name (`demo/rooms.csv` belongs to `demo.py`), and
    those anywhere in the scenarios' folder that one of these files names.
    """
    found: list[Path] = []
    texts: list[str] = []
    to_read = [scenario, *module_files(settings.SCENARIOS_SEEDING)]
    while to_read:
        path = to_read.pop(0)
        if path not in found:
            found.append(path)
            text = path.read_text(errors="replace")
            to_read += imported_files(path, text)
            if folder() in path.parents:
                texts.append(text)
    return found + data_files(found, "\n".join(texts))


def data_files(modules: list[Path], text: str) -> list[Path]:
    """The data files of scenarios with this text, in the order of their paths."""
    own = [path.with_suffix("") for path in modules if folder() in path.parents]
    return [
        path
        for path in sorted(folder().rglob("*"))
        if path not in modules
        and "__pycache__" not in path.parts
        and (path.name in text or any(data in path.parents for data in own))
        and (path.suffix != ".py" or any(data in path.parents for data in own))
        and path.is_file()
    ]


def imported_files(path: Path, text: str) -> Iterator[Path]:
    """The files of the project's modules that the module imports."""
    for statement in IMPORT.finditer(text):
        if statement["modules"] is not None:
            names = [words[0] for part in statement["modules"].split(",") if (words := WORD.findall(part))]
        else:
            package = absolute(path, statement["package"])
            names = [package, *(f"{package}.{name}" for name in WORD.findall(statement["names"]))]
        for name in names:
            yield from module_files(name)


def absolute(path: Path, package: str) -> str:
    """The package of `from … import`, with the dots of a relative import resolved."""
    name = package.lstrip(".")
    dots = len(package) - len(name)
    if not dots:
        return name
    inside = folder() in path.parents
    base = path.parents[dots - 1].relative_to(folder() if inside else settings.BASE_DIR)
    return ".".join(part for part in (PACKAGE if inside else "", *base.parts, name) if part)


def module_files(name: str) -> Iterator[Path]:
    """The file of a module of the project, and those of the packages that it is in; none of a library."""
    package, *others = name.split(".")
    path = folder() if package == PACKAGE else Path(settings.BASE_DIR, package)
    for part in (None, *others):
        path = path / part if part else path
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file():
                yield file
