"""The pooler: what .env asks for, what the server lets it learn, and what `doctor` says of a real one."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest

from deploy.operations import environment, pooling
from deploy.operations.doctor import pooler
from deploy.operations.doctor.finding import ERROR, OK, WARNING
from deploy.operations.process import run
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from deploy.operations.setup import scram
from rentomatic_site.embedded.server import binary
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster
from rentomatic_site.testing.plugin import needs
from rentomatic_site.testing.pooler import Pooler

SIZE = 2

# --- .env


@pytest.fixture
def project(tmp_path) -> Project:
    deploy = tmp_path / "deploy"
    (deploy / "secrets").mkdir(parents=True)
    (deploy / "pooler").symlink_to(rig.PROJECT / "deploy/pooler")
    (tmp_path / ".env").write_text(f"COMPOSE_PROJECT_NAME=x\nPROJECT_FOLDER={tmp_path}\nPOOLER=on\n")
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"POOLER": "yes"}, "POOLER=yes in .env is not known"),
        ({"COMPOSE_FILE": "compose.yml:deploy/compose.managed.yml"}, "a managed one"),
        ({"DATABASE_POOLER_URL": "postgres://other:6432"}, "two poolers"),
        ({"REPLICAS": "automatic"}, "REPLICAS=automatic changes it without .env"),
        ({"POOLER_SIZE": "0"}, "POOLER_SIZE=0 in .env is no number from 1 to 500"),
        ({"POOLER_SIZE": "many"}, "POOLER_SIZE=many"),
        ({"POOLER_SIZE": "²"}, "POOLER_SIZE=²"),
    ],
    ids=str,
)
def test_what_does_not_fit_in_the_env_changes_nothing_and_names_the_next_step(project, settings, words):
    for name, value in settings.items():
        project.record(name, value)
    before = project.environment.read_text()
    with pytest.raises(Failure, match="nothing was changed") as failure:
        pooling.choose(project, Report("apply"))
    assert words in failure.value.reason
    assert failure.value.next_step
    assert project.environment.read_text() == before
    assert not (project.secrets / pooling.PASSWORD).exists()


def test_switched_on_it_has_its_overlay_its_secret_and_its_configuration_and_then_keeps_them(project):
    pooling.choose(project, Report("apply"))
    assert project.setting("COMPOSE_FILE") == "compose.yml:deploy/compose.pooler.yml"
    secret = project.secret(pooling.PASSWORD)
    assert (project.secrets / pooling.PASSWORD).stat().st_mode & 0o777 == 0o600
    assert not pooling.differs(project)
    pooling.choose(project, Report("apply"))
    assert project.secret(pooling.PASSWORD) == secret
    project.record("POOLER", "off")
    pooling.choose(project, Report("apply"))
    assert project.setting("COMPOSE_FILE") == ""


def test_another_primary_or_size_is_another_configuration(project):
    pooling.choose(project, Report("apply"))
    written = pooling.configuration(project).splitlines()
    assert {"* = host=db port=5432", "default_pool_size = 20"} <= set(written)
    for name, value, line in (
        ("DATABASE_SERVICE", "replica1", "* = host=replica1 port=5432"),
        ("POOLER_SIZE", "7", "default_pool_size = 7"),
    ):
        project.record(name, value)
        assert pooling.differs(project)
        assert line in pooling.configuration(project).splitlines()
        pooling.write(project)
        assert not pooling.differs(project)
    assert "${" not in pooling.configuration(project)


# --- What the server lets it learn


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A server with the site's role, others, and the pooler's, who logs in with its password."""
    with Cluster(tmp_path_factory.mktemp("pooled")) as cluster:
        with cluster.session() as cursor:
            for role in ("web", "web_rotating", "stranger"):
                cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", [scram(role)])
            for again in (False, True):
                for statement in pooling.statements("web", scram("its own"), again):
                    cursor.execute(statement)
            hba = (cluster.data / "pg_hba.conf").read_text()
            (cluster.data / "pg_hba.conf").write_text("host all pooler all scram-sha-256\n" + hba)
            cursor.execute("SELECT pg_reload_conf()")
        yield cluster


def learn(cluster: Cluster, name: str) -> list[tuple[str, str]]:
    with cluster.session(user="pooler", password="its own") as cursor:
        cursor.execute("SELECT * FROM pooler.verifier(%s)", [name])
        return cursor.fetchall()


def kept(cluster: Cluster, name: str) -> str:
    with cluster.session() as cursor:
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [name])
        return cursor.fetchone()[0]


@pytest.mark.parametrize("name", ["web", "web_rotating"])
def test_the_pooler_learns_the_verifier_of_a_role_of_the_site(cluster, name):
    assert learn(cluster, name) == [(name, kept(cluster, name))]


@pytest.mark.parametrize("name", ["stranger", "postgres", "pooler", "nobody", "", "web' OR true --"])
def test_the_pooler_learns_nothing_of_other_roles(cluster, name):
    assert learn(cluster, name) == []


@pytest.mark.parametrize("change", ["NOLOGIN", "SUPERUSER", "VALID UNTIL '2001-01-01'"])
def test_a_role_that_may_not_log_in_by_it_is_none(cluster, change):
    back = {"NOLOGIN": "LOGIN", "SUPERUSER": "NOSUPERUSER"}.get(change, "VALID UNTIL 'infinity'")
    with cluster.session() as cursor:
        cursor.execute(f"ALTER ROLE web_rotating {change}")
        try:
            assert learn(cluster, "web_rotating") == []
        finally:
            cursor.execute(f"ALTER ROLE web_rotating {back}")
    assert learn(cluster, "web_rotating")


