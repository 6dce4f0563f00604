"""`rotate`: a new secret in the place of one that serves, without a failed request."""

import argparse
import secrets
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from deploy.operations import environment, nodes, patroni, pitr, pooling, process, seal
from deploy.operations.database import Database, identifier, literal
from deploy.operations.docker import Docker
from deploy.operations.project import Project, parse_time
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report
from deploy.operations.setup import scram

HELP = """\
Put a new secret in the place of one, without a failed request.

secret_key            Signs sessions and page cursors. What the former key has signed stays valid for 15 days,
                      which is longer than a session lives. Replicas are replaced twice.
application_password  The password of the site's role. Replicas are replaced twice; in between they use a role
                      that is removed at the end.
postgres_password     The superuser's password, which only `migrate` uses. No replica is replaced.
archive_password      That of the role which receives the WAL (PITR=on). The receiver begins anew; the server
                      keeps what is written meanwhile, and a base backup that is under way is made again.
pooler_password       That of the pooler's role (POOLER=on), which learns by it who may log in.
replicator_password   That of the role which replicas follow with (REPLICAS). They begin anew one by one; with
                      REPLICAS=automatic the primary does, too, and writes stop for up to 30 s.
patroni_password      That of etcd and of Patroni's interface (REPLICAS=automatic). For some seconds no other
                      server becomes the primary by itself.
backup_key            What backups are encrypted with, the first one too. Former keys open older backups.

When it is interrupted the site goes on; the same command again finishes what was begun."""

