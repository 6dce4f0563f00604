"""Discovery of scenarios: the files of the folder `scenarios/`, and what the database of each depends on."""

import ast
import difflib
import importlib
import random
import re
import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from django.apps import apps
from django.conf import settings

from rentomatic_site.scenarios import ScenarioError, domain, sources
from rentomatic_site.scenarios.sources import PACKAGE, folder

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""PostgreSQL keeps 63 bytes of a name: enough for this, a prefix and the hash of a template's name."""


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

    def module(self, seed: int = domain.DEFAULT_SEED) -> ModuleType:
        """
        Run the file anew, and the scenarios that it imports, as `scenarios.NAME`. Chance at the top of a file
        follows from the seed, whoever has imported it before. Raises whatever the file raises.
        """
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        # SCENARIOS_DIR is this package, and no other folder named `scenarios` on the path is part of it.
        package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
        package.__path__ = [str(folder())]
        random.seed(seed)
        domain.seed(seed)
        return importlib.import_module(f"{PACKAGE}.{self.name}")

    def fingerprint(self, seed: int) -> str:
        """
        Twelve hexadecimal digits of a hash of everything that the seeded database depends on: the migrations,
        the seed, and the files of the scenario and of the seeding module (sources.py). Any change of a file
        is a change, also of a comment: a refill is cheap.
        """
        digest = sha256(f"{migrations_fingerprint()} {seed}".encode())
        for path in sources.files(self.path):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]


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


@cache
def migrations_fingerprint() -> str:
    """A hash of the installed applications, the files of their migrations and the owner of the tables."""
    digest = sha256(" ".join([settings.DATABASES["default"]["USER"], *settings.INSTALLED_APPS]).encode())
    for app in apps.get_app_configs():
        for path in sorted(Path(app.path, "migrations").glob("*.py")):
            digest.update(f"{app.label} {path.name} ".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
