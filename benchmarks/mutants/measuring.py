"""Running the tests on mutants, in the copy that is the current folder."""

import ast
import os
import random
import sys
import time
from pathlib import Path

from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from coverage import CoverageData

from benchmarks.mutants.project import MutantsError, digest
from benchmarks.mutants.pytest_runs import passes, preload
from benchmarks.mutants.report import Equivalent, changed_lines, position
from benchmarks.mutants.sample import place
from benchmarks.mutants.tests import OWN_SERVER, tests_of
from rentomatic_site.embedded import server as embedded_server

HANGS = 120.0
"""Seconds after which the tests to begin with count as failed; a fault may let them wait for ever."""

UNUSED_PLUGINS = ["xdist", "cacheprovider"]
"""Plugins of pytest that a run of a few tests does without; pytest.ini leaves out more."""


class Run:
    """Runs tests in the current folder, a copy; all on one server, except those that count databases."""

    def __init__(self, folder: Path, tests: dict[str, list[str]], python: list[Path]) -> None:
        self.folder = folder
        self.tests = tests
        self.seconds: dict[str, float] = {}
        self.server = folder / f"server-{os.getpid()}.ephemeral"
        self.modules = folder / "modules"
        self.modules.unlink(missing_ok=True)
        self.preloaded = False
        # Of this state of the project; other runs use them, too.
        self.traces = folder.parent / f"traces-{digest(folder / 'copy', python)}"
        self.traces.mkdir(exist_ok=True)

    def __enter__(self) -> "Run":
        embedded_server.start(self.server)
        return self

    def __exit__(self, *error: object) -> None:
        embedded_server.stop(self.server)

    def first_tests(self, mutation: MutationSpec) -> tuple[list[str], float]:
        """
        The tests to begin with, those that run what is mutated, and the seconds that they may take; none for
        what is outside of functions, which the first test of all runs.
        """
        tests = tests_of(mutation.module_path, self.tests)
        lines = range(mutation.start_pos[0], mutation.end_pos[0] + 1)
        if mutation.start_pos[0] not in lines_in_functions(mutation.module_path.read_text()):
            lines = range(0)
        found: dict[str, None] = {}
        for test in tests:
            if test not in self.seconds:
                self.seconds[test] = self.without_fault(test)
            traced = CoverageData(str(self.trace(test)))
            traced.read()
            for file in traced.measured_files():
                if file.endswith(f"/copy/{mutation.module_path}"):
                    contexts = traced.contexts_by_lineno(file)
                    named = [context.split("|")[0] for line in lines for context in contexts.get(line, [])]
                    found |= dict.fromkeys(filter(None, named))
        limit = 20 + 3 * sum(self.seconds[test] for test in tests)
        return list(found), limit

    def without_fault(self, test: str) -> float:
        """The seconds that these tests take; leaves a trace of the lines that each of them runs."""
        told = self.trace(test).with_suffix(".seconds")
        if not told.exists():
            began = time.monotonic()
            if not self.passes([test], trace=True):
                raise MutantsError(f"The tests fail without a fault. Next: .venv/bin/pytest {test}")
            told.write_text(str(time.monotonic() - began))
        return float(told.read_text())

    def trace(self, test: str) -> Path:
        return self.traces / f"{test.replace('/', '.')}.coverage"

    def passes(self, tests: list[str], limit: float | None = None, trace: bool = False) -> bool:
        """Whether these tests pass within `limit` seconds; else they are ended as by Ctrl-C."""
        # First on the path, before the project that .venv belongs to.
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(self.folder.parent / "bytecode")
        if not any(test.startswith(OWN_SERVER) for test in tests):
            environment["POSTGRES_HOSTNAME"] = embedded_server.socket_folder(self.server)
            environment["POSTGRES_USER"] = "postgres"
        options = [word for plugin in UNUSED_PLUGINS for word in ("-p", f"no:{plugin}")]
        if trace:
            environment["COVERAGE_FILE"] = str(self.trace(tests[0]))
            options += ["--cov", "--cov-context=test", "--cov-report=", f"--cov-config={os.devnull}"]
        else:
            options += ["-p", "no:pytest_cov"]
        chosen = self.folder / "tests"
        chosen.write_text("\n".join(tests))
        passed = passes(["-x", "-q", *options, f"@{chosen}"], environment, limit, self.modules)
        if not self.preloaded:
            preload(self.modules)
            self.preloaded = True
        return passed

    def measure(self, session: WorkDB, jobs: list[str], state: str, equivalent: Equivalent) -> None:
        """Run the tests on each mutant without a result, and on those not noticed in another state."""
        known = {
            job
            for job, result in session.results
            if result.is_killed or result.output in {state, "equivalent"}
        }
        for item in sorted(session.work_items, key=place):
            if item.job_id in set(jobs) - known:
                self.try_one(item, session, state, equivalent)

    def try_one(self, item: WorkItem, session: WorkDB, state: str, equivalent: Equivalent) -> None:
        (mutation,) = item.mutations
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        first, limit = self.first_tests(mutation)
        began = time.monotonic()
        before = mutation.module_path.stat()
        with use_mutation(mutation.module_path, operator, mutation.occurrence) as (old, new):
            change = "\n".join(changed_lines(old, new))
            excused = equivalent.reason(mutation.module_path, change) is not None
            # Compiled modules are known by size and second: each state of the file has its own second.
            os.utime(mutation.module_path, (self.second(), self.second()))
            # Others may run it, too: in another process, or through what the first ones left in a cache.
            passed = excused or (
                (not first or self.passes(first, min(limit, HANGS)))
                and self.passes(tests_of(mutation.module_path, self.tests), limit)
            )
        os.utime(mutation.module_path, ns=(before.st_atime_ns, before.st_mtime_ns))
        outcome = TestOutcome.SURVIVED if passed else TestOutcome.KILLED
        output = "equivalent" if excused else state
        session.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, output, outcome, change))
        verdict = "equivalent" if excused else "not noticed" if passed else "noticed"
        say(f"{position(mutation)} {verdict} ({time.monotonic() - began:.0f} s)")

    @staticmethod
    def second() -> int:
        return random.randrange(2**31)  # noqa: S311 - no secret


def lines_in_functions(code: str) -> set[int]:
    functions = [
        node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {number for node in functions for number in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}


def say(line: str) -> None:
    """Progress, on stderr: stdout holds nothing but the report."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()
