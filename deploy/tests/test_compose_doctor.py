"""`doctor` on the stack of test_compose.py: something is broken for real, and just its check says so."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy.operations.setup import self_signed
from deploy.tests.stack import Stack
from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose

RANK = {"skipped": 0, "ok": 0, "warning": 1, "error": 2}


def levels(stack: Stack) -> dict[str, str]:
    """What each check finds, but those that the load of the host changes, too."""
    done = stack.run("./deploy/rentomatic", "doctor", "--json", check=False)
    checks = json.loads(done.stdout)["checks"]
    return {
        one["name"]: one["level"]
        for one in checks
        if one["name"] not in {"disk", "memory", "clock", "health"}
    }


def setting(name: str, value: str) -> Callable[[Stack], Iterator[None]]:
    """A variable of .env that was changed and not applied."""

    def change(stack: Stack) -> Iterator[None]:
        file = stack.folder / ".env"
        before = file.read_text()  # a variable that it lacks is not the same as an empty one
        stack.set(name, value)
        yield
        file.write_text(before)

    return change


def statement(breaking: str, mending: str) -> Callable[[Stack], Iterator[None]]:
    """Statements, each in a transaction of its own, of which one may fail."""

    def execute(stack: Stack, text: str) -> None:
        words = [word for one in text.split("; ") for word in ("-c", one)]
        stack.inside("db", "psql", "-U", "postgres", "-d", "application", *words, check=False)

    def change(stack: Stack) -> Iterator[None]:
        execute(stack, breaking)
        yield
        execute(stack, mending)

    return change


def certificate(host: str, days: int, *parts: str) -> Callable[[Stack], Iterator[None]]:
    """Another certificate, its key, or both, in the place of those that nginx has loaded."""

    def change(stack: Stack) -> Iterator[None]:
        folder = stack.folder / "deploy" / "certificates"
        new = {"chain": folder / "other.pem", "key": folder / "other.key"}
        old = {"chain": folder / "fullchain.pem", "key": folder / "privkey.pem"}
        self_signed(host, new["chain"], new["key"], days)
        before = {part: old[part].read_bytes() for part in parts}
        for part in parts:
            old[part].write_bytes(new[part].read_bytes())  # the owner stays, who alone may read the key
        yield
        for part in parts:
            old[part].write_bytes(before[part])
        for path in new.values():
            path.unlink()

    return change


BREAKS: dict[str, tuple[Callable[[Stack], Iterator[None]], set[str]]] = {
    "dns": (
        setting("SITE_HOST", "rooms.invalid"),
        {"certificate-host", "definitions", "answer", "cache", "login", "static-files", "certificate-served"},
    ),
    "image": (setting("IMAGE", "another:image"), {"definitions"}),
    "definitions": (setting("STATEMENT_TIMEOUT", "4321"), set()),
    "connections": (setting("WEB_REPLICAS", "20"), set()),
    "certificate-host": (certificate("other.example.com", 90, "chain", "key"), {"certificate-served"}),
    "certificate-chain": (certificate("localhost", 90, "key"), set()),
    "certificate-days": (certificate("localhost", 7, "chain", "key"), {"certificate-served"}),
    "certificate-served": (certificate("localhost", 90, "chain", "key"), set()),
    "slots": (
        statement(
            "SELECT pg_create_physical_replication_slot('forgotten', true)",
            "SELECT pg_drop_replication_slot('forgotten')",
        ),
        set(),
    ),
}
"""By the check: what breaks and mends, and the checks that have to notice it too."""


@pytest.mark.parametrize("check", BREAKS)
def test_a_check_says_what_is_broken_and_the_others_do_not(stack, check):
    breaking, also = BREAKS[check]
    before = levels(stack)
    with contextmanager(breaking)(stack):
        broken = levels(stack)
    worse = {name for name in before if RANK[broken[name]] > RANK[before[name]]}
    assert check in worse
    assert worse <= {check, *also}
    rig.wait_until(lambda: levels(stack)[check] == before[check], f"{check} as before", 120)
