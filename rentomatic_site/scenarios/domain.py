"""
What the engine knows of a project's models: the module that SCENARIOS_SEEDING names, such as `rooms.seeding`.

The module has the words that scenarios import, and `seed(value)`, after which their chance is the same each
time. Everything else is optional. Paths are dotted names: what they name changes no rows, and no template.

| name | what |
|---|---|
| `count()` | the number of rows that the lists show, of Django's connection (default: of all models) |
| `label(number)` | that number in words (default: "3 rows") |
| `EXPECTED` | name of a dict in scenarios, such as `EXPECT` → path of the `Reader` of its lines |
| `RECORD_PLANS` | path of a function of a scenario's module: writes its present plans, returns the file |
| `OPENED` | label → arguments of manage.py, for lines that show what to look at |
| `PAGES` | label → path of a page, for `--serve` |
| `requests(module)` | paths that a rehearsal requests, also of a scenario's module (default: PAGES) |
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

DEFAULT_SEED = 1

Problem = Callable[[Any], str]
"""A function of Django's test client that returns what is wrong, "" where nothing is."""

Checked = tuple[str, Problem]
"""What is expected, in words, and its check."""

Reader = Callable[[str, Any, ModuleType], Checked]
"""Of one key and value of a dict in a scenario's module; ValueError says what is wrong with the value."""


def module() -> ModuleType:
    """The project's seeding module."""
    return import_module(settings.SCENARIOS_SEEDING)


def seed(value: int) -> None:
    """Make the chance of the module's words follow from the seed."""
    module().seed(value)


def count() -> int:
    """The number of rows that a list shows of the database of Django's connection."""
    counted: Callable[[], int] | None = getattr(module(), "count", None)
    if counted:
        return counted()
    return sum(model._default_manager.count() for model in apps.get_models() if is_own(model))


def is_own(model: Any) -> bool:
    """Whether the model is one of the project, and not of Django or of a library."""
    return "site-packages" not in (apps.get_app_config(model._meta.app_label).path or "")


def label(number: int) -> str:
    """The number of rows in words."""
    named: Callable[[int], str] | None = getattr(module(), "label", None)
    return named(number) if named else f"{number:,} {'row' if number == 1 else 'rows'}"


def expected() -> dict[str, str]:
    """The dicts of a scenario that state what is expected: name → path of what reads their lines."""
    return getattr(module(), "EXPECTED", {})


def reader(path: str) -> Reader:
    """The function at the path; it is imported for scenarios that need it only."""
    found: Reader = import_string(path)
    return found


def opened() -> dict[str, str]:
    """Label → arguments of manage.py that show the rows."""
    return getattr(module(), "OPENED", {})


def pages() -> dict[str, str]:
    """Label → path of a page worth opening."""
    return getattr(module(), "PAGES", {})


def record_plans(scenario: ModuleType) -> Any:
    """Write the present plans that the scenario expects; the path, None where there are none."""
    path = getattr(module(), "RECORD_PLANS", "")
    return import_string(path)(scenario) if path else None


def requests(scenario: ModuleType | None) -> list[str]:
    """Paths that the code before pending migrations must still serve after them."""
    wanted: Callable[[ModuleType | None], list[str]] | None = getattr(module(), "requests", None)
    return wanted(scenario) if wanted else list(pages().values())
