"""The primary and its replicas as `doctor` sees them: real servers, of which one thing is broken."""

import subprocess
from contextlib import ExitStack
from dataclasses import replace

import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from deploy.operations import nodes, patroni
from deploy.operations.doctor import replication
from deploy.operations.doctor.finding import ERROR, OK, WARNING
from deploy.operations.nodes import Node
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """A primary, a replica, and a server of another cluster."""
    with ExitStack() as stack:
        primary = stack.enter_context(Cluster(tmp_path_factory.mktemp("primary")))
        replica = stack.enter_context(Cluster(tmp_path_factory.mktemp("replica"), primary=primary))
        other = stack.enter_context(Cluster(tmp_path_factory.mktemp("other")))
        rig.wait_until(lambda: look("replica1", replica).streams, "the replica streams")
        yield primary, replica, other


def look(name: str, cluster: Cluster) -> Node:
    try:
        with cluster.session(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(nodes.STATE)
            return nodes.node(name, [dict(row) for row in cursor.fetchall()])
    except psycopg2.OperationalError:
        return Node(name)


def test_a_primary_and_a_replica_that_follows_are_well(servers):
    found = [look("db", servers[0]), look("replica1", servers[1])]
    assert replication.one_primary(found, "db", automatic=False).level == OK
    assert replication.followers(found, 64_000_000).level == OK


def test_a_replica_that_is_late_is_a_warning(servers):
    primary, replica, _ = servers
    with replica.session() as cursor:
        cursor.execute("SELECT pg_wal_replay_pause()")
        rig.wait_until(lambda: paused(cursor), "the replay is paused")
        with primary.session() as writer:
            writer.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 5000))")
        found = [look("db", primary), look("replica1", replica)]
        cursor.execute("SELECT pg_wal_replay_resume()")
    said = replication.followers(found, 1000)
    assert said.level == WARNING
    assert "replica1 is " in said.text
    assert replication.followers(found, 1_000_000).level == OK


def paused(cursor) -> bool:
    cursor.execute("SELECT pg_get_wal_replay_pause_state()")
    return cursor.fetchone()[0] == "paused"


