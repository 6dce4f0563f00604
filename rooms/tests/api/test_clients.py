"""
Clients that generators make of /openapi.json, used on a real server, and what checkers of such documents say.

The npm packages are those of clients/package-lock.json; they are installed once into `.rentomatic/clients`.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connection

from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import PROJECT

SOURCES = Path(__file__).parent / "clients"
TOOLS = PROJECT / ".rentomatic" / "clients"
EXPECTED = {
    "list": [39, 66, 60, 48],
    "filtered": [39, 48],
    "among": [39, 66],
    "box": [39],
    "near": [48],
    "fields": [{"price": 39}],
    "pages": [[66, 60], [48, 39], [66, 60]],
    "error": [400, "limit: must be from 1 to 1000", "limit=1000"],
    "ndjson": [39, 48, 60, 66],
}
"""Of the four rooms of the book."""

with_npm = pytest.mark.needs("node", "npm")


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory, django_db_setup, django_db_blocker):
    """A site with the book's rooms, and the document that it serves as a file."""
    folder = tmp_path_factory.mktemp("clients")
    with ExitStack() as stack:
        with django_db_blocker.unblock():
            name = f"{connection.settings_dict['NAME']}_clients"
            variables = stack.enter_context(rig.database(name))
        rig.manage("shell", "-c", "from scenarios import book_rooms; book_rooms.run()", **variables)
        server = stack.enter_context(rig.Gunicorn(folder, **variables))
        document = folder / "openapi.json"
        document.write_bytes(server.get("/openapi.json").body)
        yield server, document


@pytest.fixture(scope="module")
def node_modules():
    """The folder of the installed npm packages, made by the first test that needs it."""
    lock = SOURCES / "package-lock.json"
    target = TOOLS / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    if not target.exists():
        TOOLS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TOOLS) as made:
            folder = Path(made, "installed")
            folder.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCES / name, folder)
            run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
            if not target.exists():  # another run of the tests may have been quicker
                folder.rename(target)
    return target / "node_modules"


@pytest.fixture
def workshop(node_modules, tmp_path):
    """A folder in which node finds the packages."""
    (tmp_path / "node_modules").symlink_to(node_modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def test_a_client_of_openapi_python_client_works(site, tmp_path):
    server, document = site
    tools = Path(sys.executable).parent
    run(
        *(tools / "openapi-python-client", "generate", "--meta", "none"),
        *("--path", document, "--output-path", tmp_path / "generated"),
        folder=tmp_path,
        PATH=f"{tools}:{os.environ['PATH']}",
    )
    said = run(sys.executable, SOURCES / "client.py", server.url, folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert json.loads(said) == EXPECTED


@with_npm
def test_a_client_of_openapi_typescript_works(site, workshop):
    server, document = site
    tools = workshop / "node_modules" / ".bin"
    run(tools / "openapi-typescript", document, "--output", "schema.d.ts", folder=workshop)
    shutil.copy(SOURCES / "client.ts", workshop)
    options = [
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--skipLibCheck",
        "--lib",
        "es2022,dom",
    ]
    declarations = workshop / "node.d.ts"
    declarations.write_text("declare const process: { argv: string[] };\n")
    run(tools / "tsc", *options, "client.ts", "node.d.ts", folder=workshop)
    assert json.loads(run("node", "client.js", server.url, folder=workshop)) == EXPECTED


@with_npm
def test_redocly_finds_no_error_in_the_document(site, workshop):
    _, document = site
    command = [workshop / "node_modules" / ".bin" / "redocly", "lint", "--format", "json", document]
    said = run(*command, folder=workshop, REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true")
    found = json.loads(said)["problems"]
    assert [problem["ruleId"] for problem in found] == ["info-license"]  # there is none to name


@with_npm
def test_spectral_finds_nothing_in_the_document(site, workshop):
    _, document = site
    (workshop / ".spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    spectral = workshop / "node_modules" / ".bin" / "spectral"
    said = run(
        spectral, "lint", "--format", "json", "--quiet", "--fail-severity", "hint", document, folder=workshop
    )
    assert json.loads(said) == []
