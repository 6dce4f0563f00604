"""
What a scenario expects of its rooms, asked of the API as any client would ask.

    EXPECT = {
        "filter_price__lt=66": 3,                                          # so many rooms match
        "order=price&limit=2": ["f853578c-…", "eed76e77-…"],               # these, in this order
        "filter_size__gte=50": {"f853578c-…", "fe2c3195-…"},               # these, in any order
    }

    def check(client):                                                     # whatever else: asserts
        assert client.get("/rooms/stats").json()["count"] == 4
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from django.conf import settings
from django.test import Client

from rentomatic_site.scenarios import ScenarioError, loading

CHECK = "check(client)"


@dataclass(frozen=True)
class Expectation:
    """One line of EXPECT, or the function `check`; `ask` gives what is wrong, "" where nothing is."""

    words: str
    ask: Callable[[Client], str]


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
            words = f"{query or 'all'} → {rooms(expected)}"
            yield Expectation(words, partial(number_problem, query=query, expected=expected))
        elif isinstance(expected, list | tuple | set | frozenset):
            words = f"{query or 'all'} → {rooms(len(expected))} by code"
            yield Expectation(words, partial(codes_problem, query=query, expected=expected))
        else:
            raise ScenarioError(
                f"{module.__file__}: EXPECT[{query!r}] is {expected!r}, neither a number of rooms "
                "nor a list or set of codes."
            )
    if check := getattr(module, "check", None):
        yield Expectation(CHECK, partial(check_problem, check=check))


def number_problem(client: Client, query: str, expected: int) -> str:
    """Compare the number of rooms that match, or that are on the page where the query asks for a page."""
    paged = {"limit", "after", "count"} & {part.partition("=")[0] for part in query.split("&")}
    whole = f"{query}{'&' if query else ''}count=exact&limit=1"
    answer = client.get(f"/rooms.json?{query if paged else whole}")
    if answer.status_code != 200:
        return refusal(answer)
    found = len(answer.json()) if paged else int(answer.headers["X-Total-Count"])
    return "" if found == expected else f"found {rooms(found)}"


def codes_problem(client: Client, query: str, expected: Any) -> str:
    """Compare the codes: a list in its order, a set in any."""
    answer = client.get(f"/rooms.ndjson?{query}")
    if answer.status_code != 200:
        return refusal(answer)
    found = [json.loads(line)["code"] for line in answer.getvalue().decode().splitlines()]
    wanted = [str(code) for code in expected]
    missing = [code for code in wanted if code not in set(found)]
    surplus = [code for code in found if code not in set(wanted)]
    if missing or surplus:
        parts = [("missing", missing), ("not expected", surplus)]
        return "; ".join(
            f"{word}: {', '.join(codes[:5])}{' …' * (len(codes) > 5)}" for word, codes in parts if codes
        )
    if isinstance(expected, list | tuple) and found != wanted:
        return f"in another order: {', '.join(found[:5])}{' …' * (len(found) > 5)}"
    return ""


def check_problem(client: Client, check: Callable[[Client], None]) -> str:
    """Run the scenario's own function; an assertion that fails and any other error are the problem."""
    try:
        check(client)
    except Exception as error:
        return loading.own_traceback(error)
    return ""


def refusal(answer: Any) -> str:
    """What the API said instead of rooms."""
    problem = json.loads(answer.content)
    return f"{answer.status_code} {problem['message']}; try {problem.get('try', '/rooms')}"


def rooms(n: int) -> str:
    return f"{n:,} room{'s' * (n != 1)}"


def client() -> Client:
    """A client that the site takes for one behind its proxy, on a host that it answers to."""
    host = next((host for host in settings.ALLOWED_HOSTS if host.strip(".*")), "localhost")
    headers = {"host": host.lstrip("."), "x-forwarded-proto": "https"}
    return Client(raise_request_exception=False, headers=headers)
