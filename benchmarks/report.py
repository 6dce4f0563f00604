"""The tables of a run, in Markdown: medians, ratios, minima and maxima."""

import statistics
from collections.abc import Callable, Iterable

from benchmarks.measuring import ExportSample, Results, Sample
from benchmarks.targets import EXPORT, deep_page


def tables(results: dict[int, Results]) -> str:
    """Everything that was measured, by the number of rooms."""
    return "\n\n".join(
        [
            compared(results, "requests per second", speed),
            compared(results, "requests per second of CPU time", cpu_efficiency, without=EXPORT),
            details(results),
            exports(results),
        ]
    )


def names(results: dict[int, Results]) -> list[str]:
    """The targets, ours first."""
    return list(dict.fromkeys(name for measured in results.values() for _workload, name in measured))


def workloads(measured: Results) -> list[str]:
    return list(dict.fromkeys(workload for workload, _name in measured))


def title_of(workload: str, rooms: int) -> str:
    return workload.replace("deep page", f"page {deep_page(rooms):,}")


def speed(samples: list[Sample | ExportSample]) -> float:
    """The median of requests per second, or of exports per second."""
    return median(
        1 / sample.seconds if isinstance(sample, ExportSample) else sample.per_second for sample in samples
    )


def cpu_efficiency(samples: list[Sample]) -> float:
    """
    Requests per second of CPU time, the app's and PostgreSQL's together: the capacity of a core. Unlike
    requests per second it hardly depends on the load of the machine.
    """
    return 1 / median(sample.app_cpu + sample.database_cpu for sample in samples)


def compared(results: dict[int, Results], title: str, rate: Callable, without: str = "") -> str:
    """The rates of all targets, and the ratio of ours to each peer's."""
    ours, *peers = names(results)
    rows = [[title, ours, *peers, *(f"÷ {peer}" for peer in peers)]]
    for rooms, measured in results.items():
        rows.append([f"**{rooms:,} rooms**"] + [""] * (len(rows[0]) - 1))
        for workload in workloads(measured):
            if workload == without:
                continue
            rates = {
                name: rate(measured[workload, name])
                for name in (ours, *peers)
                if (workload, name) in measured
            }
            cells = [rate_cell(rates.get(name), workload) for name in (ours, *peers)]
            ratios = [f"**{rates[ours] / rates[peer]:,.1f}**" if peer in rates else "" for peer in peers]
            rows.append([title_of(workload, rooms), *cells, *ratios])
    return markdown(rows)


def rate_cell(rate: float | None, workload: str) -> str:
    """The rate, an export's time, or nothing for a workload that a peer does not have."""
    if rate is None:
        return ""
    return f"{1 / rate:,.2f} s" if workload == EXPORT else count(rate)


def details(results: dict[int, Results]) -> str:
    rows = [
        [
            "requests",
            "",
            "per second, min–max",
            "single client, ms",
            "99 % within, ms",
            "CPU in the app, µs",
            "in PostgreSQL, µs",
            "others' share of a core",
        ]
    ]
    for rooms, measured in results.items():
        for (workload, name), samples in measured.items():
            if workload == EXPORT:
                continue
            per_second = [sample.per_second for sample in samples]
            rows.append(
                [
                    f"{title_of(workload, rooms)} of {rooms:,} rooms",
                    name,
                    f"{count(min(per_second))}–{count(max(per_second))}",
                    f"{median(sample.single_client for sample in samples) * 1e3:,.1f}",
                    f"{median(sample.p99 for sample in samples) * 1e3:,.0f}",
                    f"{median(sample.app_cpu for sample in samples) * 1e6:,.0f}",
                    f"{median(sample.database_cpu for sample in samples) * 1e6:,.0f}",
                    f"{median(sample.others for sample in samples):.0%}",
                ]
            )
    return markdown(rows)


def exports(results: dict[int, Results]) -> str:
    rows = [["export as CSV", "", "seconds, min–max", "first byte, ms", "peak memory, MB", "growth, MB"]]
    for rooms, measured in results.items():
        for (workload, name), samples in measured.items():
            if workload != EXPORT:
                continue
            seconds = [sample.seconds for sample in samples]
            rows.append(
                [
                    f"{rooms:,} rooms",
                    name,
                    f"{min(seconds):,.2f}–{max(seconds):,.2f}",
                    f"{median(sample.first_byte for sample in samples) * 1e3:,.1f}",
                    f"{max(sample.peak_memory for sample in samples) / 2**20:,.0f}",
                    f"{max(sample.growth for sample in samples) / 2**20:,.0f}",
                ]
            )
    return markdown(rows)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def markdown(rows: list[list[str]]) -> str:
    """A table; the first column and columns without a title are text, the others are numbers."""
    head, *body = rows
    rule = ["---" if number == 0 or not title else "--:" for number, title in enumerate(head)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])
