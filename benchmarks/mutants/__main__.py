"""The command of `make mutants`."""

import argparse
import os
import signal
import sys
from pathlib import Path

from cosmic_ray.work_db import use_db

from benchmarks.mutants.measuring import Run
from benchmarks.mutants.project import FOLDER, MutantsError, copy_of, digest, modules, sources
from benchmarks.mutants.report import EQUIVALENT, Equivalent, Measured, report
from benchmarks.mutants.sample import choose
from benchmarks.mutants.tests import TESTS, files_of, tests_of

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = 15


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants ARGS=",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"""\
Put faults into a copy of the project, one at a time, run the tests that concern the module, and write to
stdout, as Markdown, how many faults they noticed and which they did not.

Faults are other operators, comparisons, numbers, conditions, exceptions, `break` for `continue`, loops
without a round, decorators taken away. Texts stay as they are, so neither docstrings nor messages nor what
is logged count. Left out: what changes only type annotations, and what is no Python any more.
{EQUIVALENT} lists the mutants that no test can notice, each with its reason; they are
shown in the table, and are no part of the share.

The working tree is only read. Copies and results are in {FOLDER}. The same command goes on where
an interrupted run was. What was noticed counts until its module changes; what was not is tried again when
its tests change. Several runs at once, of other modules each, have copies of their own.""",
        epilog='Example: make mutants ARGS="--sample 60 --module rooms/api/pagination.py"',
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=SAMPLE,
        metavar="N",
        help=(
            f"mutants of each module; 0 takes all there are (default: {SAMPLE}). A noticed one takes 2 to 20 "
            "seconds, another as long as the module's tests, which run once before"
        ),
    )
    parser.add_argument(
        "--module",
        nargs="+",
        metavar="PATH",
        help=f"modules or folders (default: all of {', '.join(TESTS)})",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample's choice (default: 1)")
    chosen = parser.parse_args(argv)
    if chosen.sample < 0:
        parser.error("--sample: 0 or more")
    return chosen


def main(argv: list[str] | None = None, root: Path = PROJECT, tests: dict[str, list[str]] = TESTS) -> int:
    chosen = arguments(argv)
    # A plain `kill` ends the run as Ctrl-C does, with the tests that run.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    measured: Measured = []
    try:
        paths = modules(root, chosen.module or list(tests))
        equivalent = Equivalent(root)
        python = [path for path in sources(root) if path.suffix == ".py"]
        with copy_of(root) as copy, Run(copy.parent, tests, python) as run:
            os.chdir(copy)  # the paths of a session are relative
            for path in paths:
                file = root / FOLDER / f"{'.'.join(path.parts)}-{digest(copy, [path])}.sqlite"
                with use_db(str(file)) as session:
                    jobs = choose(session, path, chosen.sample, chosen.seed)
                    try:
                        run.measure(session, jobs, digest(copy, files_of(tests_of(path, tests))), equivalent)
                    finally:
                        measured += [
                            (item.mutations[0], result)
                            for item, result in session.completed_work_items
                            if item.job_id in jobs
                        ]
    except MutantsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on from here.\n")
        return 130
    finally:
        if measured:
            sys.stdout.write(report(measured, equivalent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
