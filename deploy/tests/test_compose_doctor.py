"""`doctor` on the stack of test_compose.py: something is broken for real, and just its check says so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.operations.setup import self_signed
from deploy.tests.stack import Stack
from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose

RANK = {"skipped": 0, "ok": 0, "warning": 1, "error": 2}


def diagnosis(stack: Stack, *checks: str) -> dict[str, dict[str, str]]:
    """What checks find, by their names; of all, without those that the load of the host changes, too."""
    found = stack.findings(*checks)
    return {name: one for name, one in found.items() if name not in {"disk", "memory", "clock", "health"}}


def setting(name: str, value: str) -> Callable[[Stack], Iterator[None]]:
    """A variable of .env that was changed and not applied."""

    def change(stack: Stack) -> Iterator[None]:
        file = stack.folder / ".env"
        before = file.read_text()  # a variable that it lacks is not the same as an empty one
        stack.set(name, value)
        yield
        file.write_text(before)

    return change


def statement(
    breaking: str, mending: str, database: str = "application"
) -> Callable[[Stack], Iterator[None]]:
    """Statements, each in a transaction of its own, of which one may fail."""

    def execute(stack: Stack, text: str) -> None:
        words = [word for one in text.split("; ") for word in ("-c", one)]
        stack.inside("db", "psql", "-U", "postgres", "-d", database, *words, check=False)

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


def nginx(stack: Stack) -> dict:
    (container,) = stack.containers("nginx")
    return container


def stopped(stack: Stack) -> Iterator[None]:
    stack.run("docker", "kill", nginx(stack)["Id"])
    yield
    stack.up()


def killed_over_and_over(stack: Stack) -> Iterator[None]:
    for number in range(4):
        stack.kill("nginx")
        rig.wait_until(
            lambda number=number: nginx(stack)["RestartCount"] == number + 1,
            "a restart by the engine",
            60,
        )
    stack.up()
    yield
    stack.compose("restart", "nginx")
    stack.up()


def killed_for_memory(stack: Stack) -> Iterator[None]:
    stack.inside("nginx", "tail", "/dev/zero", check=False)
    yield
    stack.up("--force-recreate", "nginx")


def old_backup(stack: Stack) -> Iterator[None]:
    """The newest is eight days old."""
    folder = stack.folder / "deploy/backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    newer = {path: path.with_name(f"hidden-{path.name}") for path in folder.glob("rentomatic-*")}
    for path, hidden in newer.items():
        path.rename(hidden)
    old = Path(folder, f"rentomatic-{datetime.now(UTC) - timedelta(days=8):%Y%m%dT%H%M%SZ}.dump")
    old.touch()
    yield
    for path in {old, *folder.glob("rentomatic-*")}:
        path.unlink()
    for path, hidden in newer.items():
        hidden.rename(path)


FILLED = "CREATE TABLE broken (n int) WITH (autovacuum_enabled = off); INSERT INTO broken SELECT {}"

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
    "running": (
        stopped,
        {"ports", "answer", "cache", "login", "static-files", "certificate-served"},
    ),
    "restarts": (killed_over_and_over, set()),
    "memory-kills": (killed_for_memory, set()),
    "backup": (old_backup, set()),
    "database": (
        statement("ALTER DATABASE application ALLOW_CONNECTIONS false", "SELECT 1", "postgres"),
        {"migrations", "answer", "cache", "login"},
    ),
    "migrations": (
        statement(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('rooms', '9999_later', now())",
            "DELETE FROM django_migrations WHERE name = '9999_later'",
        ),
        set(),
    ),
    "indexes": (
        statement(
            f"{FILLED.format('n % 2 FROM generate_series(1, 4) AS n')}; "
            "CREATE UNIQUE INDEX CONCURRENTLY broken_n ON broken (n)",
            "DROP TABLE broken",
        ),
        set(),
    ),
    "statistics": (statement(FILLED.format("generate_series(1, 3000)"), "DROP TABLE broken"), set()),
}
"""By the check: what breaks and mends, and the checks that have to notice it too."""

MENDED_BY_COMMAND = {"running", "backup", "database", "slots", "statistics"}
"""Where what doctor says is all that has to be typed."""


@pytest.fixture(scope="module")
def before(stack) -> dict[str, dict[str, str]]:
    return diagnosis(stack)


@pytest.mark.parametrize("check", BREAKS)
def test_a_check_says_what_is_broken_and_the_others_do_not(stack, before, check):
    breaking, also = BREAKS[check]
    with contextmanager(breaking)(stack):
        broken = diagnosis(stack)
        if check in MENDED_BY_COMMAND:
            stack.run("sh", "-c", broken[check]["command"])
            assert diagnosis(stack, check)[check]["level"] == "ok"
    worse = {name for name in before if RANK[broken[name]["level"]] > RANK[before[name]["level"]]}
    assert check in worse
    assert worse <= {check, *also}

    def is_as_before() -> bool:
        found = diagnosis(stack, check, *also)
        return all(found[name]["level"] == before[name]["level"] for name in found)

    rig.wait_until(is_as_before, f"{check} as before", 120)
