"""
Mutation testing: faults are put into a copy of the project, and the tests of the module run on each.

cosmic-ray finds the places, changes the code and keeps the results; here is which tests belong to which
module, the sample, and the report.
"""

import argparse
import difflib
import fcntl
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = Path(".rentomatic", "mutants")
SAMPLE = 40
"""Mutants; each takes about 15 seconds, most of them for a test database."""

API, ADMIN, SITE = "rooms/tests/api/test_", "rooms/tests/admin/test_", "rentomatic_site/scenarios/tests"
TESTS = {
    "rooms/api/clusters.py": [f"{API}clusters.py", f"{API}estimates.py"],
    "rooms/api/errors.py": [f"{API}faults.py", f"{API}bad_input.py", f"{API}http.py"],
    "rooms/api/exports.py": [f"{API}exports.py", f"{API}formats.py"],
    "rooms/api/formats.py": [f"{API}formats.py", f"{API}exports.py"],
    "rooms/api/geo.py": [f"{API}geo.py", f"{API}bad_input.py"],
    "rooms/api/grid.py": [f"{API}clusters.py"],
    "rooms/api/hints.py": [f"{API}bad_input.py"],
    "rooms/api/negotiation.py": [f"{API}formats.py", f"{API}http.py"],
    "rooms/api/openapi.py": [f"{API}openapi.py"],
    "rooms/api/operators.py": [f"{API}operators.py", f"{API}bad_input.py"],
    "rooms/api/pagination.py": [f"{API}pagination.py", f"{API}bad_input.py"],
    "rooms/api/parameters.py": [f"{API}bad_input.py", f"{API}operators.py", f"{API}http.py"],
    "rooms/api/queries.py": [f"{API}operators.py", f"{API}pagination.py", f"{API}geo.py"],
    "rooms/api/statistics.py": [f"{API}statistics.py"],
    "rooms/columns.py": ["rooms/tests/test_coordinates.py", f"{API}bad_input.py", "rooms/tests/imports"],
    "rooms/counting.py": [f"{API}http.py", f"{API}statistics.py", f"{ADMIN}list.py", f"{API}estimates.py"],
    "rooms/sampling.py": [f"{API}statistics.py", f"{API}clusters.py", f"{API}estimates.py"],
    "rooms/views.py": [f"{API}http.py", f"{API}formats.py", f"{API}statistics.py", "rooms/tests/pages"],
    "rooms/imports": ["rooms/tests/imports"],
    "rooms/admin/actions": [f"{ADMIN}bulk.py", f"{ADMIN}locks.py"],
    "rooms/admin/files": [f"{ADMIN}files.py", f"{ADMIN}file_bounds.py"],
    "rooms/admin/form.py": [f"{ADMIN}form.py", f"{ADMIN}odd_input.py"],
    "rooms/admin/history.py": [f"{ADMIN}form.py", f"{ADMIN}bulk.py", f"{ADMIN}files.py"],
    "rooms/admin/list_filters.py": [f"{ADMIN}list.py", f"{ADMIN}odd_input.py"],
    "rooms/admin/listing.py": [f"{ADMIN}list.py", f"{ADMIN}odd_input.py"],
    "rooms/admin/locks.py": [f"{ADMIN}locks.py", f"{ADMIN}file_bounds.py"],
    "rooms/admin/room.py": [f"{ADMIN}form.py", f"{ADMIN}list.py", f"{ADMIN}bulk.py", f"{ADMIN}access.py"],
    "rentomatic_site/scenarios": [SITE],
}
"""The tests that concern a module or the modules of a folder, the most likely to fail first."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants ARGS=",
        description=(
            "Put faults into a copy of the project, one at a time, run the tests that concern the module, "
            "and write to stdout, as Markdown, how many faults they noticed and which they did not. The "
            f"working tree is only read. The copy and the results are in {FOLDER}: the same command goes on "
            "where an interrupted run was; after a change of a file it begins anew."
        ),
        epilog='Example: make mutants ARGS="--sample 60 --module rooms/api/pagination.py"',
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=SAMPLE,
        metavar="N",
        help=f"mutants in all; 0 takes all there are (default: {SAMPLE}, about ten minutes)",
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


class MutantsError(Exception):
    """Why nothing can be measured, and the next step."""


def sources(root: Path) -> list[Path]:
    """The files that git tracks or would take in, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(Path(name) for name in set(listed.split("\0")) if name and (root / name).is_file())


def modules(root: Path, chosen: list[str], tests: dict[str, list[str]]) -> list[Path]:
    """The Python modules of these paths that hold code, relative to the root."""
    found = []
    for path in map(Path, chosen):
        inside = [file for file in sources(root) if file.suffix == ".py" and file.is_relative_to(path)]
        if not inside:
            raise MutantsError(
                f"--module {path}: there is no such module. Paths begin at the project's folder."
            )
        found += [file for file in inside if "tests" not in file.parts and (root / file).stat().st_size]
    for module in found:
        tests_of(module, tests)
    return sorted(set(found))