def test_a_replica_that_receives_nothing_is_an_error(servers):
    primary, replica, _ = servers
    with replica.session() as cursor:
        cursor.execute("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            rig.wait_until(lambda: not look("replica1", replica).streams, "the replica does not stream")
            said = replication.followers([look("db", primary), look("replica1", replica)], 64_000_000)
        finally:
            cursor.execute(
                f"ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={primary.port} user=postgres'"
            )
            cursor.execute("SELECT pg_reload_conf()")
    rig.wait_until(lambda: look("replica1", replica).streams, "the replica streams again")
    assert said.level == ERROR
    assert said.text == "no replica is left: replica1 receives nothing from the primary"


def test_a_replica_that_is_away_is_an_error_and_the_other_one_is_left(servers):
    primary, replica, _ = servers
    found = [look("db", primary), look("replica1", replica), Node("replica2")]
    said = replication.followers(found, 64_000_000)
    assert (said.level, said.text) == (ERROR, "replica2 does not answer")
    assert "docker compose up -d replica2" in said.command


def test_a_server_of_another_cluster_is_an_error(servers):
    primary, _, other = servers
    said = replication.followers([look("db", primary), look("replica1", other)], 64_000_000)
    assert said.level == ERROR
    assert "replica1 is of another cluster than the primary" in said.text


def test_a_replica_of_another_version_is_an_error(servers):
    primary, replica, _ = servers
    old = replace(look("replica1", replica), version=17)
    said = replication.followers([look("db", primary), old], 64_000_000)
    assert said.text.endswith("replica1 is PostgreSQL 17, the primary is 18")


def test_a_second_primary_is_an_error_that_names_both(servers, tmp_path):
    primary = servers[0]
    with Cluster(tmp_path, primary=primary) as promoted:
        with promoted.session() as cursor:
            cursor.execute("SELECT pg_promote()")
        found = [look("db", primary), look("replica1", promoted)]
    said = replication.one_primary(found, "db", automatic=False)
    assert said.level == ERROR
    assert said.text.startswith("db and replica1 accept writes")
    assert said.command == "docker compose stop replica1"


def test_no_primary_and_another_one_than_recorded_are_errors(servers):
    primary, replica, _ = servers
    none = replication.one_primary([Node("db"), look("replica1", replica)], "db", automatic=False)
    assert (none.level, none.command) == (ERROR, "./deploy/rentomatic promote")
    none = replication.one_primary([Node("db"), look("replica1", replica)], "db", automatic=True)
    assert none.command == "docker compose exec replica1 patronictl list"
    other = replication.one_primary([look("replica1", primary), look("db", replica)], "db", automatic=False)
    assert other.text == "replica1 accepts writes, and .env says db"


@pytest.mark.parametrize(("password", "level"), [("right", OK), ("wrong", ERROR)])
def test_a_replica_with_a_wrong_password_is_an_error(tmp_path, password, level):
    with Cluster(tmp_path) as primary:
        with primary.session() as cursor:
            cursor.execute("CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'right'")
            hba = (primary.data / "pg_hba.conf").read_text()
            line = "host all replicator all scram-sha-256\n"
            (primary.data / "pg_hba.conf").write_text(line + hba)
            cursor.execute("SELECT pg_reload_conf()")
        passfile = tmp_path / "passfile"
        passfile.write_text(f"*:*:*:replicator:{password}\n")
        passfile.chmod(0o600)
        _, *arguments = nodes.login("127.0.0.1", primary.port, str(passfile))
        done = subprocess.run([embedded_server.binary("psql"), *arguments], capture_output=True, text=True)
    said = replication.logins({"replica1": done.stderr} if done.returncode else {})
    assert said.level == level, done
    assert ("password authentication failed" in said.text) == (level == ERROR)
    assert password not in said.text or level == OK


# --- .env


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "deploy").mkdir()
    (tmp_path / ".env").write_text(f"COMPOSE_PROJECT_NAME=x\nPROJECT_FOLDER={tmp_path}\n")
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"REPLICAS": "yes"}, "REPLICAS=yes in .env is not known"),
        ({"REPLICAS": "on", "DATABASE_SERVICE": "web"}, "DATABASE_SERVICE=web in .env is no database"),
        ({"DATABASE_SERVICE": "replica1"}, "replica1 is the primary"),
        ({"REPLICAS": "automatic", "DATABASE_SERVICE": "replica1"}, "begins with db, and replica1 is"),
        ({"REPLICAS": "automatic", "PITR": "on"}, "PITR=on receives from a primary that changes only by"),
        ({"REPLICAS": "on", "COMPOSE_FILE": f"compose.yml:{patroni.OVERLAY}"}, "has Patroni's settings"),
        ({"REPLICAS": "on", "COMPOSE_FILE": "compose.yml:deploy/compose.managed.yml"}, "a managed one"),
    ],
    ids=str,
)
def test_what_does_not_fit_in_the_env_is_refused_with_the_next_step(project, settings, words):
    for name, value in settings.items():
        project.record(name, value)
    with pytest.raises(Failure, match="nothing was changed") as failure:
        nodes.wanted(project)
    assert words in failure.value.reason
    assert failure.value.next_step


def test_what_replaces_the_server_is_refused_with_replicas(project):
    nodes.refuse(project, "upgrade")
    project.record("REPLICAS", "on")
    with pytest.raises(Failure, match="upgrade replaces the server that replicas follow") as failure:
        nodes.refuse(project, "upgrade")
    assert "promote db" in failure.value.next_step


def test_what_replaces_the_server_is_refused_with_patroni(project):
    project.record("REPLICAS", "automatic")
    with pytest.raises(Failure, match="upgrade replaces the server that Patroni looks after") as failure:
        nodes.refuse(project, "upgrade")
    assert "docs/scaling.md" in failure.value.next_step


def test_both_overlays_and_their_secrets_are_there_with_patroni(project):
    project.record("REPLICAS", "automatic")
    project.secrets.mkdir()
    nodes.choose(project, Report("apply"))
    assert project.setting("COMPOSE_FILE").split(":") == ["compose.yml", nodes.OVERLAY, patroni.OVERLAY]
    assert {file.name for file in project.secrets.iterdir()} == {
        nodes.PASSWORD,
        nodes.VERIFIER,
        patroni.PASSWORD,
    }


@pytest.mark.parametrize(
    ("away", "level"), [([], OK), (["etcd2"], WARNING), (["etcd1", "etcd3"], ERROR)], ids=str
)
def test_an_etcd_that_is_away_is_a_warning_and_no_majority_an_error(away, level):
    said = replication.etcd({name: name not in away for name in patroni.ETCD})
    assert said.level == level
    assert [name for name in patroni.ETCD if f" {name}" in said.command] == away


def test_the_primary_is_the_first_of_the_services(project):
    assert nodes.services(project) == ("db",)
    project.record("REPLICAS", "on")
    project.record("DATABASE_SERVICE", "replica1")
    assert nodes.services(project) == ("replica1", "db", "replica2")
