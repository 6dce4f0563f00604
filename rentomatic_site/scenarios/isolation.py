"""
Isolation: a scenario's code uses the scenario's database and no other, in every thread and every process that
it starts.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import thread as thread_pool
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, ancestors

TARGET_PREFIX = "scenario_"
"""The prefix of database names, as in settings.DATABASES."""


@contextmanager
def django_on(name: str, opened: Any = None) -> Iterator[None]:
    """
    Point Django's connections to the database `scenario_…`, without the limits of requests: in all threads
    of this process and in the processes that it starts.

    Until the end of the block nothing can open the application's database. A thread that still runs at the
    end can open no further connection. Commits are asynchronous: a crash of the machine may lose some.
    `opened` is a connection to that database which this thread is to use (psycopg2's, set up by Django).
    """
    if connection.in_atomic_block:
        raise ScenarioError(
            "A scenario cannot be loaded within a transaction, such as run() of another scenario. "
            "Next: import that scenario and call its run()."
        )
    # The connections of all threads share this dictionary, and other processes read the environment; an
    # assignment to `connection.settings_dict` would change the connection of this thread only.
    shared = connections.settings[DEFAULT_DB_ALIAS]
    usual = {key: shared[key] for key in ("NAME", "OPTIONS", "HOST", "PORT")}
    alias = name.removeprefix(TARGET_PREFIX)
    threads = set(threading.enumerate())
    connection.close()
    with (
        postgres.closed_to_this_process({settings.APPLICATION_DB, usual["NAME"]} - {name}),
        environment(SCENARIO=alias, SCENARIO_FILE=None),
        ancestors.announced(alias),
    ):
        shared["NAME"] = name
        shared["OPTIONS"] = {**usual["OPTIONS"], **options(name)}
        # The server itself: tests may have a pooler, which drops these options.
        shared["HOST"], shared["PORT"] = settings.POSTGRES["host"], settings.POSTGRES["port"]
        if opened is not None:
            use(opened)
        try:
            yield
        finally:
            connection.close()
            postgres.without_database.update(running_threads(threads))
            shared.update(usual)


def options(name: str) -> dict[str, str]:
    """libpq's options of Django's connections to a scenario: without the limits of requests."""
    return {
        "options": "-c statement_timeout=0 -c synchronous_commit=off -c client_connection_check_interval=500",
        "application_name": f"load_scenario {name}",
    }


def use(opened: Any) -> None:
    """Let Django's connection of this thread be one that is open."""
    connection.get_new_connection = lambda conn_params: opened  # type: ignore[method-assign]  # of this instance
    try:
        connection.connect()
    finally:
        del connection.get_new_connection


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Set environment variables within the block; None removes one."""
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
def wait_for_threads(on_error: Callable[[BaseException], None]) -> Iterator[None]:
    """
    At the end of the block wait for the threads that were started in it, except daemon threads and idle
    threads of a pool. `on_error` is called with what a thread raises.
    """
    threads = set(threading.enumerate())
    usual = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.thread in threads or args.exc_value is None:
            usual(args)
        else:
            on_error(args.exc_value)

    threading.excepthook = hook
    try:
        yield
        while awaited := [thread for thread in running_threads(threads) if not thread.daemon]:
            awaited[0].join(0.05)
    finally:
        threading.excepthook = usual


def running_threads(threads: set[threading.Thread]) -> set[threading.Thread]:
    """The running threads beside the given ones, without the idle threads of a pool."""
    frames = sys._current_frames()
    idle = thread_pool._worker.__code__
    return {
        thread
        for thread in threading.enumerate()
        if thread not in threads
        and (frame := frames.get(thread.ident or 0)) is not None
        and frame.f_code is not idle
    }
