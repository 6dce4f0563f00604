"""
What a scenario expects of its rooms, checked through the API's URLs.

    EXPECT = {
        "filter_price__lt=66": 3,                                          # the number of matching rooms
        "order=price&limit=2": ["f853578c-…", "eed76e77-…"],               # these, in this order
        "filter_size__gte=50": {"f853578c-…", "fe2c3195-…"},               # these, in any order
    }

    def check(client):                                                     # anything else, with assert
        assert client.get("/rooms/stats").json()["count"] == 4
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.conf import settings

from rentomatic_site.scenarios import ScenarioError, running
from rooms.counting import Count

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
    expect = getattr(module, "EXPECT", {})
    if not isinstance(expect, dict):
        raise ScenarioError(
            f'{module.__file__}: EXPECT is no dict. Example: EXPECT = {{"filter_price__lt=66": 3}}'
        )
    return list(_expectations(module, expect))


def _expectations(module: ModuleType, expect: dict[str, Any]) -> Iterator[Expectation]:
    for query, expected in expect.items():
        if isinstance(expected, int) and not isinstance(expected, bool):
            label = f"{query or 'all'} → {Count(expected)}"
            yield Expectation(label, partial(number_problem, query=query, expected=expected))
        elif isinstance(expected, list | tuple | set | frozenset):
            label = f"{query or 'all'} → {Count(len(expected))} by code"
            yield Expectation(label, partial(codes_problem, query=query, expected=expected))
        else:
            raise ScenarioError(
                f"{module.__file__}: EXPECT[{query!r}] is {expected!r}, neither a number of rooms "
                "nor a list or set of codes."
            )
    if check := getattr(module, "check", None):
        yield Expectation(CHECK, partial(check_problem, check=check))


def number_problem(client: "Client", query: str, expected: int) -> str:
    """Compare the number of rooms that match, or that are on the page where the query has a limit."""
    paged = {"limit", "after", "count"} & {part.partition("=")[0] for part in query.split("&")}
    if not paged:
        query = "&".join(filter(None, [query, "count=exact&limit=1"]))
    response = client.get(f"/rooms.json?{query}")
    if response.status_code != 200:
        return error_message(response)
    found = len(response.json()) if paged else int(response.headers["X-Total-Count"])
    return "" if found == expected else f"found {Count(found)}"


def codes_problem(client: "Client", query: str, expected: Any) -> str:
    """Compare the codes: a list in its order, a set in any."""
    response = client.get(f"/rooms.ndjson?{query}")
    if response.status_code != 200:
        return error_message(response)
    found = [json.loads(line)["code"] for line in response.getvalue().decode().splitlines()]
    wanted = [str(code) for code in expected]
    missing = [code for code in wanted if code not in set(found)]
    surplus = [code for code in found if code not in set(wanted)]
    if missing or surplus:
        parts = {"missing": missing, "not expected": surplus}
        return "; ".join(f"{problem}: {first_codes(codes)}" for problem, codes in parts.items() if codes)
    if isinstance(expected, list | tuple) and found != wanted:
        return f"in another order: {first_codes(found)}"
    return ""


def first_codes(codes: list[str]) -> str:
    """The first five codes, for a message."""
    shown = ", ".join(codes[:5])
    return f"{shown} …" if len(codes) > 5 else shown


def check_problem(client: "Client", check: "Callable[[Client], None]") -> str:
    """Run the scenario's own function; an assertion that fails and any other error are the problem."""
    try:
        check(client)
    except Exception as error:
        return running.own_traceback(error)
    return ""


def error_message(response: Any) -> str:
    """The message of the API's error document."""
    problem = json.loads(response.content)
    return f"{response.status_code} {problem['message']}; try {problem.get('try', '/rooms')}"


def client() -> "Client":
    """A client whose requests look like the proxy's: over HTTPS, to an allowed host."""
    # Loads unittest, and jinja2 where there is one: a tenth of the command's start, for scenarios that expect
    # nothing.
    from django.test import Client

    # ALLOWED_HOSTS may begin with "*", and an entry ".example.com" stands for a domain with its subdomains.
    host = next((host for host in settings.ALLOWED_HOSTS if host.strip(".*")), "localhost")
    headers = {"host": host.lstrip("."), "x-forwarded-proto": "https"}
    return Client(raise_request_exception=False, headers=headers)
