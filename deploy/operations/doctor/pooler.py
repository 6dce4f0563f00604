"""The pooler (POOLER=on), by what its own console says."""

from collections.abc import Callable
from typing import Any

from deploy.operations.doctor.finding import Finding, error, ok, warning
from deploy.operations.pooling import CONSOLE
from deploy.operations.process import Done
from deploy.operations.report import Failure

Console = Callable[[str], list[dict[str, Any]]]
"""Failure where it does not answer."""

START = "docker compose up -d pooler; docker compose logs --tail 20 pooler"
APPLY = "./deploy/rentomatic apply"
AT_WORK = (
    "docker compose exec db psql -U postgres -c "
    "'SELECT pid, state, now() - xact_start AS since, left(query, 80) AS query FROM pg_stat_activity "
    "WHERE xact_start IS NOT NULL ORDER BY xact_start'; or a larger POOLER_SIZE in .env, then " + APPLY
)
LONG, TOO_LONG = 0.5, 2.5
"""Seconds that a request may wait for a connection; after five it is refused (query_wait_timeout)."""


def version(console: Console) -> str:
    """Such as 1.24.1."""
    return str(console("SHOW VERSION")[0]["version"]).split()[-1]


def settings(console: Console, primary: str, size: int) -> Finding:
    """Whether it answers, and does what .env says: `size` connections to the server `primary`."""
    try:
        found = version(console)
        chosen = {row["key"]: row["value"] for row in console("SHOW CONFIG")}
        databases = [row for row in console("SHOW DATABASES") if row["host"]]  # not that of its console
    except Failure as reason:
        return error(f"the pooler does not answer, and requests are 503: {reason.reason}", START)
    if chosen["pool_mode"] != "transaction":
        return error(
            f"the pool's mode is {chosen['pool_mode']}: a connection serves one client for longer than a "
            "transaction",
            f'{CONSOLE} -c "SET pool_mode = transaction"; deploy/pooler/pgbouncer.ini.template',
        )
    if others := sorted({row["host"] for row in databases} - {primary}):
        return error(f"the pooler leads to {', '.join(others)}, and {primary} is the primary", APPLY)
    if paused := [row["name"] for row in databases if int(row["paused"])]:
        return error(f"the pooler is paused, and requests wait: {', '.join(paused)}", f"{CONSOLE} -c RESUME")
    if int(chosen["default_pool_size"]) != size:
        text = f"the pooler has {chosen['default_pool_size']} connections, and .env says {size}"
        return warning(text, APPLY)
    return ok(f"PgBouncer {found} shares out {size} connections to {primary}, for a transaction each")


def clients(console: Console, database: str) -> Finding:
    """Whether requests wait for a connection."""
    pools = [row for row in console("SHOW POOLS") if row["database"] == database]
    waiting = sum(int(row["cl_waiting"]) for row in pools)
    at_work = sum(int(row["sv_active"]) for row in pools)
    connected = waiting + sum(int(row["cl_active"]) for row in pools)
    seconds = max((int(row["maxwait"]) + int(row["maxwait_us"]) / 10**6 for row in pools), default=0)
    text = f"{connected} clients, {at_work} connections at work"
    if not waiting or seconds < LONG:
        return ok(f"{text}, {waiting} clients wait")
    text = f"{text}, and {waiting} clients wait, the first for {seconds:.1f} s"
    return error(text, AT_WORK) if seconds >= TOO_LONG else warning(text, AT_WORK)


def refusal(done: Done, role: str) -> str:
    """Why the pooler does not learn who may log in, from its own query; empty where it does."""
    if not done:
        return done.text or "no response"
    return "" if done.stdout.split() == [role] else f"there is no role {role} that may log in"


def login(refused: str) -> Finding:
    if refused:
        return error(
            f"nobody can log in at the pooler anew: {refused.strip().splitlines()[0][:200]}",
            f"{APPLY}; else {START}",
        )
    return ok("the pooler learns from the server who may log in")
