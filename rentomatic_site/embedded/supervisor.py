"""
The supervisor of an embedded PostgreSQL (server.py starts it):

    python -m rentomatic_site.embedded.supervisor FOLDER LOCK IDLE_TIMEOUT

It creates the cluster in FOLDER where there is none, runs the server, prints "ready" or the error, and stops
the server after IDLE_TIMEOUT seconds without a user. LOCK is the file descriptor of the lock that keeps a
second supervisor from starting. A folder whose name ends in `.ephemeral` holds a cluster for tests: without
fsync, and removed after its last user.

PostgreSQL refuses to run as root and as a user without an account. For these it runs in a user namespace,
where its user id is that of nobody, while the kernel treats it as the original user: it can read the files of
a home directory with mode 0700, and no mode, owner or account is changed. Where namespaces are forbidden, as
in many containers, root's server runs as the user nobody.
"""

import errno
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.embedded.server import NOBODY, Error

IN_NAMESPACE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"]
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]

OPTIONS = {
    "listen_addresses": "",
    # Relative to the data folder: short, and a folder that was removed and created again has another socket.
    "unix_socket_directories": "..",
    "unix_socket_permissions": "0700",
    # There are no replicas, so bulk loads can skip most of the WAL.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    # A power cut loses up to half a second of commits; the cluster stays consistent.
    "synchronous_commit": "off",
}
EPHEMERAL = ".ephemeral"
EPHEMERAL_OPTIONS = {"fsync": "off", "full_page_writes": "off"}
WAL_SEGMENT = 16 * 2**20
"""Bytes of one file of the WAL; with less free space PostgreSQL cannot start."""
START_SPACE = 100 * 2**20
"""Bytes of free space, enough for a new cluster and for a recovery."""
STOP_LIMIT = 10.0
"""Seconds that a fast shutdown may take before an immediate one."""


