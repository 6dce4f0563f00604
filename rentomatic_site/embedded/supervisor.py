"""
The supervisor of an embedded PostgreSQL (server.py starts it):

    python -m rentomatic_site.embedded.supervisor FOLDER LOCK LINGER

It makes the cluster in FOLDER where there is none, runs the server, says "ready" or why not, and stops the
server when nobody has used it for LINGER seconds. LOCK is the open file of the lock that makes it the only
one. A folder whose name ends in `.ephemeral` holds the tests' kind of cluster: quick and unsafe, gone with
its last user.

PostgreSQL refuses root, and a user without an account. Their server runs in a user namespace, where it is
nobody and yet the same user as before for the kernel: it reaches the files of a home with mode 0700, and no
mode, owner or account is changed. Where namespaces are forbidden, as in many containers, root's server runs
as nobody indeed.
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
    # Relative to the data folder: short, and never the socket of a folder that was made anew.
    "unix_socket_directories": "..",
    "unix_socket_permissions": "0700",
    # No replica reads the WAL: bulk loads may leave most of it out.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    # A power cut costs the last half second of development data, and never a consistent cluster.
    "synchronous_commit": "off",
}
EPHEMERAL = ".ephemeral"
EPHEMERAL_OPTIONS = {"fsync": "off", "full_page_writes": "off"}
WAL_SEGMENT = 16 * 2**20
"""Bytes without which PostgreSQL cannot start: its log is written in files of this size."""
START_SPACE = 100 * 2**20
"""Bytes that are enough for a new cluster, and for a recovery."""
STOP_LIMIT = 10.0
"""Seconds that the server may take to stop before it is told to drop everything."""


class Keeper:
    """Runs the server of one cluster until its last user is gone."""

    def __init__(self, folder: Path, lock: int, linger: float) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.lock = lock
        self.linger = linger
        self.ephemeral = folder.suffix == EPHEMERAL
        self.prefix = self._choose_user()

    def run(self) -> None:
        """Start the server, report it, and see it to its end."""
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
        """The words before a command that make PostgreSQL run it."""
        us = os.geteuid()
        if us != 0 and has_account(us):
            return []
        made_by_nobody = self.data.exists() and self.data.stat().st_uid == NOBODY
        if not made_by_nobody and succeeds([*IN_NAMESPACE, "true"]):
            return IN_NAMESPACE
        if us != 0:
            raise Error(
                f"PostgreSQL wants its user to have an account, and user {us} has none. "
                "Next: do this as another user, or set DATABASE_URL to a server of yours."
            )
        within_reach = ["sh", "-c", 'test -x "$0" && test -x "$1"']
        if succeeds([*AS_NOBODY, *within_reach, embedded_server.binary("postgres"), str(self.folder.parent)]):
            os.chown(self.folder, NOBODY, NOBODY)
            return AS_NOBODY
        raise Error(
            "PostgreSQL does not run as root, and here nobody else can reach the project's files. "
            "Next: do this as an ordinary user, or set DATABASE_URL to a server of yours."
        )

    def _stop_orphan(self) -> None:
        """Stop the server of a keeper that was killed; forget one that a power cut ended."""
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
        """Whether the process works in our data folder: a process id alone may be another's by now."""
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:
            return False

    def _make_cluster(self) -> None:
        """The cluster with the database `application`: all of it, or nothing when we are killed."""
        new = self.folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        try:
            self._make_data(new)
        except Error:
            shutil.rmtree(new, ignore_errors=True)  # tens of MB, of a disk that may be full
            raise
        new.rename(self.data)

    def _make_data(self, new: Path) -> None:
        self._run(
            "initdb", "--pgdata", str(new), "--username=postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
            *(["--no-sync"] if self.ephemeral else []),
        )  # fmt: skip
        self._run("postgres", "--single", "-D", str(new), "postgres", words="CREATE DATABASE application\n")

    def _run(self, name: str, *arguments: str, words: str = "") -> None:
        done = subprocess.run(
            [*self.prefix, embedded_server.binary(name), *arguments],
            input=words,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["killed"]
            self._refuse_full_disk(lines)
            raise Error(f"{name} failed: {lines[-1]}")

    def _start_server(self) -> "subprocess.Popen[bytes]":
        """Start the server and wait until its lock file says that it answers."""
        options = OPTIONS | (EPHEMERAL_OPTIONS if self.ephemeral else {})
        log = self.folder / "log"
        if log.exists():
            log.replace(log.with_name("log.old"))
        with log.open("wb") as output:
            server = subprocess.Popen(
                [*self.prefix, embedded_server.binary("postgres"), "-D", str(self.data)]
                + [word for name, value in options.items() for word in ("-c", f"{name}={value}")],
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
        self._refuse_full_disk(lines)
        cause = next((line for line in lines if "FATAL" in line or "PANIC" in line), lines[-1])
        raise Error(f"{cause} (see {log})")

    def _refuse_full_disk(self, lines: list[str]) -> None:
        """Raise Error where a full disk is why a program failed that said this, if it could say it at all."""
        free = shutil.disk_usage(self.folder).free
        if free < WAL_SEGMENT or any(os.strerror(errno.ENOSPC) in line for line in lines):
            raise Error(
                f"the disk of {self.folder} is full, with {free // 2**20} MB left. "
                f"Next: free {START_SPACE // 2**20} MB there and do this again, nothing committed is lost; "
                "or set EMBEDDED_POSTGRES_DIR to a folder on another disk."
            )

    def _await_last_user(self) -> None:
        """Stop the server once no user is left; new ones wait at the lock until we are gone."""
        users = os.open(self.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)
            if self.ephemeral:
                break
            fcntl.flock(users, fcntl.LOCK_UN)
            time.sleep(self.linger)
            if embedded_server.try_lock(users, fcntl.LOCK_EX):
                if not self._has_clients():
                    break
                fcntl.flock(users, fcntl.LOCK_UN)
        self._stop_server()

    def _has_clients(self) -> bool:
        """Whether someone without our lock is connected, such as a psql that was given the URL."""
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
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
        except (Error, OSError):  # .venv was removed under us: the server goes, too
            return False
        return answer.stdout.strip() == "t"

    def _stop_server(self) -> None:
        """Fast: sessions end, everything is written. At once when that takes too long."""
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
    """Tell the starter, and end both pipes: it waits no longer."""
    os.write(1, line.encode())
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)


def main() -> None:
    """Leave the starter's family first: it waits for no child, and none of us is ever its zombie."""
    if os.fork():
        os._exit(0)
    folder, lock, linger = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    failure = ""
    try:
        Keeper(folder, lock, linger).run()
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
