"""The command line: `make bench`, or `python -m benchmarks` for its options."""

import argparse
import os
import signal
import subprocess
import sys
import time

import django
import psycopg2
from django.core.exceptions import ImproperlyConfigured

MODES = "The full run takes about seven minutes, --quick one and a half."


def arguments() -> argparse.Namespace:
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
        "--generator", choices=("wrk", "python"), help="who asks (default: wrk where it is installed)"
    )
    chosen = parser.parse_args()
    if min(chosen.rooms) < 1000:
        parser.error("--rooms: at least 1000, so that there is a deep page")
    return chosen


def say(line: str) -> None:
    """Progress, on stderr: stdout holds nothing but the tables."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main() -> int:
    chosen = arguments()
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
    facts = machine.facts()
    # A plain `kill` ends the run as Ctrl-C does, with everything stopped and dropped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = {}
    try:
        say(MODES)
        say("the peers' packages")
        targets.install_peers()
        machine.pin([os.getpid()], cores.load)
        for rooms in chosen.rooms:
            say(f"{rooms:,} rooms: the database")
            with databases.filled(rooms, chosen.keep) as database:
                results[rooms] = measuring.measure(
                    database, targets.all_targets(), plan, generator, cores, say
                )
    except failures as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        gone = "its servers are gone" if chosen.keep else "its servers and databases are gone"
        sys.stderr.write(f"Stopped; {gone}.\n")
        return 130
    apart = "on cores of their own" if cores.apart else "all on the one core there is, which blurs it"
    sys.stdout.write(
        f"{facts}. PostgreSQL and one server at a time, and {generator} with {load.CONNECTIONS} connections, "
        f"{apart}; {plan.rounds} interleaved rounds of {plan.seconds} s, medians.\n\n"
        f"{report.tables(results)}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