def tests_of(module: Path, tests: dict[str, list[str]]) -> list[str]:
    for path in (module, *module.parents):
        if path.as_posix() in tests:
            return tests[path.as_posix()]
    raise MutantsError(f"{module}: no tests are named for it. Next: add a line to TESTS in {__name__}.")


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A fresh copy of the project, which one run at a time works on."""
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MutantsError("Another run is under way in this folder. Next: wait for its end.") from None
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        for path in sources(root):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, copy / path)
        if (root / ".venv").exists():
            (copy / ".venv").symlink_to(root / ".venv")
        yield copy


def session_name(root: Path, *options: object) -> str:
    """Differs as soon as a file of the project or an option differs."""
    digest = hashlib.sha256(repr(options).encode())
    for path in sources(root):
        digest.update(f"{path}\0".encode() + (root / path).read_bytes())
    return digest.hexdigest()[:16]


def place(item: WorkItem) -> tuple[object, ...]:
    """Where a mutant is and of which kind, without what is put there instead."""
    (mutation,) = item.mutations
    return mutation.module_path, mutation.start_pos, mutation.operator_name.split("_")[0]


def kind(item: WorkItem) -> tuple[str, int]:
    (mutation,) = item.mutations
    return mutation.operator_name, mutation.occurrence


def choose(file: Path, paths: list[Path], sample: int, seed: int) -> None:
    """
    Write a session with a sample of the mutants of these modules.

    At most one at each place: an addition alone has eleven, one for each other operator. `|` is left out, it
    joins types nearly everywhere. Sorted first, because the session has no order of its own.
    """
    unfinished = file.with_suffix(".unfinished")
    with use_db(str(unfinished)) as session:
        init(paths, session, {})
        items = [item for item in session.work_items if "BinaryOperator_BitOr_" not in kind(item)[0]]
        items.sort(key=lambda item: (*place(item), *kind(item)))
        random.Random(seed).shuffle(items)  # noqa: S311, a sample
        one_each = list({place(item): item for item in items}.values())
        session.clear()
        session.add_work_items(one_each[: sample or None])
    unfinished.rename(file)


def run_tests(tests: list[str], limit: float | None = None) -> bool:
    """Whether the tests of this folder pass within `limit` seconds; else they are ended as by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        # First on the path, before the project that .venv belongs to. Files change within a second, which
        # compiled ones would not notice.
        env=os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    continue


def measure(session: WorkDB, tests: dict[str, list[str]]) -> None:
    """Run the tests of this folder, the copy, on each mutant that has no result yet."""
    limits: dict[tuple[str, ...], float] = {}
    for item in sorted(session.pending_work_items, key=place):
        (mutation,) = item.mutations
        concerned = tests_of(mutation.module_path, tests)
        if tuple(concerned) not in limits:
            began = time.monotonic()
            if not run_tests(concerned):
                command = f".venv/bin/pytest {' '.join(concerned)}"
                raise MutantsError(f"The tests fail without a fault. Next: {command}")
            limits[tuple(concerned)] = 30 + 3 * (time.monotonic() - began)
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        with use_mutation(mutation.module_path, operator, mutation.occurrence) as (before, after):
            passed = run_tests(concerned, limits[tuple(concerned)])
        outcome = TestOutcome.SURVIVED if passed else TestOutcome.KILLED
        change = "\n".join(changed_lines(before, after))
        session.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, None, outcome, change))
        verdict = "not noticed" if passed else "noticed"
        say(f"{session.num_results}/{session.num_work_items} {position(mutation)} {verdict}")


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and line[:3] not in {"+++", "---"}]


def position(mutation: MutationSpec) -> str:
    return f"{mutation.module_path}:{mutation.start_pos[0]}"


def report(session: WorkDB) -> str:
    """The table by module, and the mutants that no test noticed."""
    measured = [(item.mutations[0], result) for item, result in session.completed_work_items]
    counts = Counter((str(mutation.module_path), result.is_killed) for mutation, result in measured)
    lines = ["| module | noticed | not noticed | share |", "|---|--:|--:|--:|"]
    for module in sorted({module for module, _ in counts}):
        lines.append(row(module, counts[module, True], counts[module, False]))
    noticed = sum(result.is_killed for _, result in measured)
    lines.append(row("all", noticed, len(measured) - noticed))
    survivors = [(mutation, result.diff) for mutation, result in measured if not result.is_killed]
    for mutation, change in sorted(survivors, key=lambda pair: (pair[0].module_path, pair[0].start_pos)):
        lines += ["", position(mutation), "", "```diff", change, "```"]
    return "\n".join(lines) + "\n"


def row(module: str, noticed: int, missed: int) -> str:
    share = f"{noticed / (noticed + missed):.0%}" if noticed + missed else "–"
    return f"| {module} | {noticed} | {missed} | {share} |"


def say(line: str) -> None:
    """Progress, on stderr: stdout holds nothing but the report."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None, root: Path = PROJECT, tests: dict[str, list[str]] = TESTS) -> int:
    chosen = arguments(argv)
    # A plain `kill` ends the run as Ctrl-C does, with the tests that run.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        paths = modules(root, chosen.module or list(tests), tests)
        with copy_of(root) as copy:
            name = session_name(root, paths, chosen.sample, chosen.seed)
            file = copy.parent / f"{name}.sqlite"
            os.chdir(copy)  # the paths of a session are relative
            if not file.exists():
                choose(file, paths, chosen.sample, chosen.seed)
            with use_db(str(file)) as session:
                try:
                    measure(session, tests)
                finally:
                    sys.stdout.write(report(session))
    except MutantsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on from here.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
