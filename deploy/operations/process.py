"""
Programs that are started, and the signals that end us.

A terminal sends Ctrl-C to all processes of its group. Programs are started in sessions of their own, so that
only this process gets it, and decides what is finished, ended or put back.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked this program to end."""


class _Holding:
    depth = 0
    received = False


def install_handlers() -> None:
    """Raise Interrupted for each signal, outside of `held()`."""
    for number in SIGNALS:
        signal.signal(number, _receive)


def _receive(number: int, frame: FrameType | None) -> None:
    if _Holding.depth:
        _Holding.received = True
    else:
        raise Interrupted


@contextmanager
def held(*, forget: bool = False) -> Iterator[None]:
    """
    Finish the block before a signal has an effect.

    With `forget` it has none: for the last steps of a command, and for putting things back.
    """
    _Holding.depth += 1
    try:
        yield
    finally:
        _Holding.depth -= 1
        received = _Holding.received and not _Holding.depth
        if received:
            _Holding.received = False
    if received and not forget:
        raise Interrupted


class Done(subprocess.CompletedProcess[str]):
    """How a program ended; `text` is what it wrote, its errors last."""

    @property
    def text(self) -> str:
        return f"{self.stdout or ''}{self.stderr or ''}".strip()

    def __bool__(self) -> bool:
        return self.returncode == 0


def run(
    command: Sequence[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    timeout: float | None = None,
) -> Done:
    """
    Run a program to its end; its exit status is for the caller to judge.

    `text` or the file `stdin` is what it reads, else nothing. A time-out (seconds) gives the status 124.
    """
    source: IO[bytes] | int = subprocess.DEVNULL
    if text is not None:
        source = subprocess.PIPE
    elif stdin is not None:
        source = stdin
    child = None
    try:
        # A signal between the start and the assignment would leave a child that nobody knows.
        with held():
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=source,
                stdout=stdout or subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        out, err = child.communicate(None if text is None else text.encode(), timeout)
    except subprocess.TimeoutExpired:
        assert child is not None
        end(child)
        return Done(list(command), 124, "", f"no response within {timeout:g} s")
    except BaseException:
        if child is not None:
            end(child)
        raise
    return Done(
        list(command), child.returncode, (out or b"").decode(errors="replace"), err.decode(errors="replace")
    )


def end(child: "subprocess.Popen[bytes]", patience: float = 20) -> None:
    """End a program and what it started: as Ctrl-C would, then, after `patience` seconds, at once."""
    with held():
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                break
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            break


def wait_for(condition: Callable[[], bool], seconds: float, pause: float = 0.5) -> bool:
    """Whether the condition came true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