class Supervisor:
    """Runs the server of one cluster until it has no users."""

    def __init__(self, folder: Path, lock: int, idle_timeout: float) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.lock = lock
        self.idle_timeout = idle_timeout
        self.ephemeral = folder.suffix == EPHEMERAL
        self.prefix = self._choose_user()

    def run(self) -> None:
        """Start the server, report that it is ready, and wait until it has stopped."""
        self._stop_orphan()
        if not self.data.exists():
            self._make_cluster()
        self.server = self._start_server()
        signal.signal(signal.SIGTERM, lambda *_: self._stop_server())
        os.pwrite(self.lock, str(os.getpid()).encode(), 0)
        report("ready")
        threading.Thread(target=self._await_last_user, daemon=True).start()
        self.server.wait()
        os.ftruncate(self.lock, 0)

    def _choose_user(self) -> list[str]:
        """The command prefix that runs a program as a user that PostgreSQL accepts."""
        uid = os.geteuid()
        if uid != 0 and has_account(uid):
            return []
        made_by_nobody = self.data.exists() and self.data.stat().st_uid == NOBODY
        if not made_by_nobody and succeeds([*IN_NAMESPACE, "true"]):
            return IN_NAMESPACE
        if uid != 0:
            raise Error(
                f"PostgreSQL wants its user to have an account, and user {uid} has none. "
                "Next: do this as another user, or set DATABASE_URL to a server of yours."
            )
        accessible = ["sh", "-c", 'test -x "$0" && test -x "$1"']
        if succeeds([*AS_NOBODY, *accessible, embedded_server.binary("postgres"), str(self.folder.parent)]):
            os.chown(self.folder, NOBODY, NOBODY)
            return AS_NOBODY
        raise Error(
            "PostgreSQL does not run as root, and here nobody else can reach the project's files. "
            "Next: do this as an ordinary user, or set DATABASE_URL to a server of yours."
        )

    def _stop_orphan(self) -> None:
        """Stop the server of a supervisor that was killed; remove the lock file that a power cut left."""
        pid = embedded_server.server_pid(self.folder)
        if pid is None or not Path("/proc/self/cwd").exists():
            return
        deadline = time.monotonic() + STOP_LIMIT
        stop = signal.SIGINT
        while self._is_server(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, stop)
            time.sleep(0.05)
            stop = signal.SIGQUIT if time.monotonic() > deadline else signal.SIGINT
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _is_server(self, pid: int) -> bool:
        """Whether the process runs in the data folder; its id alone may have been reused."""
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:
            return False

    def _make_cluster(self) -> None:
        """Create the cluster with the database `application`; an interruption leaves no cluster."""
        new = self.folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        try:
            self._make_data(new)
        except Error:
            shutil.rmtree(new, ignore_errors=True)  # tens of MB, and the disk may be full
            raise
        new.rename(self.data)

    def _make_data(self, new: Path) -> None:
        self._run(
            "initdb", "--pgdata", str(new), "--username=postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
            *(["--no-sync"] if self.ephemeral else []),
        )  # fmt: skip
        self._run("postgres", "--single", "-D", str(new), "postgres", sql="CREATE DATABASE application\n")

    def _run(self, name: str, *arguments: str, sql: str = "") -> None:
        done = subprocess.run(
            [*self.prefix, embedded_server.binary(name), *arguments],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["killed"]
            self._raise_if_disk_full(lines)
            raise Error(f"{name} failed: {lines[-1]}")

    def _start_server(self) -> "subprocess.Popen[bytes]":
        """Start the server and wait until its lock file says that it is ready."""
        options = OPTIONS | (EPHEMERAL_OPTIONS if self.ephemeral else {})
        log = self.folder / "log"
        if log.exists():
            log.replace(log.with_name("log.old"))
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*self.prefix, embedded_server.binary("postgres"), "-D", str(self.data)]
                + [part for name, value in options.items() for part in ("-c", f"{name}={value}")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + embedded_server.START_LIMIT
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() == "ready":
                    return server
            time.sleep(0.005)
        if server.poll() is None:
            server.send_signal(signal.SIGQUIT)
        lines = log.read_text(errors="replace").splitlines() or ["it was killed"]
        self._raise_if_disk_full(lines)
        cause = next((line for line in lines if "FATAL" in line or "PANIC" in line), lines[-1])
        raise Error(f"{cause} (see {log})")

    def _raise_if_disk_full(self, lines: list[str]) -> None:
        """Raise Error where a full disk made the program with these error lines fail."""
        free = shutil.disk_usage(self.folder).free
        if free < WAL_SEGMENT or any(os.strerror(errno.ENOSPC) in line for line in lines):
            raise Error(
                f"the disk of {self.folder} is full, with {free // 2**20} MB left. "
                f"Next: free {START_SPACE // 2**20} MB there and do this again, nothing committed is lost; "
                "or set EMBEDDED_POSTGRES_DIR to a folder on another disk."
            )

    def _await_last_user(self) -> None:
        """Stop the server once it has no users; new ones wait for the lock until this process has ended."""
        users = os.open(self.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)
            if self.ephemeral:
                break
            fcntl.flock(users, fcntl.LOCK_UN)
            time.sleep(self.idle_timeout)
            if embedded_server.try_lock(users, fcntl.LOCK_EX):
                if not self._has_clients():
                    break
                fcntl.flock(users, fcntl.LOCK_UN)
        self._stop_server()

    def _has_clients(self) -> bool:
        """Whether a client without the lock is connected, such as a psql that was given the URL."""
        others = "SELECT count(*) > 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"
        host = embedded_server.socket_folder(self.folder)
        try:
            command = [
                embedded_server.binary("psql"),
                "-h",
                host,
                "-U",
                "postgres",
                "-d",
                "postgres",
                "-XAtc",
                others,
            ]
            psql = subprocess.run(command, capture_output=True, text=True, check=False)
        except (Error, OSError):  # .venv was removed meanwhile: stop the server
            return False
        return psql.stdout.strip() == "t"

    def _stop_server(self) -> None:
        """A fast shutdown; an immediate one after STOP_LIMIT."""
        os.ftruncate(self.lock, 0)
        self.server.send_signal(signal.SIGINT)
        timer = threading.Timer(STOP_LIMIT, self.server.send_signal, [signal.SIGQUIT])
        timer.daemon = True
        timer.start()


def has_account(uid: int) -> bool:
    """Whether the user id has a name."""
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False


def succeeds(command: list[str]) -> bool:
    """Whether the command is there and exits with status 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def report(line: str) -> None:
    """Print the line and close both pipes, so that the process that waits for them continues."""
    os.write(1, line.encode())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def main() -> None:
    """Run in a grandchild: it outlives the process that started it, and init reaps it."""
    if os.fork():
        os._exit(0)
    folder, lock, idle_timeout = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    failure = ""
    try:
        Supervisor(folder, lock, idle_timeout).run()
    except (Error, OSError) as error:
        failure = str(error)
    link = Path(embedded_server.socket_folder(folder))
    if link != folder:
        link.unlink(missing_ok=True)
    if folder.suffix == EPHEMERAL:
        shutil.rmtree(folder, ignore_errors=True)
    report(failure)


if __name__ == "__main__":
    main()
