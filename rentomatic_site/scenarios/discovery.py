"""Discovery of scenarios: the files of the folder `scenarios/`, and what the database of each depends on."""

import ast
import difflib
import importlib
import re
import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from django.apps import apps
from django.conf import settings

from rentomatic_site.scenarios import ScenarioError

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""PostgreSQL keeps 63 bytes of a name: enough for this, a prefix and the hash of a template's name."""

PACKAGE = "scenarios"

IMPORT = re.compile(r"^[ \t]*((?:from|import)\b[^\n(]*(?:\([^)]*\))?)", re.MULTILINE)
"""An import statement; names in parentheses may stand on several lines."""

SEEDING_CODE = ("rooms/seeding.py", "rooms/distributions.py", "rooms/columns.py")
"""What `rooms.seeding` stores depends on these files of the project."""


@dataclass(frozen=True)
class Scenario:
    """A file whose `run()` seeds the database; `EXPECT` and `check(client)` are optional (expectations)."""

    name: str
    path: Path

    @property
    def description(self) -> str:
        """The first line of the docstring, or the syntax error; the file is not run."""
        try:
            docstring = ast.get_docstring(ast.parse(self.path.read_bytes())) or ""
        except SyntaxError as error:
            return f"(line {error.lineno}: {error.msg})"
        return docstring.partition("\n")[0]

    def module(self) -> ModuleType:
        """Import the file, as `scenarios.NAME`. Raises whatever the file raises."""
        package = sys.modules.get(PACKAGE)
        if package is None or list(package.__path__) != [str(folder())]:
            for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
                del sys.modules[name]
            # SCENARIOS_DIR is this package, and no other folder named `scenarios` on the path is part of it.
            package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
            package.__path__ = [str(folder())]
        return importlib.import_module(f"{PACKAGE}.{self.name}")

    def fingerprint(self, seed: int) -> str:
        """
        Twelve hexadecimal digits of a hash of everything that the seeded database depends on: the migrations,
        the seed, the seeding code and the scenario's files. Any change of a file is a change, also of a
        comment: a refill is cheap.
        """
        digest = sha256(f"{migrations_fingerprint()} {seed}".encode())
        seeding_code = [settings.BASE_DIR / name for name in SEEDING_CODE]
        for path in [*seeding_code, *files(self.path)]:
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]


def folder() -> Path:
    """The folder of the scenarios' files."""
    return Path(settings.SCENARIOS_DIR)


def scenarios() -> list[Scenario]:
    """All scenarios by name; files whose name begins with an underscore are only imported by others."""
    return [Scenario(path.stem, path) for path in sorted(folder().glob("*.py")) if NAME.fullmatch(path.stem)]


def find(name: str) -> Scenario:
    """The scenario of that name or path; ScenarioError, with the nearest name, where there is none."""
    path = Path(name)
    if path.suffix == ".py" and path.resolve().parent == folder():
        name = path.stem
    if not NAME.fullmatch(name):
        raise ScenarioError(
            f"{name!r} cannot be a scenario's name: small letters, digits and underscores, "
            "a letter first, at most 40. Next: ./manage.py load_scenario (lists them)"
        )
    known = {scenario.name: scenario for scenario in scenarios()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Next: ./manage.py load_scenario (lists them)"
    raise ScenarioError(f"There is no scenario {name}: {folder() / name}.py does not exist. {hint}")


def files(scenario: Path) -> list[Path]:
    """
    The scenario's file, the modules of the scenarios' folder that it imports, directly or not, and the data
    files in the folders of their names (`demo/rooms.csv` belongs to `demo.py`).

    No code is run: each word of an import statement that is the name of a module is taken for that module.
    """
    modules = {path.stem: path for path in folder().rglob("*.py")}
    found: list[Path] = []
    to_read = [scenario]
    while to_read:
        path = to_read.pop()
        if path in found:
            continue
        found.append(path)
        statements = IMPORT.findall(path.read_text(errors="replace"))
        names = set(re.findall(r"\w+", " ".join(statements)))
        to_read += [modules[name] for name in sorted(names & modules.keys())]
    data = [file for path in found for file in path.with_suffix("").rglob("*") if file.is_file()]
    return found + sorted(file for file in data if "__pycache__" not in file.parts and file not in found)


@cache
def migrations_fingerprint() -> str:
    """A hash of the installed applications, the files of their migrations and the owner of the tables."""
    digest = sha256(" ".join([settings.DATABASES["default"]["USER"], *settings.INSTALLED_APPS]).encode())
    for app in apps.get_app_configs():
        for path in sorted(Path(app.path, "migrations").glob("*.py")):
            digest.update(f"{app.label} {path.name} ".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
