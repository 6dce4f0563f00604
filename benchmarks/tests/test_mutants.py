"""`make mutants` on a project of two modules: one that its tests cover, one that they do not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# `make test` installs no more than the tests need; `make check` and `make mutants` add the rest.
pytest.importorskip("cosmic_ray", reason="needs the development requirements. Next: make install")

from benchmarks.mutants import tests as table
from benchmarks.mutants.project import modules
from benchmarks.mutants.report import EQUIVALENT, Equivalent

PROJECT = Path(__file__).resolve().parents[2]
FILES = {
    "app/covered.py": "def older(age):\n    return age > 17\n",
    "app/uncovered.py": "def price(nights):\n    return nights * 40\n",
    "tests/test_covered.py": (
        "from app.covered import older\n\n\n"
        "def test_older():\n    assert [older(n) for n in (16, 17, 18, 19)] == [False, False, True, True]\n"
    ),
    "tests/test_uncovered.py": "import app.uncovered\n\n\ndef test_it():\n    assert app.uncovered.price\n",
    "pytest.ini": "[pytest]\naddopts = -p no:django -p no:schemathesis -p no:hypothesispytest -p no:faker\n",
}
RUN = """
import sys
from pathlib import Path
from benchmarks.mutants.__main__ import main
tests = {"app/covered.py": ["tests/test_covered.py"], "app/uncovered.py": ["tests/test_uncovered.py"]}
sys.exit(main(sys.argv[1:], Path.cwd(), tests))
"""


@pytest.fixture
def small(tmp_path):
    """`small(*options)` measures a project that has nothing but FILES."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".gitignore").write_text(".rentomatic\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    def run(*options):
        return subprocess.run(
            [sys.executable, "-c", RUN, *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_a_fault_that_no_test_notices_is_listed_with_its_line_and_change(small, tmp_path):
    done = small("--sample", "0")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^\| app/covered.py \| ([1-9]\d*) \| 0 \| \1 \| 0 \| 100% \|$", done.stdout, re.MULTILINE
    )
    assert re.search(
        r"^\| app/uncovered.py \| ([1-9]\d*) \| 0 \| 0 \| \1 \| 0% \|$", done.stdout, re.MULTILINE
    )
    assert "app/uncovered.py:2\n\n```diff\n-    return nights * 40\n+    return nights" in done.stdout
    assert "app/covered.py:" not in done.stdout
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES


def test_the_same_run_goes_on_where_it_was_and_changed_tests_run_again(small, tmp_path):
    first = small("--sample", "1", "--module", "app/uncovered.py")
    assert "app/uncovered.py:2 not noticed" in first.stderr
    again = small("--sample", "1", "--module", "app/uncovered.py")
    assert (again.stdout, again.stderr) == (first.stdout, "")
    (tmp_path / "tests" / "test_uncovered.py").write_text(
        "from app.uncovered import price\n\n\ndef test_price():\n    assert price(3) == 120\n"
    )
    assert "app/uncovered.py:2 noticed" in small("--sample", "1", "--module", "app/uncovered.py").stderr


def test_a_larger_sample_keeps_what_a_smaller_one_has_measured(small):
    small("--sample", "1", "--module", "app/covered.py")
    more = small("--sample", "2", "--module", "app/covered.py")
    assert len(more.stderr.splitlines()) == 1
    assert "| app/covered.py | 2 | 0 | 2 | 0 | 100% |" in more.stdout


def test_a_mutant_named_as_equivalent_is_no_part_of_the_share(small, tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / EQUIVALENT).write_text('["app/uncovered.py"]\n"return nights * 40" = "nobody rents"\n')
    done = small("--module", "app/uncovered.py")
    assert re.search(
        r"^\| app/uncovered.py \| ([1-9]\d*) \| \1 \| 0 \| 0 \| – \|$", done.stdout, re.MULTILINE
    )
    assert "```diff" not in done.stdout


def test_what_changes_only_annotations_is_left_out(small, tmp_path):
    (tmp_path / "app" / "uncovered.py").write_text("def price(nights: int | None) -> str | int:\n    ...\n")
    assert small("--sample", "0", "--module", "app/uncovered.py").stderr == ""


def test_tests_that_fail_without_a_fault_end_the_run_with_their_command(small, tmp_path):
    (tmp_path / "tests" / "test_covered.py").write_text("def test_it():\n    assert False\n")
    done = small("--module", "app/covered.py")
    assert done.returncode == 1
    assert done.stderr.endswith("without a fault. Next: .venv/bin/pytest tests/test_covered.py\n")


def test_a_module_that_is_not_there_is_named(small):
    done = small("--module", "app/nothing.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("--module app/nothing.py: there is no such module.")


def test_each_equivalent_mutant_is_of_a_line_that_exists_and_has_a_reason():
    equivalent = Equivalent(PROJECT)
    assert equivalent.outdated(PROJECT) == []
    assert all(reason for reasons in equivalent.reasons.values() for reason in reasons.values())


def test_every_module_and_test_of_the_table_exists():
    paths = {*table.TESTS, *(path for tests in table.TESTS.values() for path in tests)}
    assert sorted(path for path in paths if not (PROJECT / path).exists()) == []
    assert all(table.tests_of(module, table.TESTS) for module in modules(PROJECT, list(table.TESTS)))
