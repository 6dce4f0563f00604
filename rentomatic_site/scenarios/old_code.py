"""Whether the code of an earlier revision still works on a database whose migrations it does not know."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError

PROBE = Path(__file__).parent / "old_code_probe.py"


class UnknownRevisionError(ScenarioError):
    """There is no repository, or not that revision in it."""


def revision_without(migrations: list[Path]) -> str:
    """The revision before the first of the migrations' files was committed; HEAD where none was."""
    files = [str(path) for path in migrations if path.is_relative_to(settings.BASE_DIR)]
    if not files:
        return "HEAD"
    log = ["log", "--diff-filter=A", "--topo-order", "--reverse", "--format=%H", "HEAD", "--", *files]
    commits = git(*log).decode().split()
    return f"{commits[0]}^" if commits else "HEAD"


@contextmanager
def code_of(revision: str) -> Iterator[Path]:
    """
    A folder with the project's code of a revision, which is removed afterwards; a folder is taken as it is.

    An archive leaves nothing in the repository, as a worktree would when the command is killed.
    """
    if Path(revision).is_dir():
        yield Path(revision).resolve()
        return
    archive = git("archive", "--format=tar", revision)
    with TemporaryDirectory(prefix="rentomatic-code-") as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def git(*arguments: str) -> bytes:
    """The output of git in the project's folder; UnknownRevisionError where it fails."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=settings.BASE_DIR, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", b"") or str(error).encode()
        lines = output.decode(errors="replace").strip().splitlines()
        raise UnknownRevisionError(
            f"git {arguments[0]}: {lines[0] if lines else error}. "
            "Next: --code FOLDER, with the code that serves now, or --no-code"
        ) from None


def results(code: Path, database: str, paths: list[str]) -> dict[str, str]:
    """Step → result of the probe, run by that code on the database."""
    environment = os.environ | {
        "DATABASE_URL": postgres.url(database),
        "DJANGO_SETTINGS_MODULE": "rentomatic_site.settings",
        "ENV_FILE": os.environ.get("ENV_FILE") or str(settings.BASE_DIR / ".env"),
        "PYTHONPATH": str(code),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SCENARIO": "",
    }
    done = subprocess.run(
        [sys.executable, "-P", str(PROBE), json.dumps(paths)],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"start": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return {"start": "ok", **found}


def broken(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What worked before the migrations and does not afterwards."""
    worked = {step: result for step, result in before.items() if works(result)}
    return [
        f"{step}: {after.get(step, after['start'])}"
        for step in worked
        if not works(after.get(step, after["start"]))
    ]


def works(result: str) -> bool:
    return result == "ok" or result[:1] in {"2", "3", "4"}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The requests that are answered otherwise after the migrations."""
    return [
        step
        for step, result in before.items()
        if step in after and works(after[step]) and works(result) and after[step] != result
    ]
