"""The project's files, and the copies of it in which tests run."""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = Path(".rentomatic", "mutants")


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


def modules(root: Path, chosen: list[str]) -> list[Path]:
    """The Python modules of these paths that hold code, relative to the root."""
    found = []
    for path in map(Path, chosen):
        inside = [file for file in sources(root) if file.suffix == ".py" and file.is_relative_to(path)]
        if not inside:
            raise MutantsError(
                f"--module {path}: there is no such module. Paths begin at the project's folder."
            )
        found += [f for f in inside if "tests" not in f.parts and f.name != "__init__.py"]
    return sorted(set(found))


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A fresh copy of the project for this run alone, in a folder of its own."""
    for number in range(1, 9):
        folder = root / FOLDER / f"run-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            copy = folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            for path in sources(root):
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / path, copy / path)
            if (root / ".venv").exists():
                (copy / ".venv").symlink_to(root / ".venv")
            yield copy
            return
    raise MutantsError(f"Eight runs are under way in {FOLDER}. Next: wait for the end of one.")


def digest(root: Path, paths: list[Path]) -> str:
    """Differs as soon as one of the files does."""
    seen = hashlib.sha256()
    for path in paths:
        seen.update(f"{path}\0".encode() + (root / path).read_bytes())
    return seen.hexdigest()[:16]