@pytest.mark.parametrize(
    ("user", "statement"),
    [
        ("web", "SELECT * FROM pooler.verifier('web')"),
        ("pooler", "SELECT rolpassword FROM pg_authid"),
        ("pooler", "CREATE TABLE pooler.mine()"),
    ],
)
def test_nobody_learns_more_than_the_pooler_needs(cluster, user, statement):
    with (
        cluster.session(user=user, password="its own") as cursor,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        cursor.execute(statement)


# --- doctor


@pytest.fixture(scope="module")
def pooled(cluster, tmp_path_factory) -> Iterator[Pooler]:
    needs("pgbouncer")
    folder = tmp_path_factory.mktemp("pooler")
    with Pooler(folder, "127.0.0.1", cluster.port, ["web"], size=SIZE, wait=30) as pooled:
        with session(pooled) as cursor:
            cursor.execute("SELECT 1")  # its database is known from now on
        yield pooled


@contextmanager
def session(pooled: Pooler) -> Iterator[psycopg2.extensions.cursor]:
    opened = psycopg2.connect(host="127.0.0.1", port=pooled.port, user="web", dbname="postgres")
    try:
        with opened.cursor() as cursor:
            yield cursor
    finally:
        opened.close()


def settings(pooled: Pooler, primary: str = "127.0.0.1", size: int = SIZE) -> tuple[str, str]:
    found = pooler.settings(pooled.console, primary, size)
    assert (found.level == OK) == (not found.command)
    return found.level, found.text


def test_a_pooler_as_it_should_be_is_well_and_its_version_is_said(pooled):
    level, text = settings(pooled)
    assert (level, text.startswith(f"PgBouncer {pooler.version(pooled.console)} shares")) == (OK, True)
    assert pooler.version(pooled.console)[0].isdigit()
    assert pooler.clients(pooled.console, "postgres").level == OK


def test_a_pool_of_another_mode_size_or_server_and_a_paused_one_are_said(pooled):
    assert settings(pooled, size=SIZE + 1) == (WARNING, "the pooler has 2 connections, and .env says 3")
    assert settings(pooled, "replica1") == (
        ERROR,
        "the pooler leads to 127.0.0.1, and replica1 is the primary",
    )
    for breaking, mending, words in (
        ("SET pool_mode = session", "SET pool_mode = transaction", "the pool's mode is session"),
        ("PAUSE postgres", "RESUME postgres", "the pooler is paused"),
    ):
        pooled.console(breaking)
        level, text = settings(pooled)
        pooled.console(mending)
        assert (level, words in text) == (ERROR, True)
    assert settings(pooled)[0] == OK


def test_a_pooler_that_does_not_answer_is_an_error():
    def away(command: str) -> list[dict]:
        raise Failure("pooler is not running")

    found = pooler.settings(away, "db", SIZE)
    assert (found.level, "pooler is not running" in found.text) == (ERROR, True)


def test_clients_that_wait_for_a_connection_are_said(pooled):
    with ExitStack() as stack:
        for _ in range(SIZE):
            stack.enter_context(session(pooled)).execute("SELECT 1")  # begins a transaction
        waits = stack.enter_context(session(pooled))
        waiter = threading.Thread(target=waits.execute, args=["SELECT 1"])
        waiter.start()
        levels = []

        def level() -> str:
            found = pooler.clients(pooled.console, "postgres")
            levels.append(found.level)
            if found.level != OK:
                assert "2 connections at work, and 1 clients wait, the first for" in found.text
                assert "POOLER_SIZE" in found.command
            return found.level

        rig.wait_until(lambda: level() == ERROR, "a client that waits for long")
        assert WARNING in levels
        with psycopg2.connect(**pooled_cluster(pooled)) as server, server.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            )
        server.close()
        waiter.join()
    rig.wait_until(lambda: pooler.clients(pooled.console, "postgres").level == OK, "nobody waits")


def pooled_cluster(pooled: Pooler) -> dict:
    (row,) = [row for row in pooled.console("SHOW DATABASES") if row["name"] == "postgres"]
    return {"host": row["host"], "port": row["port"], "user": "postgres", "dbname": "postgres"}


def asked(cluster: Cluster, project: Project, folder: Path, password: str) -> str:
    """Its own query as doctor makes it, with a password."""
    passfile = folder / "passfile"
    environment.replace(passfile, f"*:*:*:pooler:{password}\n", 0o600)
    *_, where = pooling.login(project, str(passfile), cluster.port)
    words = pooling.login(project, str(passfile), cluster.port)
    words[-1] = where.replace("host=db", "host=127.0.0.1")
    return pooler.refusal(run([binary("psql"), *words[1:]]), project.role)


def test_a_pooler_that_may_not_ask_is_an_error(cluster, project, tmp_path):
    project.record("APPLICATION_USER", "web")
    assert pooler.login(asked(cluster, project, tmp_path, "its own")).level == OK
    wrong = pooler.login(asked(cluster, project, tmp_path, "wrong"))
    assert (wrong.level, "password authentication failed" in wrong.text) == (ERROR, True)
    project.record("APPLICATION_USER", "missing")
    assert "no role missing" in pooler.login(asked(cluster, project, tmp_path, "its own")).text
    with cluster.session() as cursor:
        cursor.execute("ALTER SCHEMA pooler RENAME TO gone")
        try:
            found = pooler.login(asked(cluster, project, tmp_path, "its own"))
        finally:
            cursor.execute("ALTER SCHEMA gone RENAME TO pooler")
    assert (found.level, 'schema "pooler" does not exist' in found.text) == (ERROR, True)
