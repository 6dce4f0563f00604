"""The scenarios there are: the files of the folder `scenarios/`, and what each one's database depends on."""

import ast
import difflib
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from django.apps import apps
from django.conf import settings

from rentomatic_site.scenarios import ScenarioError
from rooms import seeding

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""PostgreSQL keeps 63 bytes of a name: enough for this, a prefix and the hash of a template's name."""

PACKAGE = "scenarios"


@dataclass(frozen=True)
class Scenario:
    """One file: `run()` fills the database; `EXPECT` and `check(client)`, where present, judge it."""

    name: str
    path: Path

    @property
    def description(self) -> str:
        """The first line of the docstring; the file is read, not run."""
        try:
            docstring = ast.get_docstring(parsed(self.path)) or ""
        except SyntaxError as error:
            return f"(line {error.lineno}: {error.msg})"
        return docstring.partition("\n")[0]

    def module(self) -> ModuleType:
        """Import the file, as `scenarios.NAME`. Raises whatever the file raises."""
        package = sys.modules.get(PACKAGE)
        if package is None or list(package.__path__) != [str(folder())]:
            for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
                del sys.modules[name]
            # A package of just this folder, wherever it is: one of that name elsewhere does not mix in.
            package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
            package.__path__ = [str(folder())]
        return importlib.import_module(f"{PACKAGE}.{self.name}")

    def fingerprint(self, seed: int) -> str:
        """
        A hash of all that the filled database follows from: migrations, seed, the words for filling, and
        this file with the files that it imports, without their comments and what only judges the result.
        """
        digest = sha256(f"{migrations_fingerprint()} {seed}".encode())
        digest.update(ast.dump(parsed(Path(seeding.__file__))).encode())
        for path in sorted(imported(self.path)):
            try:
                tree = parsed(path)
            except SyntaxError:
                digest.update(path.read_bytes())
                continue
            tree.body = [node for node in tree.body if not judges(node)]
            digest.update(f"{path.name} {ast.dump(tree)}".encode())
        return digest.hexdigest()[:12]


def folder() -> Path:
    """Where the scenarios are."""
    return Path(settings.SCENARIOS_DIR)


def scenarios() -> list[Scenario]:
    """All scenarios by name; files whose name begins with an underscore are for being imported only."""
    return [Scenario(path.stem, path) for path in sorted(folder().glob("*.py")) if NAME.fullmatch(path.stem)]


def find(name: str) -> Scenario:
    """The scenario of that name, or of that file as a shell completes it; an error suggests the nearest."""
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


def parsed(path: Path) -> ast.Module:
    """The file's syntax tree. Raises SyntaxError."""
    return ast.parse(path.read_bytes(), filename=str(path))


def judges(node: ast.stmt) -> bool:
    """Whether the statement only describes or judges the data: the docstring, EXPECT, check()."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.FunctionDef(name="check"):
            return True
        case ast.Assign(targets=[ast.Name(id="EXPECT")]) | ast.AnnAssign(target=ast.Name(id="EXPECT")):
            return True
    return False


def imported(path: Path, seen: frozenset[Path] = frozenset()) -> set[Path]:
    """The file and those of the scenarios' folder that it imports, directly or not."""
    found = {path}
    try:
        names = list(imported_names(parsed(path)))
    except SyntaxError:
        return found
    for name in names:
        other = folder().joinpath(*name.split(".")).with_suffix(".py")
        if other not in seen | found and other.is_file():
            found |= imported(other, seen | found)
    return found


def imported_names(tree: ast.Module) -> Iterator[str]:
    """What may be modules of the scenarios' package in the tree's import statements, without its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [PACKAGE if node.level else "", node.module]))
            candidates = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for candidate in candidates:
            package, _, name = candidate.partition(".")
            if package == PACKAGE and name:
                yield name


@cache
def migrations_fingerprint() -> str:
    """A hash of the installed applications, of all their migrations' files, and of who owns the tables."""
    digest = sha256(" ".join([settings.DATABASES["default"]["USER"], *settings.INSTALLED_APPS]).encode())
    for app in apps.get_app_configs():
        for path in sorted(Path(app.path, "migrations").glob("*.py")):
            digest.update(f"{app.label} {path.name} ".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
