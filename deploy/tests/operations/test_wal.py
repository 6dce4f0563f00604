"""Where the WAL of a stopped server ends: real servers that are killed, and what is read of their files."""

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.operations import wal
from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster

WRITES = (
    "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000), true) FROM generate_series(1, 3000)"
)


@pytest.fixture
def primary(tmp_path) -> Iterator[Cluster]:
    (tmp_path / "primary").mkdir()
    with Cluster(tmp_path / "primary", wal_log_hints="on") as primary:
        yield primary


@pytest.fixture
def promoted(tmp_path, primary) -> Iterator[Cluster]:
    """A replica that is the primary now, and has so much to write that its next checkpoint takes minutes."""
    (tmp_path / "replica").mkdir()
    with Cluster(tmp_path / "replica", primary=primary) as promoted:
        with primary.session() as writer, promoted.session() as cursor:
            writer.execute("CREATE TABLE wide AS SELECT repeat('x', 7000) FROM generate_series(1, 1000)")
            writer.execute("SELECT pg_current_wal_flush_lsn()")
            (written,) = writer.fetchone()
            rig.wait_until(lambda: replayed(cursor, written), "the replica has the table")
            cursor.execute("SELECT pg_promote(true, 60)")
        yield promoted


def written(cluster: Cluster, *statements: str) -> int:
    """Run statements, kill the server, and say what its WAL reached."""
    with cluster.session() as cursor:
        for statement in statements:
            cursor.execute(statement)
        cursor.execute("SELECT pg_current_wal_flush_lsn()")
        reached = str(cursor.fetchone()[0])
    cluster.kill()
    return wal.position(reached)


def replayed(cursor: Any, place: str) -> bool:
    cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [place])
    return bool(cursor.fetchone()[0])


def control(cluster: Cluster) -> str:
    command = [embedded_server.binary("pg_controldata"), str(cluster.data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def stopped(cluster: Cluster) -> wal.Stopped:
    return wal.stopped(
        control(cluster) + "\n".join(path.name for path in (cluster.data / "pg_wal").iterdir())
    )


def end(cluster: Cluster) -> int | None:
    found = stopped(cluster)
    words = ["--timeline", str(int(found.timeline, 16)), "--start", wal.lsn(found.start)]
    folder = str(cluster.data / "pg_wal")
    program = embedded_server.binary("pg_waldump")
    return wal.end(
        subprocess.run([program, "--quiet", "--path", folder, *words], capture_output=True, text=True).stderr
    )


def test_wal_is_read_from_the_last_checkpoint_on(primary):
    reached = written(primary, WRITES)
    assert stopped(primary).timeline == "00000001"
    assert end(primary) == reached


def test_after_a_promotion_the_newest_timeline_is_read(promoted):
    reached = written(promoted, WRITES)
    assert re.search("^Latest checkpoint's TimeLineID: +1$", control(promoted), re.M)
    found = stopped(promoted)
    assert (found.timeline, found.cleanly) == ("00000002", False)
    assert reached - found.start > 3_000_000
    assert end(promoted) == reached


def test_wal_may_end_with_a_segment(primary, promoted):
    for server in (primary, promoted):
        reached = written(server, WRITES, "SELECT pg_switch_wal()")
        assert reached % wal.SEGMENT_BYTES == 0
        assert end(server) == reached


def test_a_server_that_was_stopped_cleanly_ends_with_its_checkpoint(primary):
    with primary.session() as cursor:
        cursor.execute(WRITES)
        cursor.execute("SELECT pg_current_wal_flush_lsn()")
        before = wal.position(cursor.fetchone()[0])
    primary.stop()
    rig.wait_until(lambda: stopped(primary).cleanly, "the server has stopped")
    assert stopped(primary).start >= before


def test_words_that_tell_no_end_are_none():
    assert wal.end("no response within 600 s") is None
    assert wal.end("") is None
