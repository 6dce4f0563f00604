"""What is written for people is true: the README's commands run, and what exists is written down."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from rentomatic_site.testing.rig import Gunicorn

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
CURL_LINES = [
    line
    for line in BLOCKS.splitlines()
    if line.startswith("curl 'http://localhost:8000") or " 'http://localhost:8000" in line
]
OURS = sorted(name for name, app in get_commands().items() if app in {"rentomatic_site", "rooms"})


def test_the_readme_has_curl_lines() -> None:
    assert len(CURL_LINES) >= 8


@pytest.mark.needs("curl")
@pytest.mark.parametrize("line", CURL_LINES)
def test_curl_line_of_the_readme_runs(line: str, live_site: Gunicorn) -> None:
    command = shlex.split(line.replace("http://localhost:8000", live_site.url))
    done = subprocess.run([*command, "--silent", "--show-error", "--fail"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("name", OURS)
def test_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"`{name}\b", README), f"{name} is missing under Commands in README.md"


@pytest.mark.parametrize("name", OURS)
def test_command_has_help(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    assert len(command.help.split()) >= 5


def test_commands_of_the_readme_exist() -> None:
    named = set(re.findall(r"\./manage\.py (\w+)", README))
    assert named - {"help"} <= set(get_commands())


def test_files_of_the_readme_exist() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert linked
    assert [name for name in linked if not (PROJECT / name).exists()] == []


def test_folders_of_the_map_exist() -> None:
    map_ = README[README.index("## Map") :]
    folders = re.findall(r"^(\w+)/ ", map_, re.MULTILINE)
    assert len(folders) >= 6
    assert [folder for folder in folders if not (PROJECT / folder).is_dir()] == []


def required() -> list[str]:
    """The packages that the project itself asks for, without those that they bring along."""
    files = sorted((PROJECT / "requirements").glob("*.in")) or sorted(
        (PROJECT / "requirements").glob("*.txt")
    )
    return re.findall(
        r"^([A-Za-z][A-Za-z0-9-]+)", "\n".join(file.read_text() for file in files), re.MULTILINE
    )


@pytest.mark.parametrize("package", required())
def test_dependency_has_its_reason_in_the_readme(package: str) -> None:
    reasons = README[README.index("## Dependencies") :]
    assert re.search(rf"^\|[^|]*\b{re.escape(package)}\b[^|]*\|", reasons, re.MULTILINE), (
        f"{package}: why is it here?"
    )
