"""The command line: `make bench`, or `python -m benchmarks` for its options."""

import argparse
import os
import subprocess
import sys
import time

import django
import psycopg2
from django.core.exceptions import ImproperlyConfigured

from benchmarks.stopping import stoppable

MODES = "The full run takes about seven minutes, --quick one and a half."


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(
            "Measure the API on a real gunicorn beside Django REST framework and FastAPI, on the same rows "
            f"in PostgreSQL, and write the tables to stdout as Markdown. {MODES} Makes the databases "
            "bench_<rooms> on the configured server and drops them; changes nothing else there. The peers' "
            "packages go into .rentomatic/benchmarks/ the first time."
        ),
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.3 seconds instead of 9 of 0.8")
    parser.add_argument("--keep", action="store_true", help="keep the databases for the next run")
    parser.add_argument(
        "--rooms",
        type=int,
        nargs="+",
        default=[10_000, 1_000_000],
        metavar="N",
        help="sizes of the table, at least 1000 rooms (default: 10000 1000000)",
    )
    parser.add_argument("--seconds", type=float, help="length of one measurement, instead of the mode's")
    parser.add_argument("--rounds", type=int, help="measurements of each kind, instead of the mode's")
    parser.add_argument(
        "--generator",
        choices=("wrk", "python"),
        help="the load generator (default: wrk where it is installed)",
    )
    chosen = parser.parse_args()
    if min(chosen.rooms) < 1000:
        parser.error("--rooms: at least 1000, so that there is a deep page")
    return chosen


def report_progress(line: str) -> None:
    """Print a line to stderr: stdout has only the tables."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


@stoppable
def main() -> int:
    chosen = parse_arguments()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # These read the settings.
    from benchmarks import databases, load, machine, measuring, report, servers, targets

    failures = (
        targets.PeersMissingError,
        databases.DatabaseInTheWayError,
        load.LoadError,
        psycopg2.Error,
        servers.ServerError,
        subprocess.CalledProcessError,
    )
    plan = measuring.Plan(
        seconds=chosen.seconds or (0.3 if chosen.quick else 0.8),
        rounds=chosen.rounds or (3 if chosen.quick else 9),
        export_rounds=1 if chosen.quick else 3,
    )
    generator = chosen.generator or load.generator()
    cores = machine.cores()
    machine_description = machine.description()
    results = {}
    try:
        report_progress(MODES)
        report_progress("the peers' packages")
        targets.install_peers()
        machine.pin([os.getpid()], cores.load)
        for rooms in chosen.rooms:
            report_progress(f"{rooms:,} rooms: the database")
            with databases.seeded(rooms, chosen.keep) as database:
                results[rooms] = measuring.measure(
                    database, targets.all_targets(), plan, generator, cores, report_progress
                )
    except failures as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        removed = "its servers are gone" if chosen.keep else "its servers and databases are gone"
        sys.stderr.write(f"Stopped; {removed}.\n")
        return 130
    placement = "on separate cores" if cores.apart else "all on one core, which distorts the results"
    sys.stdout.write(
        f"{machine_description}. PostgreSQL and one server at a time, "
        f"and {generator} with {load.CONNECTIONS} connections, "
        f"{placement}; {plan.rounds} interleaved rounds of {plan.seconds} s, medians.\n\n"
        f"{report.tables(results)}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