SECRETS = (
    "secret_key",
    "application_password",
    "postgres_password",
    "archive_password",
    "pooler_password",
    "replicator_password",
    "patroni_password",
    "backup_key",
)
KEPT = timedelta(days=15)
"""How long a former key is kept: sessions live for ten hours, links to a page stand in notes and mails."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("secret", choices=SECRETS, metavar="SECRET", help=", ".join(SECRETS))


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    with project.lock("rotate", options.wait):
        rotation = Rotation(Docker(project), report)
        if options.dry_run:
            report.say(f"Would make a new {options.secret}; see ./deploy/rentomatic rotate --help.")
            return
        {
            "secret_key": rotation.secret_key,
            "application_password": rotation.application_password,
            "postgres_password": rotation.postgres_password,
            "archive_password": rotation.archive_password,
            "pooler_password": rotation.pooler_password,
            "replicator_password": rotation.replicator_password,
            "patroni_password": rotation.patroni_password,
            "backup_key": rotation.backup_key,
        }[options.secret]()
        project.note("rotate", secret=options.secret)
        report.data["secret"] = options.secret
        report.say(f"Done: {options.secret} is a new one.")


def new_secret() -> str:
    return secrets.token_urlsafe(50)


def still_needed(former: list[str], retired: list[datetime], now: datetime) -> list[str]:
    """
    The former keys that may have signed what is still valid, newest first as given.

    `retired` says when, newest first. One without a date, which somebody has written by hand, is kept.
    """
    dated = dict(enumerate(retired))
    return [key for number, key in enumerate(former) if now - dated.get(number, now) < KEPT]


class Rotation:
    """The rotations of a project's secrets."""

    def __init__(self, docker: Docker, report: Report) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.replicas = Replicas(docker, report)

    def replace_replicas(self, step: str, **variables: str) -> None:
        self.report.step(step)
        self.replicas.remove_leftovers()
        if self.replicas.serving():
            self.replicas.replace(variables=variables)

    def coming(self, name: str) -> Path:
        """The file of a secret that is to take the place of one; where it is there, that was interrupted."""
        return self.project.secrets / f"{name}_next"

    # --- SECRET_KEY

    def secret_key(self) -> None:
        """
        First every replica accepts what the new key signs, then they sign with it.

        In one step a replica with the old key alone would log out whom one with the new key has logged in.
        """
        coming = self.coming("secret_key")
        if not coming.exists():
            environment.replace(coming, new_secret(), 0o600)
        new, old = self.project.secret(coming.name), self.project.secret("secret_key")
        if new != old:
            fallbacks = self.project.secret("secret_key_fallbacks").split(",")
            former = [key for key in fallbacks if key not in ("", new, old)]
            self.project.write_secret("secret_key_fallbacks", ",".join([new, *former]))
            self.replace_replicas("Accepting the new key …")
            kept = still_needed(former, self.rotations(), datetime.now(UTC))
            with process.held():
                self.project.write_secret("secret_key_fallbacks", ",".join([old, *kept]))
                self.project.write_secret("secret_key", new)
        self.replace_replicas("Signing with the new key …")
        coming.unlink()

    def rotations(self) -> list[datetime]:
        """When a key was retired, newest first."""
        return [
            parse_time(note["at"])
            for note in reversed(self.project.notes("rotate"))
            if note.get("secret") == "secret_key"
        ]

    # --- The role of the site

    def application_password(self) -> None:
        """
        PostgreSQL keeps one password for a role, and replicas connect at any moment: no order of "change it
        there" and "replace them" fails none. So they use another role while the password changes.
        """
        database = Database(self.docker)
        role = self.project.role
        other = f"{role}_rotating"
        old = self.project.secret("application_password")
        unfinished = bool(database.rows(f"SELECT 1 FROM pg_roles WHERE rolname = {literal(other)}"))
        if not unfinished:
            with process.held():
                new = new_secret()
                self.make_other_role(database, role, other, new)
                self.project.write_secret("application_password", new)
        new = self.project.secret("application_password")
        try:
            self.replace_replicas(f"Replicas that use the role {other} …", APPLICATION_USER=other)
        except BaseException:
            if not unfinished:
                with process.held():
                    self.project.write_secret("application_password", old)
                    database.execute(f"DROP ROLE {identifier(other)}", check=False)
            raise
        database.execute(f"ALTER ROLE {identifier(role)} PASSWORD {literal(scram(new))}")
        self.replace_replicas(f"Replicas that use {role} again, with the new password …")
        database.execute(f"DROP ROLE IF EXISTS {identifier(other)}")

    def make_other_role(self, database: Database, role: str, other: str, password: str) -> None:
        """A role that logs in with a password of its own and is the site's role from then on."""
        limits = database.rows(
            "SELECT split_part(setting, '=', 1) AS name, substr(setting, strpos(setting, '=') + 1) AS value "
            "FROM pg_db_role_setting, unnest(setconfig) AS setting "
            f"WHERE setrole = {literal(identifier(role))}::regrole AND setdatabase = 0"
        )
        own = identifier(other)
        database.execute(
            f"CREATE ROLE {own} LOGIN PASSWORD {literal(scram(password))} IN ROLE {identifier(role)}",
            # Those of requests, for connections by a pooler.
            *(f"ALTER ROLE {own} SET {identifier(one['name'])} = {literal(one['value'])}" for one in limits),
            f"ALTER ROLE {own} SET role = {literal(role)}",
        )

    # --- The superuser

    def postgres_password(self) -> None:
        """The server first: in its container it asks for no password, so a repetition mends a half."""
        database = Database(self.docker)
        old, old_verifier = self.project.secret("postgres_password"), self.project.secret("postgres_verifier")
        new = new_secret()
        verifier = scram(new)
        with process.held():
            self.set_postgres_password(database, new, verifier)
            tried = self.docker.task("migrate", "./manage.py", "wait_for_db", "--timeout", "10")
            if not tried:
                self.set_postgres_password(database, old, old_verifier)
        if not tried:
            raise Failure(f"nobody can log in with the new password ({tried.text}); the old one is back")

    def set_postgres_password(self, database: Database, password: str, verifier: str) -> None:
        database.execute(f"ALTER ROLE postgres PASSWORD {literal(verifier)}")
        self.project.write_secret("postgres_password", password)
        self.project.write_secret("postgres_verifier", verifier)

    # --- The role of the archive

    def archive_password(self) -> None:
        """The file first, from which the server and the receiver get it: a repetition mends a half."""
        if not pitr.wanted(self.project):
            raise Failure(
                "no WAL is received, so that there is no such password; nothing was changed",
                "PITR=on in .env, then ./deploy/rentomatic apply",
            )
        database = Database(self.docker)
        name = f"{pitr.SLOT}_password"
        old = self.project.secret(name)
        with process.held():
            self.project.write_secret(name, new_secret())
            if reason := self.receive_anew(database):
                self.project.write_secret(name, old)
                self.receive_anew(database)
        if reason:
            raise Failure(
                f"no WAL came with the new password ({reason}); the old one is back",
                "./deploy/rentomatic doctor point-in-time",
            )

    def receive_anew(self, database: Database) -> str:
        """Let a new receiver use the password of the file; why all WAL of now does not come, else empty."""
        pitr.prepare(self.docker)
        (row,) = database.rows("SELECT pg_current_wal_flush_lsn()::text AS place, now()::text AS time")
        # The file is mounted: a running container keeps the former one.
        words = ["up", "--detach", "--no-deps", "--force-recreate", pitr.SLOT]
        up = self.docker.compose(*words, check=False)
        if not up:
            return up.text[-500:]
        received = (
            f"SELECT 1 FROM pg_stat_replication WHERE usename = '{pitr.SLOT}' "
            f"AND backend_start > {literal(row['time'])} AND flush_lsn >= {literal(row['place'])}"
        )
        if process.wait_for(lambda: bool(database.rows(received)), 60):
            return ""
        return self.docker.compose("logs", "--no-log-prefix", "--tail", "1", pitr.SLOT, check=False).text

    # --- The role of the pooler

    def pooler_password(self) -> None:
        """The file first, from which both get it: a repetition mends a half."""
        if not pooling.wanted(self.project):
            raise Failure(
                "there is no pooler, and no such password; nothing was changed",
                "POOLER=on in .env, then ./deploy/rentomatic apply",
            )
        self.docker.running(pooling.SERVICE)  # Failure where it does not run
        with process.held():
            self.project.write_secret(pooling.PASSWORD, new_secret())
            pooling.take_password(self.docker)

    # --- The role of the replicas

    def replicator_password(self) -> None:
        """
        The files and the role first, then the servers that read the files when they start.

        A primary needs it only as a replica, which it becomes by a start; Patroni makes it one while it runs.
        """
        if not nodes.wanted(self.project):
            raise Failure(
                "there are no replicas, and no such password; nothing was changed",
                "REPLICAS=on in .env, then ./deploy/rentomatic apply --accept",
            )
        database = Database(self.docker)
        primary, *others = nodes.services(self.project, self.docker.primary)
        with process.held():
            verifier = nodes.make_password(self.project)
            database.execute(f"ALTER ROLE replicator PASSWORD {literal(verifier)}")
        for name in [*others, *([primary] if self.project.automatic else [])]:
            self.report.step(f"Letting {name} begin anew …")
            self.docker.compose("up", "--detach", "--no-deps", "--force-recreate", name)
            if not process.wait_for(partial(nodes.follows, self.docker, name), 120):
                raise Failure(
                    f"{name} does not follow with the new password; the others do",
                    f"docker compose logs --tail 20 {name}, then the same again",
                )

    # --- Patroni and etcd

    def patroni_password(self) -> None:
        """What runs gets it at once; etcd begins anew one by one, whose health is asked with the file."""
        if not self.project.automatic:
            raise Failure(
                "Patroni does not look after the servers, and has no password; nothing was changed",
                "REPLICAS=automatic in .env, then ./deploy/rentomatic apply --accept",
            )
        coming = self.coming(patroni.PASSWORD)
        if not coming.exists():
            away = [name for name in patroni.ETCD if not patroni.etcd_answers(self.docker, name)]
            if away:
                raise Failure(
                    f"{', '.join(away)} does not answer; nothing was changed",
                    f"docker compose up -d {' '.join(away)}",
                )
            if patroni.is_paused(self.docker):
                raise Failure(
                    "Patroni is paused, and would not be afterwards; nothing was changed",
                    f"docker compose exec {self.docker.primary} patronictl resume --wait",
                )
            environment.replace(coming, new_secret(), 0o600)
        self.report.step("Giving etcd and Patroni the new password …")
        patroni.take_password(self.docker, self.project.secret(coming.name))
        for name in patroni.ETCD:
            self.report.step(f"Letting {name} begin anew …")
            self.docker.compose("up", "--detach", "--no-deps", "--force-recreate", name)
            if not process.wait_for(partial(patroni.etcd_answers, self.docker, name), 60):
                raise Failure(
                    f"{name} does not answer with the new password",
                    f"docker compose logs --tail 20 {name}, then the same again",
                )
        coming.unlink()

    # --- The key of the backups

    def backup_key(self) -> None:
        """A new key; the former one opens what it has encrypted. Kept first, so that it is never lost."""
        former = " ".join(key.text for key in seal.keys(self.project))
        with process.held():
            if former:
                self.project.write_secret(seal.FORMER, former)
            self.project.write_secret(seal.NAME, new_secret())
        self.report.say("Keep a copy of deploy/secrets/backup_key on another machine: without it, no backup")
        self.report.say("can be read there. It encrypts from the next backup on.")
