"""
nginx's micro-cache beside a static file, and gunicorn's worker classes: `python -m benchmarks.edge`.

The target for the micro-cache: a cached list at half the speed of a static file of the same bytes, or better.
Both are served by nginx with the limits and the log of the shipped templates, over plain HTTP so that TLS
does not hide the difference. The worker classes are measured behind the same nginx with the cache off.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django

from benchmarks.stopping import stoppable

CLASSES = {
    "threads, 2 × 4 (as shipped)": ("2",),
    "threads, 1 × 8": ("1", "--threads", "8"),
    "sync, 2": ("2", "--worker-class", "sync", "--threads", "1"),
    "sync, 5 (2 × cores + 1)": ("5", "--worker-class", "sync", "--threads", "1"),
}
"""WEB_WORKERS, and the arguments that differ from the shipped configuration."""


@stoppable
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.5 seconds instead of 7 of 2")
    chosen, _ = parser.parse_known_args()  # the rest of ARGS is for `python -m benchmarks`
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        sys.stderr.write(
            "benchmarks.edge: nginx is missing, nothing was measured. Next: apt install nginx-light\n"
        )
        return 0
    rounds, seconds = (3, 0.5) if chosen.quick else (7, 2.0)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import databases, machine

    cores = machine.cores()
    machine.pin([os.getpid()], cores.load)
    with tempfile.TemporaryDirectory() as folder, databases.seeded(10_000, keep=False) as database:
        bench = Bench(Path(folder), database, cores, rounds, seconds)
        sys.stdout.write(f"{machine.description()}\n\n")
        report("what serves `/rooms` (100 rooms)", bench.micro_cache())
        report("gunicorn behind nginx, no cache", bench.worker_classes())
    return 0


@dataclass
class Bench:
    """The servers of one run; `cores` keeps the load generator off the core of the servers."""

    folder: Path
    database: Any
    cores: Any
    rounds: int
    seconds: float

    @contextmanager
    def site(self, name: str, *arguments: str, cache: str = "off", **variables: str) -> Iterator[Any]:
        """gunicorn with nginx in front, which serves plain HTTP as behind a TLS terminator."""
        from benchmarks import machine
        from rentomatic_site.testing import rig
        from rentomatic_site.testing.proxy import Nginx

        folder = self.folder / name
        folder.mkdir()
        variables |= self.database.environment() | {"ACCESS_LOG": "off"}
        wide = {"NGINX_PLAIN": "site", "NGINX_RATE": "1000000r/s", "NGINX_MICROCACHE": cache}
        with (
            rig.Gunicorn(folder, *arguments, **variables) as gunicorn,
            Nginx(folder / "nginx", *[gunicorn.port] * 4, **wide) as nginx,
        ):
            for server in (gunicorn, nginx):
                machine.pin(machine.with_descendants(server.process.pid), self.cores.server)
            yield nginx

    def micro_cache(self) -> dict[str, list[float]]:
        from rentomatic_site.testing import rig

        with self.site("cached", cache="on") as cached, self.site("uncached") as uncached:
            # The shipped nginx serves files from the folder of ACME challenges only.
            folder = cached.acme / ".well-known" / "acme-challenge"
            folder.mkdir(parents=True)
            (folder / "rooms").write_bytes(rig.get(cached.http, "/rooms", Host="localhost").body)
            return self.request_rates(
                {
                    "nginx, a static file of these bytes": f"http://localhost:{cached.http}/.well-known/acme-challenge/rooms",
                    "nginx, micro-cache": f"http://localhost:{cached.http}/rooms",
                    "nginx, then gunicorn": f"http://localhost:{uncached.http}/rooms",
                }
            )

    def worker_classes(self) -> dict[str, list[float]]:
        with ExitStack() as stack:
            urls = {}
            for number, (name, (workers, *arguments)) in enumerate(CLASSES.items()):
                nginx = stack.enter_context(self.site(str(number), *arguments, WEB_WORKERS=workers))
                urls[name] = f"http://localhost:{nginx.http}/rooms"
            return self.request_rates(urls)

    def request_rates(self, urls: dict[str, str]) -> dict[str, list[float]]:
        """Requests per second, in interleaved rounds, so that a change of the machine's speed affects all."""
        from benchmarks import load

        rates: dict[str, list[float]] = {name: [] for name in urls}
        for number in range(self.rounds + 1):
            for name, url in urls.items():
                rate = load.load_test(url, self.seconds, load.generator()).per_second
                if number:  # the first round warms up
                    rates[name].append(rate)
        return rates


def report(title: str, rates: dict[str, list[float]]) -> None:
    """A table of medians and extremes; ratios to the first line."""
    first = statistics.median(next(iter(rates.values())))
    sys.stdout.write(f"| {title} | requests/s | from … to | ratio |\n|---|--:|--:|--:|\n")
    for name, samples in rates.items():
        median = statistics.median(samples)
        sys.stdout.write(
            f"| {name} | {median:,.0f} | {min(samples):,.0f} … {max(samples):,.0f} | {median / first:.2f} |\n"
        )
    sys.stdout.write("\n")


if __name__ == "__main__":
    sys.exit(main())
