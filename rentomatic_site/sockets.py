"""Connections, as other threads see them."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def cut(descriptor: int) -> None:
    """Shut a connection down; the thread that waits for it gets an error and closes it."""
    # A duplicate of the descriptor: closing it leaves the owner's open.
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_after(seconds: float, descriptor: int) -> Iterator[None]:
    """Shut a connection down where the block takes longer; its thread gets an error then."""

    def shut_down() -> None:
        with suppress(OSError):  # the other end has closed it meanwhile
            cut(descriptor)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
