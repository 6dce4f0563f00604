"""Requests and calls that run at the same time."""

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

from django.db import connection


def at_once(send: Callable[[Any], Any], *arguments: Any) -> list[Any]:
    """The results of `send(argument)`, each in a thread with a connection of its own, all begun together."""
    results: list[Any] = []
    start = Barrier(len(arguments))

    def run(argument: Any) -> None:
        start.wait()
        results.append(send(argument))
        connection.close()

    threads = [Thread(target=run, args=[argument]) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
