"""
REPLICAS=automatic: Patroni, which decides which server is the primary, and etcd, by which its nodes agree.

deploy/patroni/node and deploy/patroni/etcd are the entry points in the containers.
"""

from deploy.operations import process
from deploy.operations.docker import SERVERS, Docker
from deploy.operations.project import Project
from deploy.operations.report import Failure

OVERLAY = "deploy/compose.ha.yml"
"""On top of that of the replicas."""

ETCD = ("etcd1", "etcd2", "etcd3")
PASSWORD = "patroni_password"  # noqa: S105 - a file's name
"""The file of deploy/secrets: of etcd, and of Patroni's REST interface."""

PAUSED = "Maintenance mode: on"
ACHIEVED = {
    "pause": ("Success: cluster management is paused", "Cluster is already paused"),
    "resume": ("Success: cluster management is resumed", "Cluster is not paused"),
}
"""
What `patronictl pause` and `resume` say where it is so. Where a node refuses, as one does which has not taken
its new password yet, they end without an error.
"""


def refuse(project: Project) -> None:
    """Failure where .env asks for what Patroni cannot do, or does not begin with."""
    if project.primary != "db":
        raise Failure(
            f"REPLICAS=automatic begins with db, and {project.primary} is the primary; nothing was changed",
            "REPLICAS=on, ./deploy/rentomatic promote db, then REPLICAS=automatic",
        )
    if project.setting("PITR", "off") != "off":
        raise Failure(
            "PITR=on receives from a primary that changes only by `promote`; nothing was changed",
            "PITR=off with REPLICAS=automatic, or REPLICAS=on with PITR=on",
        )


def etcd_answers(docker: Docker, name: str) -> bool:
    """Whether an etcd answers, which takes a majority of them."""
    try:
        command = ["exec", docker.running(name), "sh", "/etcd.sh", "health"]
    except Failure:
        return False
    return bool(docker(*command, check=False, timeout=10))


def control(docker: Docker, *words: str) -> process.Done:
    """`patronictl WORDS` beside the primary."""
    return docker("exec", docker.running(docker.primary), "patronictl", *words, check=False, timeout=60)


def is_paused(docker: Docker) -> bool:
    """Whether Patroni was told to change nothing by itself; False where it cannot be asked."""
    try:
        return PAUSED in control(docker, "list").stdout
    except Failure:
        return False


# --- Its password


def take_password(docker: Docker, password: str) -> None:
    """
    Let etcd and the nodes have another password, the file of the secret last; safe to repeat.

    Patroni is paused meanwhile: the nodes cannot read etcd for the moment between both, in which a primary
    would make itself a replica.
    """
    etcd, databases = docker.running(ETCD[0]), [docker.running(name) for name in SERVERS]
    changed = offer(docker, etcd, "has-password", password)
    try:
        if not changed:
            change(docker, "pause")
        with process.held():
            changed = changed or offer(docker, etcd, "take-password", password)
            if changed:
                for container in databases:
                    docker("exec", "-i", container, "sh", "/node.sh", "take-password", text=password)
                docker.project.write_secret(PASSWORD, password)
    finally:
        change(docker, "resume")
    if not changed:
        raise Failure(
            "etcd does not take another password; nothing was changed",
            "docker compose logs --tail 20 etcd1 etcd2 etcd3",
        )


def offer(docker: Docker, etcd: str, function: str, password: str) -> bool:
    """A function of deploy/patroni/etcd that reads a password from stdin."""
    command = ["exec", "-i", etcd, "sh", "/etcd.sh", function]
    return bool(docker(*command, check=False, text=password, timeout=30))


def change(docker: Docker, action: str) -> None:
    """`pause` or `resume`, until each node knows it."""
    said: list[str] = []

    def is_done() -> bool:
        done = control(docker, action, "--wait")
        said.append(done.text)
        return any(words in done.text for words in ACHIEVED[action])

    if not process.wait_for(is_done, 30, 1):
        raise Failure(
            f"Patroni does not {action}: {said[-1][-500:]}",
            f"docker compose exec {docker.primary} patronictl {action} --wait",
        )
