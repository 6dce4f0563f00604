"""How an expectation of a scenario fails: in which way, each time or not, and for which rooms it asks."""

import re
from typing import TYPE_CHECKING, Any, cast

from rentomatic_site.scenarios import ScenarioError, expectations
from rentomatic_site.scenarios.checkpoints import Held
from rentomatic_site.scenarios.expectations import Expectation
from rentomatic_site.scenarios.isolation import django_on

if TYPE_CHECKING:
    from django.test import Client

Kind = tuple[object, ...]

REPEATS = 3
"""Runs of an expectation before and after, to see whether it fails each time."""

REQUESTED = 200
"""Rooms that are taken of each request."""

MOST_CODES = 10_000

CODE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class FlakyError(ScenarioError):
    """An expectation that fails only sometimes, or each time in another way."""


def kind(label: str, problem: str) -> Kind:
    """In which way an expectation fails, without numbers that change with the rooms; () where it is met."""
    if not problem:
        return ()
    if label == expectations.CHECK:
        places = re.findall(r'File "([^"]+)", line (\d+)', problem)
        errors = re.findall(r"^([A-Za-z_][\w.]*)(?::|$)", problem, re.MULTILINE)
        raised = [error for error in errors if error != "Traceback"]
        return ("check", *places[-1:], *raised[-1:])
    found, expected = re.match(r"found ([\d,]+) ", problem), re.search(r"→ ([\d,]+) ", label)
    if found and expected:
        rooms, wanted = (int(number[1].replace(",", "")) for number in (found, expected))
        return ("number", "none" if rooms == 0 else "more" if rooms > wanted else "fewer")
    if "missing: " in problem or "not expected: " in problem:
        missing = re.search(r"missing: ([^;]*)", problem)
        return ("codes", missing and missing[1], "not expected: " in problem)
    return ("other", re.sub(r"\d+|[0-9a-f-]{36}", "…", problem.split(":")[0]))


class Recorder:
    """Django's test client, which notes the codes of the rooms that are requested."""

    def __init__(self) -> None:
        self.client = expectations.client()
        self.codes: dict[str, None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get(self, path: str, *args: Any, **kwargs: Any) -> Any:
        response = self.client.get(path, *args, **kwargs)
        self.note(response)
        if wider := wider_path(path):  # more of the rooms that the request is about
            self.note(self.client.get(wider))
        return response

    def note(self, response: Any) -> None:
        if not response.streaming and len(self.codes) < MOST_CODES:
            self.codes.update(dict.fromkeys(CODE.findall(response.content.decode(errors="replace"))))


def wider_path(path: str) -> str:
    """The JSON list with the same filters and REQUESTED rooms; "" for another path."""
    plain, _, query = path.partition("?")
    if not re.fullmatch(r"/rooms(\.\w+|/stats|/clusters)?", plain):
        return ""
    kept = [part for part in query.split("&") if part.partition("=")[0] not in {"", "limit", "count", "zoom"}]
    return f"/rooms.json?{'&'.join([*kept, f'limit={REQUESTED}'])}"


def failing(of_scenario: Held, expected: list[Expectation], only: str) -> tuple[Expectation, str, list[str]]:
    """
    The first expectation that fails, its problem and the codes of the rooms that it requests.

    FlakyError where it doesn't fail each time in the same way, ScenarioError where none fails.
    """
    with django_on(of_scenario.loaded().name):
        for expectation in expected:
            if only and only not in expectation.label:
                continue
            recorder = Recorder()
            problem = expectation.problem(cast("Client", recorder))
            kinds = {kind(expectation.label, problem)}
            if problem:
                client = expectations.client()
                kinds |= {kind(expectation.label, expectation.problem(client)) for _ in range(REPEATS - 1)}
                if len(kinds) > 1:
                    raise FlakyError(
                        f"{expectation.label} fails only sometimes, or each time in another way, so it "
                        "cannot be shrunk. Next: find what it depends on beside the rooms: order, chance, "
                        "the clock."
                    )
                return expectation, problem, list(recorder.codes)
    raise ScenarioError(
        f"Nothing fails that scenario {of_scenario.alias} expects{f' of {only}' if only else ''}, so "
        f"there is nothing to shrink. Next: ./manage.py load_scenario {of_scenario.scenario}"
    )
