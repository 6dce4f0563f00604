"""`rollout --rehearse`: which databases are its copies, what it needs. test_compose_rewrite.py runs it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.operations import rehearsal
from deploy.operations.database import Database
from deploy.operations.process import Done
from deploy.operations.rehearsal import MARK, Rehearsal, copies, needed_bytes
from deploy.operations.report import Failure, Report
from rentomatic_site.embedded.server import binary
from rentomatic_site.testing.cluster import Cluster


class Engine:
    """In the place of Docker: what runs in the container of `db` runs on the cluster."""

    def __init__(self, cluster: Cluster, folder: Path, free: int) -> None:
        self.address = ["--host", "127.0.0.1", "--port", str(cluster.port)]
        self.free = free
        self.primary = "db"
        self.project = SimpleNamespace(
            name="site", database="application", role="postgres", managed=False, deploy=folder
        )

    def running(self, service: str) -> str:
        return service

    def __call__(self, *words: str, text: str = "", **options: object) -> Done:
        if "psql" in words:
            command = [str(binary("psql")), *self.address, *words[words.index("psql") + 1 :]]
            done = subprocess.run(command, input=text, capture_output=True, text=True)
            return Done(command, done.returncode, done.stdout, done.stderr)
        return Done(list(words), 0, f"/dev/vda 1 1 {self.free} 1% /var\n" if "sh" in words else "", "")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("rehearsal")) as cluster, cluster.session() as cursor:
        cursor.execute("CREATE DATABASE application")
        yield cluster


@pytest.fixture
def engine(cluster, tmp_path) -> Iterator[Engine]:
    yield Engine(cluster, tmp_path, free=10**12)
    with cluster.session() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname ~ '^(application|scenario)_'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}"')


def make(cluster: Cluster, name: str, comment: str = "") -> None:
    with cluster.session() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        if comment:
            cursor.execute(f"COMMENT ON DATABASE {name} IS '{comment}'")


def test_a_rehearsals_copies_are_known_by_their_marks(cluster, engine):
    make(cluster, "application_rehearsal", MARK)
    make(cluster, "scenario_migrated_0123456789ab", f'{{"rentomatic": {{"owner": "{MARK}"}}}}')
    make(cluster, "scenario_migrated_0123456789ac")  # it was killed before it wrote the comment
    make(cluster, "scenario_migrated_0123456789ad", '{"rentomatic": {"owner": "ann@laptop"}}')
    make(cluster, "application_before_1")
    mine = ["application_rehearsal", "scenario_migrated_0123456789ab", "scenario_migrated_0123456789ac"]
    assert copies(Database(engine), engine.project) == mine
    Rehearsal(engine, Report("rollout"), "site:2").remove()
    assert copies(Database(engine), engine.project) == []
    with cluster.session() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^(application|scenario_migrated)_'")
        assert cursor.fetchone() == (2,)


def test_a_database_of_somebody_else_with_the_name_of_the_copy_stays(cluster, engine):
    make(cluster, "application_rehearsal", "of ours")
    with pytest.raises(Failure, match="application_rehearsal is not of a rehearsal") as refused:
        Rehearsal(engine, Report("rollout"), "site:2").run()
    assert refused.value.next_step == 'ALTER DATABASE "application_rehearsal" RENAME TO …'
    assert Database(engine).exists("application_rehearsal")


def test_without_room_for_the_copies_nothing_is_copied(engine):
    engine.free = needed_bytes(0)
    with pytest.raises(Failure, match=r"the database's disk has .* free, and the rehearsal needs up to"):
        Rehearsal(engine, Report("rollout"), "site:2").run()
    assert not Database(engine).exists("application_rehearsal")


def test_a_copy_that_cannot_be_made_is_an_error_and_leaves_nothing(cluster, engine, monkeypatch):
    def refuse(*words: str, **options: object) -> Done:
        if "bash" in words:
            return Done(list(words), 1, "", "pg_restore: error: No space left on device")
        return Engine.__call__(engine, *words, **options)

    broken = Rehearsal(engine, Report("rollout"), "site:2")
    broken.database.docker = refuse
    with pytest.raises(Failure, match="could not be copied: pg_restore: error: No space left"):
        broken.run()
    assert not Database(engine).exists("application_rehearsal")
    assert not rehearsal.code_folder(engine.project).exists()
