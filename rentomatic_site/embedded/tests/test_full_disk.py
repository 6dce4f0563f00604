"""The embedded server and scenarios on a disk that is full: what is left, and what is said."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.testing.plugin import needs, run_manage

MB = 2**20
FILLS = """
import threading
from django.db import connection

def fill():
    with connection.cursor() as session:
        session.execute("CREATE UNLOGGED TABLE heap (n bigint)")
        session.execute("INSERT INTO heap SELECT generate_series(1, 10000000)")

def run():
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
"""
"""Writes more than the disk has room for, into a table that stays, and little to the write-ahead log."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`disk(45)`: the folder of a cluster on a file system of that many MB."""
    needs("root", "mount")
    mounted = tmp_path / "disk"
    mounted.mkdir()

    def mount(megabytes: int) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(mounted)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            (pytest.fail if os.environ.get("REQUIRE_ALL_TOOLS") else pytest.skip)(done.stderr)
        return mounted / "pg"

    yield mount
    embedded_server.stop(mounted / "pg")
    subprocess.run(["umount", "--lazy", str(mounted)], check=False, capture_output=True)


def manage(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    clean = {
        name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "POSTGRES_HOSTNAME"}
    }
    return run_manage(*arguments, env={**clean, "DEBUG": "on", "EMBEDDED_POSTGRES_DIR": str(folder), **env})


def test_a_first_start_that_fills_the_disk_leaves_nothing(
    disk: Callable[[int], Path],
) -> None:
    folder = disk(45)
    done = manage(folder, "postgres", "shell")
    assert done.returncode != 0
    assert f"the disk of {folder} is full" in done.stderr
    assert "Next: free 100 MB there" in done.stderr
    assert not (folder / "data.new").exists()
    assert not (folder / "data").exists()


def test_a_start_on_a_full_disk_fails_and_succeeds_with_space(
    disk: Callable[[int], Path],
) -> None:
    folder = disk(150)
    assert manage(folder, "migrate", "-v0").returncode == 0
    manage(folder, "postgres", "stop")
    ballast = folder.parent / "ballast"
    filled = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, filled.f_bavail * filled.f_frsize)
    done = manage(folder, "rooms")
    assert done.returncode != 0
    assert f"the disk of {folder} is full" in done.stderr
    assert "Next: free 100 MB there" in done.stderr
    assert "Traceback" not in done.stderr
    ballast.unlink()
    assert manage(folder, "rooms").returncode == 0


def test_a_scenario_that_fills_the_disk_leaves_nothing_and_the_server_up(
    disk: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = disk(200)
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    (scenarios / "t_empty.py").write_text("def run():\n    pass\n")
    (scenarios / "t_fills.py").write_text(FILLS)
    env = {"SCENARIOS_DIR": str(scenarios)}
    assert manage(folder, "load_scenario", "t_empty", **env).returncode == 0
    before = os.statvfs(folder)
    done = manage(folder, "load_scenario", "t_fills", **env)
    assert done.returncode == 1
    assert "The database server's disk is full" in done.stderr
    assert "Next: free some of it, such as by ./manage.py drop_scenario" in done.stderr
    assert "Traceback" not in done.stderr
    listed = manage(folder, "list_scenarios", **env)
    assert re.search(r"^t_fills +not loaded", listed.stdout, re.MULTILINE)
    assert "Templates, which make loading quick: 2," in listed.stdout
    lost = (before.f_bavail - os.statvfs(folder).f_bavail) * before.f_frsize
    assert lost < 60 * MB  # of write-ahead log, which is used again
    assert manage(folder, "load_scenario", "t_empty", "--reset", **env).returncode == 0
