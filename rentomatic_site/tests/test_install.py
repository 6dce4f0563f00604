"""requirements/install, on a small project with an index of its own: what it installs, and from where."""

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from rentomatic_site.testing.plugin import PROJECT

LAYERS = {"production": "shop", "embedded": "postgres", "testing": "tester", "development": "linter"}
"""Layer → its only package."""


def wheel(package: str, version: str = "1.0") -> bytes:
    """A wheel with one module, which has the package's name and says its version."""
    info = f"{package}-{version}.dist-info"
    files = {
        f"{package}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{digest(text.encode())},{len(text)}\n" for name, text in files.items())
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in [*files.items(), (f"{info}/RECORD", f"{record}{info}/RECORD,,\n")]:
            archive.writestr(zipfile.ZipInfo(name), text)
    return stream.getvalue()


def digest(content: bytes) -> str:
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')}"


class Index:
    """A package index on loopback with `packages`; it holds each file back until `open` is set."""

    def __init__(self) -> None:
        self.files = {
            f"{package}-{version}-py3-none-any.whl": wheel(package, version)
            for package in LAYERS.values()
            for version in ("1.0", "2.0")
        }
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        *_, folder, name = ["", *handler.path.rstrip("/").split("/")]
        if folder == "files":
            name = name.removesuffix(".metadata")
            self.asked.append(f"{name} by {handler.headers['User-Agent'].partition('/')[0]}")
            self.reached.set()
            self.open.wait(30)
            body = self.files[name]
        else:
            body = "".join(
                f'<a href="/files/{file}#sha256={hashlib.sha256(content).hexdigest()}">{file}</a>\n'
                for file, content in self.files.items()
                if file.startswith(f"{name}-")
            ).encode()
        handler.send_response(200 if body else 404)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def packages(self) -> list[str]:
        """What was fetched, and by which program."""
        return sorted({line.replace("-1.0-py3-none-any.whl", "") for line in self.asked})


class Project:
    """A folder with requirements/ and nothing else."""

    def __init__(self, folder: Path, programs: Path, url: str) -> None:
        self.folder = folder
        self.programs = programs
        shutil.rmtree(folder / "requirements", ignore_errors=True)
        (folder / "requirements").mkdir(parents=True)
        for name in ("install", "packages.py"):
            shutil.copy(PROJECT / "requirements" / name, folder / "requirements")
        for layer in LAYERS:
            self.pin(layer, "1.0")
        kept = {name: os.environ[name] for name in ("HOME", "PYENV_ROOT") if name in os.environ}
        self.env = kept | {
            "PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_INDEX_URL": f"{url}/simple",
            "UV_NO_CACHE": "1",
            "UV_NO_CONFIG": "1",
            "PYTHON": str(Path(sys.executable).resolve()),
        }

    def pin(self, layer: str, version: str) -> None:
        package = LAYERS[layer]
        below = {"testing": "-r production.txt\n-r embedded.txt\n", "development": "-r testing.txt\n"}
        sha256 = hashlib.sha256(wheel(package, version)).hexdigest()
        text = f"{below.get(layer, '')}{package}=={version} --hash=sha256:{sha256}\n"
        (self.folder / "requirements" / f"{layer}.txt").write_text(text)

    def give_uv(self) -> None:
        """The uv of the developers' environment, on the path."""
        uv = shutil.which("uv", path=f"{PROJECT / '.venv' / 'bin'}:{os.environ['PATH']}")
        if uv is None:
            pytest.skip("needs uv")
        self.programs.mkdir()
        (self.programs / "uv").symlink_to(uv)
        self.env["PATH"] = f"{self.programs}:{self.env['PATH']}"

    def start(self, level: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.folder / "requirements" / "install", level],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def install(self, level: str) -> str:
        """Its output; it has to succeed."""
        process = self.start(level)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return output

    def packages(self) -> dict[str, str]:
        """The test's packages that are installed, as Python imports them."""
        modules = {package: self.modules() / f"{package}.py" for package in LAYERS.values()}
        return {name: path.read_text().split("'")[1] for name, path in modules.items() if path.exists()}

    def modules(self) -> Path:
        (folder,) = (self.folder / ".venv" / "lib").glob("python3.*/site-packages")
        return folder

    def empty(self) -> None:
        """Leave of .venv what it was when it was made: that takes seconds."""
        shutil.rmtree(self.folder / ".venv" / "requirements", ignore_errors=True)
        for package in LAYERS.values():
            (self.modules() / f"{package}.py").unlink(missing_ok=True)
            for info in self.modules().glob(f"{package}-*.dist-info"):
                shutil.rmtree(info)


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.respond(self)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield index
        index.open.set()
        server.shutdown()


