"""The locks of the commands that make or drop scenarios: one for a target's name, one for templates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import names


@contextmanager
def lock_target(target: str, say: Callable[[str], None] = lambda line: None) -> Iterator[cursor]:
    """Hold the lock for loading a scenario into the database of that name; yield a server session."""
    what = f"scenario {names.alias_of(target)}"
    with lock(f"rentomatic {what}", what, say) as server:
        yield server


@contextmanager
def lock_templates(scenario: str, say: Callable[[str], None] = lambda line: None) -> Iterator[cursor]:
    """
    Hold the lock of this checkout for loading or dropping the scenario of that name, or ("") for the migrated
    template. A command that needs both locks takes the one of the target first.
    """
    what = f"scenario {scenario}" if scenario else "migrations"
    with lock(f"rentomatic templates {names.digest(scenario)}", what, say) as server:
        yield server


@contextmanager
def lock(name: str, what: str, say: Callable[[str], None]) -> Iterator[cursor]:
    """The advisory lock of that name, by a session that is cancelled when this process is killed."""
    with postgres.advisory_lock(
        name, waiting=lambda: say(f"Waiting for another command that works on {what} …")
    ) as server:
        # Without this PostgreSQL finishes the statement of a client that was killed. Milliseconds.
        server.execute("SET client_connection_check_interval = 50")
        yield server
