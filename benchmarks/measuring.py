"""Rounds over all targets, and what one measurement yields."""

import resource
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks import load, machine, servers
from benchmarks.databases import Database
from benchmarks.targets import EXPORT, ONE, Target, codes

SLOW = 10
"""Where fewer requests than this fit into a measurement, one client asks alone and finishes each."""

WARM_UP = 0.5  # seconds

AT_LEAST = 3  # requests by that one client


class Plan(NamedTuple):
    """How long everything takes."""

    seconds: float
    """Length of one measurement."""
    rounds: int
    export_rounds: int
    """Rounds of exports of more than 100,000 rooms, which take many seconds each."""


class Sample(NamedTuple):
    """One measurement of one target; times in seconds, per request."""

    per_second: float
    p99: float
    alone: float
    """The median of one client that asks alone, connecting anew each time."""
    app_cpu: float
    database_cpu: float
    others: float
    """Cores' worth of CPU that everything else on the machine took meanwhile: the noise."""


class ExportSample(NamedTuple):
    seconds: float
    first_byte: float
    peak_memory: int
    """The largest worker's resident set, in bytes, at its highest."""
    growth: int
    """By how much that was more than before."""


Results = dict[tuple[str, str], list[Sample | ExportSample]]
"""The samples by question and target's name."""


def measure(
    database: Database,
    targets: list[Target],
    plan: Plan,
    generator: str,
    cores: machine.Cores,
    say: Callable[[str], None],
) -> Results:
    """All questions to all targets on one database, in rounds A B C, A B C, …"""
    results: Results = {}
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                servers.running(
                    who.name,
                    who.command,
                    who.folder,
                    {**database.environment(), **who.environment},
                    cores.server,
                )
            )
            for who in targets
        ]
        paths = [who.paths(server.url, database) for who, server in zip(targets, running, strict=True)]
        for server, path in zip(running, paths, strict=True):
            # Threads connect when they are first used: now, so that all connections can be pinned.
            load.load_test(server.url + path[ONE], WARM_UP, generator)
        for question in paths[0]:
            urls = [server.url + path[question] for server, path in zip(running, paths, strict=True)]
            say(f"{database.rooms:,} rooms: {question}")
            if question == EXPORT:
                rounds = plan.export_rounds if database.rooms > 100_000 else plan.rounds
            else:
                rounds = plan.rounds
                compare(urls)
            for _ in range(rounds):
                for server, url in zip(running, urls, strict=True):
                    database.settle()
                    machine.pin(database.backends(), cores.server)
                    if question == EXPORT:
                        sample = export(server, url, database.rooms)
                    else:
                        sample = requests(server, url, database, plan.seconds, generator)
                    results.setdefault((question, server.name), []).append(sample)
    return results


def compare(urls: list[str]) -> None:
    """The same rooms come from everyone, or the comparison would be worth nothing."""
    expected = None
    for url in urls:
        found = codes(load.get(url)[1])
        if expected is None:
            expected = found
        if found != expected:
            raise load.LoadError(f"Other rooms than from {urls[0]}: {url}")


def requests(server: servers.Server, url: str, database: Database, seconds: float, generator: str) -> Sample:
    alone = statistics.median(load.one_by_one(url, seconds / 5, AT_LEAST))
    app, backends = server.processes(), database.backends()
    before = costs(app, backends)
    if alone * SLOW > seconds:
        times = load.one_by_one(url, seconds, AT_LEAST)
        rate = load.Rate(len(times), sum(times), max(times))
    else:
        rate = load.load_test(url, seconds, generator)
    app_cpu, database_cpu, load_cpu, all_cpu = (
        after - earlier for after, earlier in zip(costs(app, backends), before, strict=True)
    )
    return Sample(
        rate.per_second,
        rate.p99,
        alone,
        app_cpu / rate.requests,
        database_cpu / rate.requests,
        max(0, all_cpu - app_cpu - database_cpu - load_cpu) / rate.seconds,
    )


def costs(app: list[int], backends: list[int]) -> tuple[float, float, float, float]:
    """CPU seconds so far: of the server, of PostgreSQL, of ourselves and wrk, of the whole machine."""
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (
        machine.cpu_seconds(app),
        machine.cpu_seconds(backends),
        sum(usage.ru_utime + usage.ru_stime for usage in ours),
        machine.busy_seconds(),
    )


def export(server: servers.Server, url: str, rooms: int) -> ExportSample:
    processes = server.processes()
    machine.forget_peak_memory(processes)
    before = machine.peak_memory(processes)
    done = load.export(url)
    if done.lines != rooms + 1:
        raise load.LoadError(f"{done.lines:,} lines instead of a header and {rooms:,} rooms: {url}")
    peak = machine.peak_memory(processes)
    return ExportSample(done.seconds, done.first_byte, peak, peak - before)
