"""The primary and its replicas (REPLICAS), by what each says of itself."""

from deploy.operations.doctor.finding import Finding, error, ok, warning
from deploy.operations.nodes import Node

BEGIN_ANEW = "docker compose rm --stop --force {0}; docker volume rm the one of {0}; docker compose up -d {0}"


def one_primary(found: list[Node], recorded: str, *, automatic: bool) -> Finding:
    """Exactly one server accepts writes, and it is the one of .env, or the one that Patroni has chosen."""
    writing = [one.name for one in found if one.accepts_writes]
    if not writing:
        answering = next((one.name for one in found if one.answers), found[0].name)
        command = (
            f"docker compose exec {answering} patronictl list" if automatic else "./deploy/rentomatic promote"
        )
        return error("no server accepts writes; searches go on", command)
    if len(writing) > 1:
        others = [name for name in writing if name != recorded]
        return error(
            f"{' and '.join(writing)} accept writes: what one gets the other does not have",
            f"docker compose stop {' '.join(others)}",
        )
    if writing != [recorded]:
        return error(
            f"{writing[0]} accepts writes, and .env says {recorded}",
            f"./deploy/rentomatic promote {writing[0]}",
        )
    return ok(f"{recorded} is the primary, and no other server accepts writes")


def followers(found: list[Node], most_behind: int) -> Finding:
    """Each replica follows the primary; `most_behind` in bytes of WAL."""
    primary = next((one for one in found if one.accepts_writes), None)
    replicas = [one for one in found if one is not primary]
    faults = {one.name: fault for one in replicas if (fault := fault_of(one, primary))}
    if faults:
        text = "; ".join(f"{name} {fault}" for name, fault in faults.items())
        if len(faults) == len(replicas):
            text = f"no replica is left: {text}"
        return error(text, command_for(*next(iter(faults.items()))))
    behind = {one.name: primary.place - one.shown for one in replicas} if primary else {}
    late = {name: lag for name, lag in behind.items() if lag > most_behind}
    if late:
        return warning(
            ", ".join(f"{name} is {lag:,} bytes behind, and is not read" for name, lag in late.items()),
            f"docker compose logs --tail 20 {next(iter(late))}",
        )
    return ok(f"{len(replicas)} replicas follow, at most {max(behind.values(), default=0):,} bytes behind")


ANOTHER_CLUSTER = "is of another cluster than the primary"


def fault_of(replica: Node, primary: Node | None) -> str:
    """Why a replica is none; empty where it is one, or where there is no primary to follow."""
    if not replica.answers:
        return "does not answer"
    if primary is None:
        return ""
    if replica.system != primary.system:
        return ANOTHER_CLUSTER
    if replica.version != primary.version:
        return f"is PostgreSQL {replica.version}, the primary is {primary.version}"
    if replica.accepts_writes:
        return "accepts writes"
    return "" if replica.streams else "receives nothing from the primary"


def command_for(name: str, fault: str) -> str:
    if fault == ANOTHER_CLUSTER:
        return BEGIN_ANEW.format(name)
    if fault == "accepts writes":
        return f"docker compose stop {name}"
    return f"docker compose up -d {name}; docker compose logs --tail 20 {name}"


def etcd(found: dict[str, bool]) -> Finding:
    """`found`: of each etcd whether it answers."""
    away = [name for name, answers in found.items() if not answers]
    if not away:
        return ok(f"{len(found)} of {len(found)} etcd answer")
    command = f"docker compose up -d {' '.join(away)}; docker compose logs --tail 20 {away[0]}"
    if len(away) <= (len(found) - 1) // 2:
        return warning(
            f"{', '.join(away)} does not answer; without another one no server accepts writes", command
        )
    return error("etcd has no majority, so that no server accepts writes; searches go on", command)


def failover(primary: str, *, paused: bool) -> Finding:
    """Whether another server would become the primary by itself."""
    if paused:
        return error(
            "Patroni is paused: where the primary dies no other server takes its place",
            f"docker compose exec {primary} patronictl resume --wait",
        )
    return ok("Patroni makes another server the primary where this one dies")


def logins(errors: dict[str, str]) -> Finding:
    """`errors`: of each server that cannot log in at the primary as its replica, what that says."""
    if errors:
        name, text = next(iter(errors.items()))
        return error(
            f"{', '.join(errors)} cannot log in at the primary: {text.strip().splitlines()[0][:200]}",
            "docker compose restart the primary, which takes the password of deploy/secrets; then "
            f"docker compose restart {name}",
        )
    return ok("each replica can log in at the primary")