@pytest.fixture
def fresh_project(tmp_path: Path, index: Index) -> Project:
    """Without .venv."""
    return Project(tmp_path / "project", tmp_path / "bin", index.url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("install") / "project"


@pytest.fixture
def project(folder: Path, tmp_path: Path, index: Index) -> Project:
    """With a .venv that has nothing installed, where there is one from the test before."""
    project = Project(folder, tmp_path / "bin", index.url)
    if (folder / ".venv").exists():
        project.empty()
    return project


def test_a_level_installs_its_layers_and_no_others(project, index):
    project.give_uv()
    project.install("running")
    assert project.packages() == {"shop": "1.0", "postgres": "1.0"}
    project.install("testing")
    project.install("running")
    assert project.packages() == {"shop": "1.0", "postgres": "1.0", "tester": "1.0"}
    index.asked.clear()
    project.pin("production", "2.0")
    project.install("testing")
    assert project.packages() == {"shop": "2.0", "postgres": "1.0", "tester": "1.0"}
    assert [line.partition("-")[0] for line in index.packages()] == ["shop"]
    assert project.install("testing") == ""


def test_uv_asks_the_index_that_pip_is_configured_with(project, index, tmp_path):
    project.give_uv()
    conf = tmp_path / "pip.conf"
    conf.write_text(f"[global]\nindex-url = {project.env.pop('PIP_INDEX_URL')}\n")
    project.env["PIP_CONFIG_FILE"] = str(conf)
    project.install("running")
    assert index.packages() == ["postgres by uv", "shop by uv"]


def test_without_uv_pip_installs_the_same(project, index):
    project.install("running")
    assert index.packages() == ["postgres by pip", "shop by pip"]
    assert project.packages() == {"shop": "1.0", "postgres": "1.0"}


def test_a_pip_that_was_half_unpacked_is_unpacked_again(project, index):
    project.install("running")
    (list_of_files,) = project.modules().glob("pip-*.dist-info/RECORD")
    list_of_files.unlink()
    (project.modules() / "pip" / "__main__.py").unlink()
    index.asked.clear()
    project.pin("production", "2.0")
    project.install("running")
    assert index.asked == ["shop-2.0-py3-none-any.whl by pip"]
    assert project.packages() == {"shop": "2.0", "postgres": "1.0"}


def test_behind_a_proxy_of_pips_pip_installs(project, index):
    project.give_uv()
    project.env["PIP_PROXY"] = index.url
    project.env["no_proxy"] = "127.0.0.1"
    project.install("running")
    assert index.packages() == ["postgres by pip", "shop by pip"]


def test_where_python_may_not_compile_it_is_done_now(project):
    project.give_uv()
    project.install("running")
    assert list(project.modules().glob("__pycache__/shop.*.pyc")) == []
    project.env["PYTHONDONTWRITEBYTECODE"] = "1"
    project.pin("production", "2.0")
    project.install("running")
    assert len(list(project.modules().glob("__pycache__/shop.*.pyc"))) == 1


def test_a_file_with_another_hash_is_refused(project, index):
    project.give_uv()
    index.files["shop-1.0-py3-none-any.whl"] = wheel("shop", "1.0") + b"\0"
    process = project.start("running")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in output
    assert "shop" not in project.packages()


def test_killed_while_it_fetches_and_run_again_it_completes(project, index):
    project.give_uv()
    index.open.clear()
    process = project.start("running")
    assert index.reached.wait(60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    index.open.set()
    project.install("running")
    assert project.packages() == {"shop": "1.0", "postgres": "1.0"}


@pytest.mark.parametrize("give_uv", [Project.give_uv, lambda project: None], ids=["uv", "pip"])
def test_what_was_half_written_when_it_was_killed_is_written_again(
    project: Project, give_uv: Callable[[Project], None]
) -> None:
    give_uv(project)
    project.install("running")
    # As a kill leaves it: metadata are there, a module and the list of files are not.
    (project.modules() / "shop.py").unlink()
    (project.modules() / "shop-1.0.dist-info" / "RECORD").unlink()
    installed = project.folder / ".venv" / "requirements"
    (installed / "production.txt").rename(installed / "production.begun")
    project.install("running")
    assert project.packages() == {"shop": "1.0", "postgres": "1.0"}


def test_of_two_at_once_one_installs_and_the_other_waits(project, index):
    project.give_uv()
    index.open.clear()
    first = project.start("running")
    assert index.reached.wait(60)
    second = project.start("testing")
    assert second.stdout
    assert second.stdout.readline() == "Waiting for another make, which installs\n"
    index.open.set()
    assert [process.communicate(timeout=120) and process.returncode for process in (first, second)] == [0, 0]
    assert project.packages() == {"shop": "1.0", "postgres": "1.0", "tester": "1.0"}
    wheels = [line for line in index.asked if line.startswith("shop")]
    assert len(wheels) == 1


def test_in_a_moved_folder_the_environment_is_made_anew(fresh_project, tmp_path):
    fresh_project.give_uv()
    fresh_project.install("running")
    fresh_project.folder = fresh_project.folder.rename(tmp_path / "moved to here")
    assert "Making .venv" in fresh_project.install("running")
    activate = fresh_project.folder / ".venv" / "bin" / "activate"
    assert str(tmp_path / "moved to here") in activate.read_text()


def test_an_environment_made_by_hand_is_kept_once_it_is_whole(fresh_project):
    fresh_project.give_uv()
    environment = fresh_project.folder / ".venv"
    subprocess.run([fresh_project.env["PYTHON"], "-m", "venv", environment], check=True)
    (environment / "unfinished").touch()  # as a killed installation leaves it
    assert "Making .venv" in fresh_project.install("running")
    (fresh_project.modules() / "rentomatic.pth").unlink()
    assert "Making .venv" not in fresh_project.install("testing")


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("exit 1", "make: no Python 3.11, 3.12 or 3.13 found. Next: apt-get install python3 python3-venv,"),
        (
            'case "$*" in *ensurepip*) exit 1;; *print*) echo 3.12;; esac',
            "cannot make virtual environments. Next: apt-get install python3.12-venv",
        ),
    ],
    ids=["too old", "without ensurepip"],
)
def test_without_a_python_that_will_do_it_says_what_to_install(fresh_project, tmp_path, python, message):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{python}\n")
    script.chmod(0o755)
    fresh_project.env["PYTHON"] = str(script)
    process = fresh_project.start("running")
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, message in output) == (1, True), output
    assert not (fresh_project.folder / ".venv").exists()


def test_a_level_that_does_not_exist_is_refused(fresh_project):
    process = fresh_project.start("prodution")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == "requirements/install: prodution is none of running, testing, development\n"
