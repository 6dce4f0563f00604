"""
The second half of requirements/install: installs layers, such as `production testing`, into the .venv that
runs it.

uv does it, in a quarter of pip's time: the one in .venv, the one on the path, or one that pip fetches first.
pip does what uv cannot: where uv has no wheel, or where pip is told of a proxy. It comes from the wheel that
every Python brings along for ensurepip, unpacked: ensurepip would take 4 s for it, mostly to compile it all.

`.venv/requirements/NAME.txt` is a copy of the layer that is installed. While it is being installed
`NAME.begun` stands there; where that was left behind, packages may be half written and are all written again.
"""

import ast
import ensurepip
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = Path(sys.prefix)
INSTALLED = VENV / "requirements"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

COMPILE = sys.dont_write_bytecode
"""Whether to compile all modules now, in 3 s: else Python compiles what is used, when it is used first."""

UV_VARIABLES = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
"""What pip may be configured with, which uv does not read, and the variable that tells uv the same."""

ONLY_PIP = {"proxy", "client-cert", "no-binary", "only-binary"}
"""Where pip is configured with these, uv would silently do otherwise."""


def main(layers: list[str]) -> None:
    """Install those layers that are not, or not as they are now."""
    INSTALLED.mkdir(exist_ok=True)
    missing = [layer for layer in layers if not is_installed(layer)]
    if not missing:
        return
    sys.stdout.write(f"Installing requirements/{{{','.join(missing)}}}.txt into .venv\n")
    sys.stdout.flush()
    add_pip()
    begun = [INSTALLED / f"{layer}.begun" for layer in missing]
    again = any(path.exists() for path in begun)
    for layer, path in zip(missing, begun, strict=True):
        path.touch()
        (INSTALLED / f"{layer}.txt").unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as wanted:
        # Without the layers below, which are installed or in the list.
        wanted.writelines(re.sub(r"^-r .*\n", "", text_of(layer), flags=re.MULTILINE) for layer in missing)
        wanted.flush()
        status = install(wanted.name, again)
    if status:
        sys.exit(status)
    for layer, path in zip(missing, begun, strict=True):
        shutil.copyfile(HERE / f"{layer}.txt", INSTALLED / f"{layer}.txt")
        path.unlink()


def add_pip() -> None:
    """Put pip into .venv where it is not: from the wheel that Python has, or its distribution instead."""
    site_packages = Path(sysconfig.get_path("purelib"))
    if list(site_packages.glob("pip-*.dist-info/RECORD")):
        return
    folders = [Path(ensurepip.__file__).with_name("_bundled")]
    if distribution := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(distribution))
    for wheel in [wheel for folder in folders for wheel in folder.glob("pip-*.whl")]:
        with zipfile.ZipFile(wheel) as archive:
            # The list of its files comes last: without it, unpacking was interrupted.
            names = sorted(archive.namelist(), key=lambda name: name.endswith(".dist-info/RECORD"))
            archive.extractall(site_packages, names)
        return
    run([sys.executable, "-m", "ensurepip", "--default-pip"], os.environ, quiet=True)


def text_of(layer: str) -> str:
    return (HERE / f"{layer}.txt").read_text(encoding="utf-8")


def is_installed(layer: str) -> bool:
    """Whether exactly this text of the layer was installed to its end."""
    copy = INSTALLED / f"{layer}.txt"
    return copy.exists() and copy.read_text(encoding="utf-8") == text_of(layer)


def install(requirements: str, again: bool) -> int:
    """Install the file's packages, also over what is there where `again`; returns an exit status."""
    arguments = ["--require-hashes", "--no-deps", "--requirement", requirements]
    options = pip_options()
    uv = None if ONLY_PIP & options.keys() else find_uv(again)
    if uv:
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, *arguments]
        if again:
            command.append("--reinstall")
        if COMPILE:
            command.append("--compile-bytecode")
        done = run(command, uv_environment(options), quiet=True)
        if done == 0:
            return 0
        sys.stdout.write("uv could not; pip tries\n")
        sys.stdout.flush()
        again = True
    command = [*PIP, "install", "-qq", *arguments]
    if again:
        command.append("--ignore-installed")
    if not COMPILE:
        command.append("--no-compile")
    return run(command, os.environ)


def find_uv(again: bool) -> str | None:
    """A uv that runs, fetched where there is none; None where none can be had."""
    own = str(VENV / "bin" / "uv")
    for uv in (own, shutil.which("uv")):
        if uv and not (uv == own and again) and run([uv, "--version"], os.environ, quiet=True) == 0:
            return uv
    pinned = re.search(r"^uv==(?:.*\\\n)*.*\n", text_of("development"), re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as wanted:
        wanted.write(pinned[0] if pinned else "")
        wanted.flush()
        # Only a wheel: from its source, uv takes longer than pip does for everything.
        command = [*PIP, "install", "-qq", "--ignore-installed", "--only-binary=:all:", "--retries=0"]
        done = run([*command, "--require-hashes", "--requirement", wanted.name], os.environ, quiet=True)
    return own if done == 0 and Path(own).exists() else None


def pip_options() -> dict[str, str]:
    """What pip is configured with, by its files and its variables: the option's name and its value."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(global|install|:env:)\.([a-z-]+)=(.*)$", listed, re.MULTILINE)
    by_section = {
        section: {name: ast.literal_eval(value) for where, name, value in found if where == section}
        for section in ("global", "install", ":env:")
    }
    merged = by_section["global"] | by_section["install"] | by_section[":env:"]
    return {name: value for name, value in merged.items() if value}


def uv_environment(options: dict[str, str]) -> dict[str, str]:
    """uv's environment; what the caller set for uv itself stays."""
    told = {
        UV_VARIABLES[name]: ("," if name == "find-links" else " ").join(value.split())
        for name, value in options.items()
        if name in UV_VARIABLES
    }
    # As pip does, take a version from whichever index has it: the hash says that it is the right file.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match"} | told | dict(os.environ)


def run(command: list[str], environment: "dict[str, str] | os._Environ[str]", quiet: bool = False) -> int:
    """Run it to its end. It keeps `requirements/install`'s lock should we be killed before it."""
    output = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run(
            command, env=environment, close_fds=False, stdout=output, stderr=output, check=False
        )
    except OSError:  # such as a file that was half written when its installation was killed
        return 1
    return done.returncode


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
