"""The containers, from what `docker inspect` says of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.operations.doctor.finding import Finding, error, ok, warning

Containers = list[dict[str, Any]]


def name(container: dict[str, Any]) -> str:
    return str(container["Name"]).lstrip("/")


def service(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"].get("com.docker.compose.service", ""))


def time_of(text: str) -> datetime:
    """Docker writes nanoseconds, which Python does not read."""
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)


def running(containers: Containers, services: set[str]) -> Finding:
    missing = sorted(services - {service(one) for one in containers if one["State"]["Running"]})
    if missing:
        return error(f"{', '.join(missing)} is not running", "docker compose up -d --wait")
    return ok(f"{len(containers)} containers of {', '.join(sorted(services))} run")


def restart_loops(containers: Containers, now: datetime) -> Finding:
    """More than three restarts, the last one within ten minutes."""
    looping = [
        one
        for one in containers
        if one["RestartCount"] > 3 and now - time_of(one["State"]["StartedAt"]) < timedelta(minutes=10)
    ]
    if looping:
        shown = ", ".join(f"{name(one)} ({one['RestartCount']} times)" for one in looping)
        return error(f"starts over and over: {shown}", f"docker logs --tail 20 {name(looping[0])}")
    return ok("no container starts over and over")


def memory_kills(containers: Containers, kills: dict[str, int]) -> Finding:
    """`kills` counts, by the container's id, the processes that the kernel has killed (memory.events)."""
    killed = [one for one in containers if one["State"].get("OOMKilled") or kills.get(one["Id"])]
    if killed:
        shown = ", ".join(f"{name(one)} ({kills.get(one['Id'], 1)})" for one in killed)
        return warning(
            f"the kernel has killed processes for lack of memory: {shown}",
            "docker stats --no-stream; a larger mem_limit in compose.yml, then ./deploy/rentomatic apply",
        )
    return ok("no process was killed for lack of memory")


def health(containers: Containers) -> Finding:
    ill = [one for one in containers if one["State"].get("Health", {}).get("Status", "healthy") != "healthy"]
    if ill:
        shown = ", ".join(f"{name(one)} ({one['State']['Health']['Status']})" for one in ill)
        logs = ill[0]["State"]["Health"].get("Log") or [{}]
        reason = str(logs[-1].get("Output", "")).strip().splitlines()[:1]
        text = f"not healthy: {shown}" + (f": {reason[0][:200]}" if reason else "")
        if all(one["State"]["Health"]["Status"] == "starting" for one in ill):
            return warning(text, "docker compose up -d --wait")
        return error(text, f"docker logs --tail 20 {name(ill[0])}")
    return ok("all containers are healthy")


def image(containers: Containers, recorded: str) -> Finding:
    other = [one for one in containers if service(one) == "web" and one["Config"]["Image"] != recorded]
    if other:
        return error(
            f"{name(other[0])} is of {other[0]['Config']['Image']}, and .env says {recorded}",
            "./deploy/rentomatic apply --force",
        )
    return ok(f"every replica is of {recorded}")


def definitions(containers: Containers, hashes: dict[str, str]) -> Finding:
    """Whether the containers are what compose.yml and .env say."""
    label = "com.docker.compose.config-hash"
    different = {
        service(one) for one in containers if one["Config"]["Labels"].get(label) != hashes.get(service(one))
    }
    if different:
        return warning(
            f"{', '.join(sorted(different))} is not what .env and compose.yml say",
            "./deploy/rentomatic apply --dry-run",
        )
    return ok("what runs is what .env and compose.yml say")


def leftovers(things: dict[str, str]) -> Finding:
    """What is left of commands that were killed, each with the command that removes it."""
    if things:
        return warning(f"left behind: {', '.join(things)}", "; ".join(dict.fromkeys(things.values())))
    return ok("nothing is left of commands that were killed")
