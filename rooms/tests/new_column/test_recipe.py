"""
A column `floor` is added to a copy of the project by the recipe in CONTRIBUTING.md: a field of the model, its
migration, a row of columns.py, a place in the admin's fieldsets. Everything else has to follow by itself.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rentomatic_site.testing.plugin import PROJECT

FIELD = "    floor = models.IntegerField(null=True, blank=True)\n"
ROW = """
        Column(
            "floor",
            WHOLE_NUMBER,
            "the storey, 0 at street level",
            "3",
            limits=(-5, 200),
            unit="storeys",
            symbol="storeys",
            nullable=True,
            distribution=Between(0, 12),
            missing=0.2,
        ),
"""


def insert(file: Path, before: str, text: str) -> None:
    """Put text before the first occurrence of a marker, which has to be there."""
    source = file.read_text()
    assert before in source, f"{file.name} has no {before!r}"
    file.write_text(source.replace(before, text + before, 1))


def copy_of_the_project(folder: Path) -> Path:
    """The project without what is installed, generated or stored beside it."""
    ignored = shutil.ignore_patterns(".git", ".venv", ".env", ".rentomatic", "__pycache__", ".*_cache")
    return Path(shutil.copytree(PROJECT, folder / "copy", ignore=ignored))


def test_a_new_column_takes_a_field_a_migration_a_row_a_fieldset(tmp_path: Path) -> None:
    copy = copy_of_the_project(tmp_path)
    insert(copy / "rooms" / "models.py", "    created_at = ", FIELD)
    columns = copy / "rooms" / "columns.py"
    insert(columns, '    )\n}\n"""By name', ROW.lstrip("\n"))
    columns.write_text(columns.read_text().replace("import Distribution", "import Between, Distribution"))
    insert(copy / "rooms" / "admin" / "room.py", ', "loaded_version"]', ', "floor"')

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("manage.py", "makemigrations", "rooms", "--name", "floor")
    # Nothing of the outer run's plugins or options: the copy has its own, with a server of its own.
    os.environ.pop("PYTEST_XDIST_WORKER", None)
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", "rooms/tests/new_column/floor.py")
