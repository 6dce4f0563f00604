"""
A scenario's code has the scenario's database and no other, in every thread and in every process that it
starts.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import thread as thread_pool
from contextlib import contextmanager

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError

TARGET_PREFIX = "scenario_"
"""What `settings.DATABASES` puts before SCENARIO."""


@contextmanager
def django_on(name: str) -> Iterator[None]:
    """
    Point Django's connections to the database `scenario_…`, without a request's limits; those of all threads
    of this process and of the processes that it starts meanwhile.

    Nothing can open the application's database until the end. A thread that is still at work then gets no
    other connection. What is written may be lost with the machine, not with the process: it is made anew
    anyway.
    """
    if connection.in_atomic_block:
        raise ScenarioError(
            "A scenario cannot be loaded within a transaction, such as run() of another scenario. "
            "Next: import that scenario and call its run()."
        )
    # Connections of all threads read this one dictionary, and other processes the environment; an assignment
    # to `connection.settings_dict` would be for the connection of this thread only.
    shared = connections.settings[DEFAULT_DB_ALIAS]
    usual = {key: shared[key] for key in ("NAME", "OPTIONS")}
    options = "-c statement_timeout=0 -c synchronous_commit=off -c client_connection_check_interval=500"
    threads = set(threading.enumerate())
    connection.close()
    with (
        postgres.closed_to_this_process({settings.APPLICATION_DB, usual["NAME"]} - {name}),
        environment(SCENARIO=name.removeprefix(TARGET_PREFIX), SCENARIO_FILE=None),
    ):
        shared["NAME"] = name
        shared["OPTIONS"] = {
            **usual["OPTIONS"],
            "options": options,
            "application_name": f"load_scenario {name}",
        }
        try:
            yield
        finally:
            connection.close()
            postgres.without_database.update(at_work(threads))
            shared.update(usual)


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile; None takes one out."""
    usual = {name: os.environ.get(name) for name in variables}

    def put(values: dict[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(variables)
    try:
        yield
    finally:
        put(usual)


@contextmanager
def threads_awaited(failed: Callable[[BaseException], None]) -> Iterator[None]:
    """
    Wait in the end for the threads that were started meanwhile, as Python does at its own end: not for
    daemons, nor for those of a pool that have nothing to do. `failed` is told what a thread raises.
    """
    threads = set(threading.enumerate())
    usual = threading.excepthook

    def failure(what: threading.ExceptHookArgs) -> None:
        if what.thread in threads or what.exc_value is None:
            usual(what)
        else:
            failed(what.exc_value)

    threading.excepthook = failure
    try:
        yield
        while awaited := [thread for thread in at_work(threads) if not thread.daemon]:
            awaited[0].join(0.05)
    finally:
        threading.excepthook = usual


def at_work(threads: set[threading.Thread]) -> set[threading.Thread]:
    """The threads that there are beside the given ones, without those of a pool that wait for work."""
    frames = sys._current_frames()
    idle = thread_pool._worker.__code__
    return {
        thread
        for thread in threading.enumerate()
        if thread not in threads
        and (frame := frames.get(thread.ident or 0)) is not None
        and frame.f_code is not idle
    }
