"""What a start loads: a command only what it needs, a web process everything, before it forks."""

import os
import re
import subprocess
import sys

import pytest

from rentomatic_site.testing.plugin import PROJECT

HEAVY = {"rooms.admin", "import_export.admin", "tablib", "openpyxl"}
PRINT_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}


def imported(stderr: str) -> set[str]:
    """The modules that Python says it imported, in lines such as `import time: 12 | 345 |   tablib`."""
    return set(re.findall(r"^import time: .*\| +(\S+)$", stderr, re.MULTILINE))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "arguments",
    [("rooms",), ("rooms", "price__lt=66", "--explain"), ("import_rooms", "-"), ("wait_for_db",), ("help",)],
    ids=" ".join,
)
def test_a_command_loads_no_admin_and_no_spreadsheets(manage, arguments):
    done = manage(*arguments, stdin="code,size,price,latitude,longitude\n", env=PRINT_IMPORTS)
    assert done.returncode == 0, done.stderr
    assert imported(done.stderr) & HEAVY == set()


def test_loading_a_scenario_loads_no_admin_and_no_spreadsheets(workshop):
    workshop.write("t_empty", "def run():\n    pass\n\nEXPECT = {'': 0}\n")
    done = workshop.manage("load_scenario", "t_empty", **PRINT_IMPORTS)
    assert "✓" in done.stdout, done.stderr
    assert imported(done.stderr) & HEAVY == set()


@pytest.mark.parametrize("arguments", [(), ("--tag", "admin"), ("--tag", "urls")], ids=" ".join)
def test_system_checks_cover_the_admin_of_every_app(tmp_path, arguments):
    app = tmp_path / "faulty"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "admin.py").write_text(
        "from django.contrib import admin\n"
        "from django.contrib.contenttypes.models import ContentType\n"
        "admin.site.register(ContentType, list_display=['no_such_column'])\n"
    )
    (tmp_path / "with_faulty.py").write_text(
        "from rentomatic_site.settings import *\nINSTALLED_APPS += ['faulty']\n"
    )
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "with_faulty", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(PROJECT / "manage.py"), "check", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    faults = done.stderr.count("(admin.E108) The value of 'list_display[0]' refers to 'no_such_column'")
    # The check of addresses loads the admin, and says nothing of what is in it.
    assert (done.returncode, faults) == ((0, 0) if "urls" in arguments else (1, 1)), done.stderr


def test_the_web_processes_load_every_view_before_they_fork():
    done = subprocess.run(
        [sys.executable, "-c", "import rentomatic_site.wsgi"],
        cwd=PROJECT,
        env=os.environ | PRINT_IMPORTS,
        capture_output=True,
        text=True,
    )
    assert {"rooms.views", "rooms.pages.listing", "rooms.admin.room", "openpyxl"} - imported(
        done.stderr
    ) == set()
