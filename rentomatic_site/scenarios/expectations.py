"""
What a scenario expects of its database: the dicts that the project's seeding module knows (domain.py), such
as EXPECT, and

    def check(client):                                                     # anything else, with assert
        assert client.get("/rooms/stats").json()["count"] == 4
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.conf import settings

from rentomatic_site.scenarios import ScenarioError, domain, running

if TYPE_CHECKING:
    from django.test import Client

CHECK = "check(client)"


@dataclass(frozen=True)
class Expectation:
    """One line of EXPECT, or the function `check`."""

    label: str
    problem: "Callable[[Client], str]"
    """Checks it; returns what is wrong, "" where it is met."""


def expectations(module: ModuleType) -> list[Expectation]:
    """What the scenario's module expects, in the order of its file."""
    found: list[Expectation] = []
    for name, path in domain.expected().items():
        expect = getattr(module, name, None)
        if expect is None:
            continue
        if not isinstance(expect, dict):
            raise ScenarioError(
                f'{module.__file__}: {name} is no dict. Example: EXPECT = {{"filter_price__lt=66": 3}}'
            )
        found += _expectations(module, name, expect, domain.reader(path))
    if check := getattr(module, "check", None):
        found.append(Expectation(CHECK, partial(check_problem, check=check)))
    return found


def _expectations(
    module: ModuleType, name: str, expect: dict[str, Any], read: domain.Reader
) -> Iterator[Expectation]:
    for query, expected in expect.items():
        try:
            yield Expectation(*read(query, expected, module))
        except ValueError as error:
            raise ScenarioError(f"{module.__file__}: {name}[{query!r}] is {expected!r}, {error}.") from None


def check_problem(client: "Client", check: "Callable[[Client], None]") -> str:
    """Run the scenario's own function; an assertion that fails and any other error are the problem."""
    try:
        check(client)
    except Exception as error:
        return running.own_traceback(error)
    return ""


def client() -> "Client":
    """A client whose requests look like the proxy's: over HTTPS, to an allowed host."""
    # Loads unittest, and jinja2 where there is one: a tenth of the command's start, for scenarios that expect
    # nothing.
    from django.test import Client

    # ALLOWED_HOSTS may begin with "*", and an entry ".example.com" stands for a domain with its subdomains.
    host = next((host for host in settings.ALLOWED_HOSTS if host.strip(".*")), "localhost")
    headers = {"host": host.lstrip("."), "x-forwarded-proto": "https"}
    return Client(raise_request_exception=False, headers=headers)
