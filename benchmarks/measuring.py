"""Rounds over all targets, and the samples of each measurement."""

import resource
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks import load, machine, servers
from benchmarks.databases import Database
from benchmarks.targets import EXPORT, ONE, Target, codes

SLOW = 10
"""Where fewer requests than this fit into a measurement, a single client sends them one after another."""

WARM_UP = 0.5  # seconds

AT_LEAST = 3  # requests of that single client


class Plan(NamedTuple):
    """The lengths and numbers of the measurements."""

    seconds: float
    """Length of one measurement."""
    rounds: int
    export_rounds: int
    """Rounds of exports of more than 100,000 rooms, which take many seconds each."""


class Sample(NamedTuple):
    """One measurement of one target; times in seconds, per request."""

    per_second: float
    p99: float
    single_client: float
    """The median latency of a single client with a new connection for each request."""
    app_cpu: float
    database_cpu: float
    others: float
    """CPU time of all other processes on the machine, in cores: the noise."""


class ExportSample(NamedTuple):
    seconds: float
    first_byte: float
    peak_memory: int
    """The peak resident set of the largest worker, in bytes."""
    growth: int
    """The increase of that during the export, in bytes."""


Results = dict[tuple[str, str], list[Sample | ExportSample]]
"""The samples by workload and name of the target."""


def measure(
    database: Database,
    targets: list[Target],
    plan: Plan,
    generator: str,
    cores: machine.Cores,
    report_progress: Callable[[str], None],
) -> Results:
    """All workloads of all targets on one database, in rounds A B C, A B C, …"""
    results: Results = {}
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                servers.running(
                    target.name,
                    target.command,
                    target.folder,
                    {**database.environment(), **target.environment},
                    cores.server,
                )
            )
            for target in targets
        ]
        paths = [target.paths(server.url, database) for target, server in zip(targets, running, strict=True)]
        for server, path in zip(running, paths, strict=True):
            # Threads connect at their first request: now, so that all backends can be pinned.
            load.load_test(server.url + path[ONE], WARM_UP, generator)
        for workload in paths[0]:
            urls = [
                (server, server.url + path[workload])
                for server, path in zip(running, paths, strict=True)
                if workload in path
            ]
            report_progress(f"{database.rooms:,} rooms: {workload}")
            if workload == EXPORT:
                rounds = plan.export_rounds if database.rooms > 100_000 else plan.rounds
            else:
                rounds = plan.rounds
                if len(urls) > 1:
                    compare([url for _, url in urls])
            for _ in range(rounds):
                for server, url in urls:
                    database.settle()
                    machine.pin(database.backends(), cores.server)
                    if workload == EXPORT:
                        sample = export(server, url, database.rooms)
                    else:
                        sample = requests(server, url, database, plan.seconds, generator)
                    results.setdefault((workload, server.name), []).append(sample)
    return results


def compare(urls: list[str]) -> None:
    """LoadError unless all targets return the same rooms."""
    expected = None
    for url in urls:
        found = codes(load.get(url)[1])
        if expected is None:
            expected = found
        if found != expected:
            raise load.LoadError(f"Other rooms than from {urls[0]}: {url}")


def requests(server: servers.Server, url: str, database: Database, seconds: float, generator: str) -> Sample:
    single_client = statistics.median(load.one_by_one(url, seconds / 5, AT_LEAST))
    app, backends = server.processes(), database.backends()
    alone = single_client * SLOW > seconds
    while True:
        before = costs(app, backends)
        if alone:
            times = load.one_by_one(url, seconds, AT_LEAST)
            rate = load.Rate(len(times), sum(times), max(times))
        else:
            rate = load.load_test(url, seconds, generator)
        if rate.requests:
            break
        alone = True  # of all the clients' requests at once none was done in time
    app_cpu, database_cpu, load_cpu, all_cpu = (
        after - earlier for after, earlier in zip(costs(app, backends), before, strict=True)
    )
    return Sample(
        rate.per_second,
        rate.p99,
        single_client,
        app_cpu / rate.requests,
        database_cpu / rate.requests,
        max(0, all_cpu - app_cpu - database_cpu - load_cpu) / rate.seconds,
    )


def costs(app: list[int], backends: list[int]) -> tuple[float, float, float, float]:
    """CPU seconds so far: of the server, of PostgreSQL, of this process and wrk, of the whole machine."""
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (
        machine.cpu_seconds(app),
        machine.cpu_seconds(backends),
        sum(usage.ru_utime + usage.ru_stime for usage in ours),
        machine.busy_seconds(),
    )


def export(server: servers.Server, url: str, rooms: int) -> ExportSample:
    processes = server.processes()
    machine.reset_peak_memory(processes)
    before = machine.peak_memory(processes)
    done = load.export(url)
    if done.lines != rooms + 1:
        raise load.LoadError(f"{done.lines:,} lines instead of a header and {rooms:,} rooms: {url}")
    peak = machine.peak_memory(processes)
    return ExportSample(done.seconds, done.first_byte, peak, peak - before)
