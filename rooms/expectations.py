"""
What a scenario expects of its rooms, checked through the API's URLs.

    EXPECT = {
        "filter_price__lt=66": 3,                                          # the number of matching rooms
        "order=price&limit=2": ["f853578c-…", "eed76e77-…"],               # these, in this order
        "filter_size__gte=50": {"f853578c-…", "fe2c3195-…"},               # these, in any order
    }
"""

import json
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from rooms.counting import Count


def expectation(query: str, expected: Any, module: ModuleType) -> tuple[str, Callable[[Any], str]]:
    """
    One line of EXPECT in words, and its check: a function of Django's test client that returns what is wrong.

    ValueError where it expects neither a number nor codes.
    """
    if isinstance(expected, int) and not isinstance(expected, bool):
        label = f"{query or 'all'} → {Count(expected)}"
        return label, partial(number_problem, query=query, expected=expected)
    if isinstance(expected, list | tuple | set | frozenset):
        label = f"{query or 'all'} → {Count(len(expected))} by code"
        return label, partial(codes_problem, query=query, expected=expected)
    raise ValueError("neither a number of rooms nor a list or set of codes")


def number_problem(client: Any, query: str, expected: int) -> str:
    """Compare the number of rooms that match, or that are on the page where the query has a limit."""
    paged = {"limit", "after", "count"} & {part.partition("=")[0] for part in query.split("&")}
    if not paged:
        query = "&".join(filter(None, [query, "count=exact&limit=1"]))
    response = client.get(f"/rooms.json?{query}")
    if response.status_code != 200:
        return error_message(response)
    found = len(response.json()) if paged else int(response.headers["X-Total-Count"])
    return "" if found == expected else f"found {Count(found)}"


def codes_problem(client: Any, query: str, expected: Any) -> str:
    """Compare the codes: a list in its order, a set in any."""
    response = client.get(f"/rooms.ndjson?{query}")
    if response.status_code != 200:
        return error_message(response)
    found = [json.loads(line)["code"] for line in response.getvalue().decode().splitlines()]
    wanted = [str(code) for code in expected]
    known, sought = set(found), set(wanted)
    missing = [code for code in wanted if code not in known]
    surplus = [code for code in found if code not in sought]
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


def error_message(response: Any) -> str:
    """The message of the API's error document."""
    problem = json.loads(response.content)
    return f"{response.status_code} {problem['message']}; try {problem.get('try', '/rooms')}"
