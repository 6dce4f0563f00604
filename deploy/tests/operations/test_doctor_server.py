"""`doctor` on a real server: each check finds what is broken, and its command mends it."""

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from deploy.operations.doctor import server
from deploy.operations.doctor.finding import ERROR, OK, WARNING, Finding
from rentomatic_site.embedded.server import binary
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster

OPTIONS = {
    "max_prepared_transactions": "2",
    "wal_level": "replica",
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "2000000000",  # beyond it a vacuum begins even so
    "max_wal_size": "32MB",
    "wal_keep_size": "0",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("doctor"), **OPTIONS) as cluster:
        yield cluster


@pytest.fixture
def worn(tmp_path) -> Iterator[Cluster]:
    """A server of the test's own, to be damaged."""
    with Cluster(tmp_path, **OPTIONS) as cluster:
        yield cluster


def asking(cluster: Cluster, query: str) -> list[dict]:
    """A query as `doctor` asks it, in a session of its own."""
    with cluster.session(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(query)
        return [dict(row) for row in cursor.fetchall()]


@pytest.fixture
def ask(cluster) -> Callable[[str], list[dict]]:
    return partial(asking, cluster)


@pytest.fixture
def sql(cluster):
    def sql(*statements: str) -> None:
        with cluster.session() as cursor:
            for statement in statements:
                cursor.execute(statement)

    return sql


@contextmanager
def table(sql, name: str, rows: int):
    sql(f"CREATE TABLE {name} AS SELECT n FROM generate_series(1, {rows}) AS n")
    try:
        yield
    finally:
        sql(f"DROP TABLE {name}")


def type_command(cluster: Cluster, found: Finding) -> None:
    """What doctor says, with the server of the test in the place of the one in the container."""
    variables = os.environ | {"PGHOST": "127.0.0.1", "PGPORT": str(cluster.port)}
    for command in found.command.split("; "):
        *_, program = re.findall(r"docker compose exec db (\w+)", command)
        words = shlex.split(command.removeprefix("docker compose exec db "))
        subprocess.run([binary(program), *words[1:]], env=variables, check=True, capture_output=True)


LOOKS = (
    server.invalid_indexes,
    server.wraparound,
    server.bloat,
    server.statistics,
    server.checksums,
    server.slots,
    server.write_ahead_log,
    server.locks,
    server.long_transactions,
    lambda ask: server.connections(ask, 2, 2, 4),
)


def levels(ask: server.Ask) -> list[str]:
    return [check(ask).level for check in LOOKS]


def only(check: Callable[[server.Ask], Finding], level: str) -> list[str]:
    """The levels where one check alone finds something."""
    return [level if one is check else OK for one in LOOKS]


@pytest.mark.parametrize("check", LOOKS)
def test_a_fresh_server_is_well(ask, check):
    assert check(ask).level == OK


# --- Indexes


def test_an_invalid_index_is_an_error_and_its_command_builds_it(cluster, ask, sql):
    with table(sql, "doubled", 3):
        sql("INSERT INTO doubled VALUES (1)")
        with pytest.raises(psycopg2.Error, match="could not create unique index"):
            sql('CREATE UNIQUE INDEX CONCURRENTLY "Doubled n" ON doubled (n)')
        found = server.invalid_indexes(ask)
        assert levels(ask) == only(server.invalid_indexes, ERROR)
        sql("DELETE FROM doubled WHERE ctid = (SELECT max(ctid) FROM doubled)")
        type_command(cluster, found)
        assert server.invalid_indexes(ask).level == OK
        assert ask("SELECT indisvalid AS valid FROM pg_index WHERE indrelid = 'doubled'::regclass") == [
            {"valid": True}
        ]


def test_what_an_interrupted_rebuild_leaves_is_dropped_and_the_index_stays(cluster, ask, sql):
    with table(sql, "rebuilt", 3), cluster.session() as other:
        sql("CREATE INDEX rebuilt_n ON rebuilt (n)")
        other.execute("BEGIN; INSERT INTO rebuilt VALUES (4)")
        with (
            cluster.session(options="-c lock_timeout=100ms") as cursor,
            pytest.raises(psycopg2.Error, match="lock timeout"),
        ):
            cursor.execute("REINDEX INDEX CONCURRENTLY rebuilt_n")
        other.execute("COMMIT")
        found = server.invalid_indexes(ask)
        assert "rebuilt_n_ccnew" in found.text
        type_command(cluster, found)
        assert server.invalid_indexes(ask).level == OK
        rows = ask(
            "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indrelid = 'rebuilt'::regclass"
        )
        assert rows == [{"name": "rebuilt_n"}]


# --- Rows


def test_an_old_transaction_id_is_said_and_its_commands_freeze_each_database(worn):
    """template0, too, which nobody may connect to."""
    worn.stop()
    make_old(worn, 600_000_000)
    worn.start()
    ask = partial(asking, worn)
    assert server.wraparound(ask).text.startswith("the oldest transaction id is 600 million old")
    assert levels(ask) == only(server.wraparound, WARNING)
    type_command(worn, server.wraparound(ask))
    template = server.wraparound(ask)
    assert template.text.endswith("in template0")
    type_command(worn, template)
    assert server.wraparound(ask).text.startswith("the oldest transaction id is 0 million old")
    closed = ask("SELECT datname AS name FROM pg_database WHERE NOT datallowconn")
    assert closed == [{"name": "template0"}]
    worn.stop()
    make_old(worn, 1_900_000_000)
    worn.start()
    assert server.wraparound(ask).level == ERROR


def make_old(cluster: Cluster, transaction: int) -> None:
    """Let the next transaction be the one of this number."""
    command = [binary("pg_resetwal"), "-x", str(transaction), "-D", str(cluster.data)]
    subprocess.run([*cluster.prefix, *command], check=True, capture_output=True)
    segment = transaction // (8192 * 4 * 32)  # two bits each, of pages of 8192 bytes, 32 in a file
    (cluster.data / "pg_xact" / f"{segment:04X}").write_bytes(bytes(8192 * 32))


def test_dead_rows_are_said_and_their_command_removes_them(cluster, ask, sql):
    with table(sql, '"Changed"', 12_000):
        sql('UPDATE "Changed" SET n = n + 1', "SELECT pg_stat_force_next_flush()")
        sql('ANALYZE "Changed"', "SELECT pg_stat_force_next_flush()")
        found = server.bloat(ask)
        assert '"Changed" (12000 dead rows' in found.text
        assert levels(ask) == only(server.bloat, WARNING)
        type_command(cluster, found)
        assert server.bloat(ask).level == OK


def test_old_statistics_are_said_and_their_command_makes_new_ones(cluster, ask, sql):
    with table(sql, "changed", 12_000):
        sql("SELECT pg_stat_force_next_flush()")
        found = server.statistics(ask)
        assert found.text == "the planner's statistics are old: changed"
        assert levels(ask) == only(server.statistics, WARNING)
        type_command(cluster, found)
        assert server.statistics(ask).level == OK


def test_a_damaged_page_is_an_error(worn):
    with worn.session() as cursor:
        cursor.execute("CREATE TABLE damaged AS SELECT n FROM generate_series(1, 1000) AS n; CHECKPOINT")
        cursor.execute("SELECT pg_relation_filepath('damaged')")
        (path,) = cursor.fetchone()
    worn.stop()
    with (worn.data / path).open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(b"damage")
    worn.start()
    with worn.session() as cursor:
        with pytest.raises(psycopg2.Error, match="invalid page"):
            cursor.execute("SELECT sum(n) FROM damaged")
        cursor.execute("SELECT pg_stat_force_next_flush()")
    found = server.checksums(partial(asking, worn))
    assert (found.level, found.text) == (ERROR, "1 pages of the disk are damaged")


def test_a_server_without_checksums_is_said(worn):
    worn.stop()
    command = [binary("pg_checksums"), "--disable", "-D", str(worn.data)]
    subprocess.run([*worn.prefix, *command], check=True, capture_output=True)
    worn.start()
    ask = partial(asking, worn)
    assert levels(ask) == only(server.checksums, WARNING)
    assert "pg_checksums db --enable" in server.checksums(ask).command


# --- The write-ahead log


def test_a_slot_that_nobody_reads_is_an_error_and_its_command_drops_it(cluster, ask, sql):
    sql("SELECT pg_create_physical_replication_slot('forgotten', true)")
    found = server.slots(ask)
    assert levels(ask) == only(server.slots, ERROR)
    assert server.slots(ask, "forgotten").level == OK
    type_command(cluster, found)
    assert server.slots(ask).level == OK


def test_a_log_that_grows_is_said_and_its_command_makes_it_small(cluster, ask, sql):
    sql("SELECT pg_create_physical_replication_slot('slow', true)")
    with table(sql, "written", 1):
        for _ in range(8):
            sql("UPDATE written SET n = n + 1", "SELECT pg_switch_wal()")
    found = server.write_ahead_log(ask)
    sql("SELECT pg_drop_replication_slot('slow')")
    assert (found.level, found.text.endswith("more than three times max_wal_size")) == (WARNING, True)
    type_command(cluster, found)
    assert server.write_ahead_log(ask).level == OK


def test_an_archive_that_refuses_is_an_error_and_one_that_takes_is_well(worn):
    worn.stop()
    worn.options |= {"archive_mode": "on", "archive_command": "test -e refused"}
    worn.start()
    ask = partial(asking, worn)
    with worn.session() as cursor:
        cursor.execute("SELECT pg_logical_emit_message(true, 'test', 'test'), pg_switch_wal()")
        rig.wait_until(lambda: server.write_ahead_log(ask).level == ERROR, "an archive that fails")
        assert levels(ask) == only(server.write_ahead_log, ERROR)
        assert "the archive refuses WAL since 0000000" in server.write_ahead_log(ask).text
        (worn.data / "refused").touch()
        cursor.execute("SELECT pg_logical_emit_message(true, 'test', 'test'), pg_switch_wal()")
        rig.wait_until(lambda: "archived" in server.write_ahead_log(ask).text, "an archive that takes", 90)
    assert server.write_ahead_log(ask).level == OK


# --- Sessions


def sooner(ask: server.Ask) -> server.Ask:
    """The same queries, for which a session need not have waited."""
    return lambda query: ask(re.sub(r"interval '10 \w+'", "interval '0 seconds'", query))


def test_a_prepared_transaction_is_said_and_its_command_ends_it(cluster, ask, sql):
    with table(sql, "held", 1):
        sql("BEGIN; INSERT INTO held VALUES (2); PREPARE TRANSACTION 'forgotten'")
        found = server.long_transactions(sooner(ask))
        assert server.long_transactions(ask).level == OK  # not yet ten minutes
        type_command(cluster, found)
        assert not ask("SELECT gid FROM pg_prepared_xacts")


def test_a_long_transaction_is_said_and_its_command_ends_it(cluster, ask):
    with cluster.session() as idle:
        idle.execute("BEGIN; SELECT pg_backend_pid()")
        (pid,) = idle.fetchone()
        asked = ask(f"SELECT xact_start FROM pg_stat_activity WHERE pid = {pid}")
        assert asked
        found = server.long_transactions(sooner(ask))
        assert (found.level, str(pid) in found.text) == (WARNING, True)
        type_command(cluster, found)
        with pytest.raises(psycopg2.OperationalError):
            idle.execute("SELECT 1")


def test_a_session_that_waits_for_a_lock_is_an_error_and_its_command_frees_it(cluster, ask, sql):
    with table(sql, "held", 1), cluster.session() as holder:
        holder.execute("BEGIN; LOCK TABLE held")
        holder.execute("SELECT pg_backend_pid()")
        (pid,) = holder.fetchone()
        waiter = threading.Thread(target=sql, args=["SELECT * FROM held"])
        waiter.start()
        soon = sooner(ask)
        rig.wait_until(lambda: server.locks(soon).level == ERROR, "a session that waits")
        found = server.locks(soon)
        assert f"pg_terminate_backend({pid})" in found.command
        assert server.locks(ask).level == OK  # not yet ten seconds
        type_command(cluster, found)
        waiter.join()
        assert server.locks(soon).level == OK


def test_more_threads_than_connections_are_an_error(ask):
    found = server.connections(ask, 8, 2, 4)
    assert found.level == ERROR
    assert "a rollout needs 170" in found.text


def test_with_a_pooler_its_connections_count_and_not_the_threads(ask):
    shared = server.connections(ask, 8, 2, 50, pooled=20)
    assert (shared.level, "the pooler needs 50" in shared.text) == (OK, True)
    many = server.connections(ask, 8, 2, 50, pooled=50)
    assert (many.level, "POOLER_SIZE" in many.command) == (ERROR, True)


def test_connections_that_are_used_up_are_an_error(worn):
    worn.stop()
    worn.options["max_connections"] = "9"
    worn.start()
    ask = partial(asking, worn)
    with worn.session(), worn.session(), worn.session(), worn.session(), worn.session():
        found = server.connections(ask, 1, 1, 1)
    assert (found.level, found.text.startswith("6 of 6 connections are used")) == (ERROR, True)
