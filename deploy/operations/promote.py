"""`promote`: a replica of the database becomes the primary."""

import argparse
import time
from typing import Any

from deploy.operations import nodes, pitr, pooling, process, wal
from deploy.operations.database import Database
from deploy.operations.docker import Docker
from deploy.operations.nodes import NODES, Node
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Make a replica of the database the primary; with REPLICAS=on in .env.

It takes NODE or, where no server accepts writes, the replica that has received most. The primary is stopped
first and marked as a replica, so that it cannot write any more, whenever it starts. Where it still answers it
is stopped cleanly, and no acknowledged write is lost. Where it is dead, what the replica has not received is
lost; 1 MB and more is refused without --accept. Then the replica is promoted, .env names it
(DATABASE_SERVICE), and the former primary comes back as its replica, by pg_rewind or a new copy. Searches go
on; what is written meanwhile is 503 with Retry-After.

When it fails before the promotion everything is as it was. It may be repeated: what was begun is finished.
Without NODE it changes no primary that accepts writes."""

FAR_BEHIND = 2**20
"""Bytes of WAL that may be lost without --accept, or that a living primary may still have to send."""

AS_REPLICA = wal.LOOK + 'touch "$PGDATA/standby.signal" && sync "$PGDATA/standby.signal"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "node", nargs="?", choices=NODES, metavar="NODE", help=f"this one: {', '.join(NODES)}"
    )
    parser.add_argument("--accept", action="store_true", help="also one that is far behind, or not connected")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    if not nodes.wanted(project):
        raise Failure(
            "there are no replicas; nothing was changed", "REPLICAS=on in .env, ./deploy/rentomatic apply"
        )
    if project.automatic:
        raise Failure(
            "Patroni decides which server is the primary (REPLICAS=automatic); nothing was changed",
            "docker compose exec db patronictl switchover",
        )
    with project.lock("promote", options.wait):
        Promotion(Docker(project), report, accept=options.accept).run(options.node, dry=options.dry_run)


class Promotion:
    """One change of the primary."""

    def __init__(self, docker: Docker, report: Report, *, accept: bool) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.accept = accept
        self.began = time.monotonic()
        self.stopped: list[str] = []
        """The container that ran until then."""

    def run(self, wanted: str | None, *, dry: bool) -> None:
        found = {one.name: one for one in nodes.look_at_all(self.docker)}
        former = self.primary(found)
        others = [name for name in found if name != former.name]
        if former.accepts_writes and wanted in {None, former.name}:
            self.stay(former, others, dry=dry)
            return
        coming = self.choose(found, former, wanted)
        self.report.data |= {"primary": coming.name, "former": former.name}
        if former.accepts_writes:
            self.expect_it_follows(coming, former)
        if dry:
            how = "stop it cleanly" if former.answers else "make sure that it is stopped"
            self.report.say(
                f"Would make {coming.name} the primary in the place of {former.name}, and {how} first."
            )
            return
        with process.held():
            self.change_over(coming, former)
        self.bring_back(coming, [name for name in found if name != coming.name])

    def stay(self, primary: Node, others: list[str], *, dry: bool) -> None:
        """Finish what an interrupted promotion has left; nothing where the others follow."""
        self.report.say(
            f"{primary.name} accepts writes and stays the primary. For another one: "
            f"./deploy/rentomatic promote {others[0]}"
        )
        self.report.data |= {"primary": primary.name, "former": primary.name}
        if not dry:
            self.record(primary.name)
            self.bring_back(primary, others)

    def primary(self, found: dict[str, Node]) -> Node:
        """The one that accepts writes or, where none does, the one of .env."""
        writing = [one for one in found.values() if one.accepts_writes]
        if len(writing) > 1:
            raise Failure(
                f"{' and '.join(one.name for one in writing)} accept writes; nothing was changed",
                "docker compose stop the one that was not promoted last",
            )
        return writing[0] if writing else found[self.project.primary]

    def choose(self, found: dict[str, Node], former: Node, wanted: str | None) -> Node:
        """The replica that was asked for, else the one that has most; Failure where it cannot be."""
        replicas = [one for one in found.values() if one.is_replica]
        if former.is_replica and wanted != former.name and len(replicas) > 1:
            replicas.remove(former)  # a promotion was killed after that one was stopped
        if not replicas:
            raise Failure(
                "no replica answers; nothing was changed",
                "docker compose up -d, docker compose logs --tail 20",
            )
        most = max(replicas, key=lambda one: one.has)
        coming = found[wanted] if wanted else most
        if not coming.is_replica:
            raise Failure(
                f"{coming.name} does not answer; nothing was changed",
                f"./deploy/rentomatic promote {most.name}",
            )
        if coming.system != most.system or (former.answers and coming.system != former.system):
            raise Failure(
                f"{coming.name} is of another cluster; nothing was changed", "./deploy/rentomatic doctor"
            )
        if coming.timeline != most.timeline:
            raise Failure(
                f"{coming.name} lacks what was written since timeline {int(most.timeline, 16)} began, "
                f"to which {most.name} has followed; nothing was changed",
                f"./deploy/rentomatic promote {most.name}",
            )
        if most.place - coming.place > 0:
            self.refuse(
                f"{coming.name} has {most.place - coming.place:,} bytes of WAL less than {most.name}",
                f"./deploy/rentomatic promote {most.name}",
                severe=not former.answers,
            )
        return coming

    def refuse(self, reason: str, otherwise: str, *, severe: bool = True) -> None:
        """Failure without --accept; what is not severe is not even said."""
        if not severe:
            return
        if not self.accept:
            raise Failure(f"{reason}; nothing was changed", f"{otherwise}; or promote with --accept")
        self.report.warn(reason)

    def expect_it_follows(self, coming: Node, former: Node) -> None:
        behind = former.place - coming.place
        if not coming.streams:
            self.refuse(
                f"{coming.name} receives nothing from {former.name}, {behind:,} bytes of WAL would be lost",
                "./deploy/rentomatic doctor",
            )
        elif behind > FAR_BEHIND:
            self.refuse(
                f"{coming.name} is {behind:,} bytes of WAL behind {former.name}", "wait until it has them"
            )

    # --- The change

    def change_over(self, coming: Node, former: Node) -> None:
        """The former primary cannot write any more before the other one can."""
        self.stop(former)
        try:
            stopped = self.mark_as_replica(former)
            self.expect_nothing_is_lost(coming, former, stopped)
        except Failure as failure:
            self.start_again(former)
            raise Failure(f"{failure.reason}; everything is as it was", failure.next_step) from None
        self.report.step(f"Promoting {coming.name} …")
        database = Database(self.docker, self.docker.running(coming.name))
        if stopped:
            self.pass_over(database.container, coming.timeline, stopped.timeline)
        asked = time.monotonic()
        # The second statement is a write, and is on the disk when it returns.
        done = database.execute(
            "SELECT pg_promote(true, 60)",
            "SELECT pg_logical_emit_message(true, 'promote', '')",
            check=False,
            timeout=90,
        )
        if not done:
            raise Failure(
                f"{coming.name} was not promoted within 60 s, and {former.name} is stopped",
                f"docker compose logs --tail 20 {coming.name}, then ./deploy/rentomatic promote",
            )
        seconds = time.monotonic() - asked
        self.record(coming.name)
        self.project.note("promote", primary=coming.name, former=former.name)
        if pitr.wanted(self.project):
            pitr.begin_timeline(self.docker, database.container)
        pooling.follow(self.docker, self.report)
        self.report.data |= {
            "seconds_of_promotion": round(seconds, 2),
            "seconds_to_writes": round(time.monotonic() - self.began, 2),
        }
        self.report.say(f"{coming.name} accepts writes, {seconds:.1f} s after it was asked to.")

    def pass_over(self, container: str, after: str, last: str) -> None:
        """Let the new timeline have none of these numbers: PostgreSQL takes one without a history."""
        names = [f"{number:08X}.history" for number in range(int(after, 16) + 1, int(last, 16) + 1)]
        if names:
            script = 'cd "$PGDATA/pg_wal" && touch "$@"'
            self.docker("exec", "--user", "postgres", container, "sh", "-c", script, "sh", *names)

    def record(self, name: str) -> None:
        """Where commands find the primary from now on."""
        if self.project.primary != name:
            self.project.record("DATABASE_SERVICE", None if name == "db" else name)

    def stop(self, former: Node) -> None:
        running = [one["Id"] for one in self.inspected(former) if one["State"]["Running"]]
        if not running:
            return
        self.stopped = running
        if former.answers:
            self.report.step(f"Stopping {former.name} …")
            self.docker("stop", "--time", "60", *running)
        else:
            self.report.step(f"Killing {former.name}, which does not answer …")
            self.docker("kill", *running, check=False)
        if any(one["State"]["Running"] for one in self.inspected(former)):
            raise Failure(
                f"{former.name} could not be stopped, and would go on to write; nothing was promoted",
                f"docker kill {running[0][:12]}, then ./deploy/rentomatic promote",
            )

    def inspected(self, node: Node) -> list[dict[str, Any]]:
        return self.docker.inspect(*self.docker.containers(node.name))

    def in_its_volume(self, former: Node, script: str, timeout: float = 60) -> process.Done | None:
        """Run a script beside the data of a node that is stopped; None where it has no container any more."""
        containers = self.docker.containers(former.name)
        if not containers:
            return None
        (container,) = self.docker.inspect(containers[0])
        words = ["run", "--rm", "--network", "none", "--volumes-from", containers[0], "--user", "postgres"]
        words += ["--env", next(line for line in container["Config"]["Env"] if line.startswith("PGDATA="))]
        image = container["Config"]["Image"]
        return self.docker(*words, "--entrypoint", "sh", image, "-c", script, check=False, timeout=timeout)

    def mark_as_replica(self, former: Node) -> wal.Stopped | None:
        """Whenever it starts, it is a replica; what its data say of its WAL, None where they are lost."""
        done = self.in_its_volume(former, AS_REPLICA)
        if done is None:
            return None
        if not done:
            self.refuse(f"the data of {former.name} cannot be read: {done.text[-300:]}", "df -h")
            return None
        return wal.stopped(done.stdout)

    def expect_nothing_is_lost(self, coming: Node, former: Node, stopped: wal.Stopped | None) -> None:
        if not stopped:
            self.report.warn(f"{former.name} is lost, and with it what {coming.name} had not received")
            return
        deadline = time.monotonic() + 30
        while not (now := nodes.look(self.docker, coming.name)).answers:
            if time.monotonic() > deadline:
                raise Failure(f"{coming.name} does not answer any more")
        received = stopped.shared(now.timeline, now.place)
        again = f"docker compose up -d {former.name}, if it can start"
        try:
            lost = max(0, self.written(former, stopped) - received)
        except ValueError as error:
            self.refuse(f"where the WAL of {former.name} ends cannot be read ({error})", again)
            return
        self.report.data["lost_bytes"] = lost
        if former.answers:
            if lost:
                raise Failure(f"{coming.name} has not received the last {lost:,} bytes of WAL")
        elif lost:
            reason = (
                f"{lost:,} bytes of WAL of {former.name} would be lost: "
                f"{coming.name} ends at {wal.lsn(received)}"
            )
            elsewhere = now.timeline != stopped.timeline  # there may be another one that has followed
            self.refuse(reason, again, severe=elsewhere or lost >= FAR_BEHIND)
            self.report.warn(f"{lost:,} bytes of WAL are lost that {coming.name} had not received")

    def written(self, former: Node, stopped: wal.Stopped) -> int:
        """Where the WAL of a stopped server ends; ValueError where that cannot be read."""
        if stopped.cleanly:
            return stopped.start  # its last record; the replica has it where it has received beyond
        words = f"--timeline {int(stopped.timeline, 16)} --start {wal.lsn(stopped.start)}"
        done = self.in_its_volume(former, f'pg_waldump --quiet --path "$PGDATA/pg_wal" {words}', timeout=600)
        said = done.stderr.strip() if done is not None else "it has no container any more"
        end = wal.end(said)
        if end is None:
            raise ValueError(said[-300:])
        return end

    def start_again(self, former: Node) -> None:
        """A promotion that did not come: the former primary is one again."""
        self.in_its_volume(former, 'rm -f "$PGDATA/standby.signal"')
        if self.stopped:
            self.docker("start", *self.stopped, check=False)

    # --- Afterwards

    def bring_back(self, coming: Node, others: list[str]) -> None:
        began = time.monotonic()
        self.report.step(f"Bringing back {', '.join(others)} …")
        for name in others:
            self.docker.compose("up", "--detach", "--no-deps", "--no-recreate", name, check=False)
        away = list(others)

        def all_follow() -> bool:
            away[:] = [name for name in others if not nodes.look(self.docker, name).streams]
            return not away

        process.wait_for(all_follow, 120, 0.3)
        for name in set(others) - set(away):
            pitr.retire(self.docker, self.docker.running(name))  # of the time when it was the primary
        seconds = time.monotonic() - began
        self.report.data |= {"seconds_to_replicas": round(seconds, 2), "away": away}
        if away:
            self.report.warn(
                f"{', '.join(away)} does not follow {coming.name} yet. Next: docker compose logs --tail 20 "
                f"{away[0]}"
            )
        self.report.say(f"Done: {coming.name} is the primary; {len(others) - len(away)} replicas follow it.")
