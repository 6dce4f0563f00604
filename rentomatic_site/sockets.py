"""Connections, as other threads see them."""

import os
import socket


def cut(descriptor: int) -> None:
    """Shut a connection down; the thread that waits for it gets an error and closes it."""
    # A duplicate of the descriptor: closing it leaves the owner's open.
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
