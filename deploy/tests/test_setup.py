"""./deploy/rentomatic setup: what it writes, and that it never overwrites."""

import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import psycopg2
import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster
from rentomatic_site.testing.plugin import needs


@pytest.fixture
def project(tmp_path) -> Path:
    """An empty project with nothing but the program in it."""
    needs("openssl")
    return with_the_program(tmp_path)


def with_the_program(folder: Path) -> Path:
    (folder / "deploy").mkdir(parents=True)
    shutil.copy(rig.PROJECT / "deploy" / "rentomatic", folder / "deploy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(rig.PROJECT / "deploy" / "operations", folder / "deploy" / "operations", ignore=ignored)
    return folder


def setup(project: Path, *arguments: str, umask: int = 0o022) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [project / "deploy" / "rentomatic", "setup", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=umask,
    )


def contents(project: Path) -> dict[Path, bytes]:
    return {path.relative_to(project): path.read_bytes() for path in project.rglob("*") if path.is_file()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_secrets_are_files_that_nobody_else_can_read(project, umask):
    assert setup(project, umask=umask).returncode == 0
    secrets = {path.name: path for path in (project / "deploy" / "secrets").iterdir()}
    assert secrets.pop("postgres_verifier").stat().st_mode & 0o777 == 0o644  # no secret, in a folder of ours
    assert {path.stat().st_mode & 0o777 for path in secrets.values()} == {0o600}
    assert secrets.pop("secret_key_fallbacks").read_text() == ""
    assert secrets.keys() == {"secret_key", "postgres_password", "application_password"}
    assert (project / "deploy" / "secrets").stat().st_mode & 0o777 == 0o700
    assert (project / "deploy" / "certificates" / "privkey.pem").stat().st_mode & 0o777 == 0o600
    values = {path.read_text() for path in secrets.values()}
    assert len(values) == 3
    assert min(len(value) for value in values) >= 50


def test_the_containers_run_as_the_owner_of_the_secrets_and_never_as_root(project):
    setup(project)
    (owner,) = re.findall(r"^RUN_AS=(\d+:\d+)$", (project / ".env").read_text(), re.M)
    stat = (project / "deploy" / "secrets" / "secret_key").stat()
    assert owner == f"{stat.st_uid}:{stat.st_gid}"
    assert not owner.startswith("0:")
    if os.getuid():
        assert owner == f"{os.getuid()}:{os.getgid()}"


def test_nothing_is_overwritten_by_a_second_run(project):
    setup(project, "rooms.example.com")
    before = contents(project)
    second = setup(project, "other.example.com")
    assert second.returncode == 0
    assert contents(project) == before
    assert second.stdout.count("kept ") == 7


def test_a_dry_run_names_what_is_missing_and_writes_nothing(project):
    before = contents(project)
    output = setup(project, "rooms.example.com", "--dry-run").stdout
    assert output.count("missing ") == 7
    assert contents(project) == before


def test_it_prints_the_next_command_and_the_url(project):
    output = setup(project, "rooms.example.com").stdout
    assert "./deploy/rentomatic rollout" in output
    assert "https://rooms.example.com:8443/rooms" in output


def test_the_certificate_is_for_the_host(project):
    setup(project, "rooms.example.com")
    certificate = ssl._ssl._test_decode_cert(str(project / "deploy/certificates/fullchain.pem"))
    assert certificate["subjectAltName"] == (("DNS", "rooms.example.com"),)


def test_without_a_host_and_a_terminal_it_is_localhost(project):
    assert setup(project).returncode == 0
    assert "SITE_HOST=localhost\n" in (project / ".env").read_text()


@pytest.mark.parametrize("host", ["", "two words", "-x.example.com", "x;y", "$(id)", "a" * 64, "https://x"])
def test_what_is_no_host_name_is_refused_and_nothing_is_written(project, host):
    before = contents(project)
    done = setup(project, "--", host)
    assert done.returncode != 0
    assert "is no host name" in done.stderr
    assert contents(project) == before


def test_a_developers_env_file_is_in_the_way_and_kept(project):
    (project / ".env").write_text("DEBUG=on\n")
    before = contents(project)
    done = setup(project)
    assert done.returncode == 1
    assert "mv .env .env.development" in done.stderr
    assert contents(project) == before


def test_each_folder_gets_a_project_name_of_its_own(tmp_path):
    names = []
    for name in ("one", "two"):
        folder = with_the_program(tmp_path / name)
        setup(folder)
        text = (folder / ".env").read_text()
        names += re.findall(r"^COMPOSE_PROJECT_NAME=(rentomatic-[0-9a-f]{8})$", text, re.M)
        assert f"PROJECT_FOLDER={folder}\n" in text
    assert len(set(names)) == 2


@pytest.mark.parametrize("command", ["setup", "rollout", "backup", "restore x"])
def test_every_command_refuses_a_folder_that_was_copied_from_another(project, tmp_path_factory, command):
    setup(project)
    copied = tmp_path_factory.mktemp("copied") / "site"
    shutil.copytree(project, copied)
    before = contents(copied)
    done = subprocess.run(
        [copied / "deploy" / "rentomatic", *command.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "mv .env .env.copied && ./deploy/rentomatic setup" in done.stderr
    assert f"PROJECT_FOLDER={copied}" in done.stderr
    assert contents(copied) == before


def test_own_certificates_are_kept(project):
    folder = project / "deploy" / "certificates"
    folder.mkdir()
    (folder / "fullchain.pem").write_text("chain")
    (folder / "privkey.pem").write_text("key")
    setup(project)
    assert (folder / "privkey.pem").read_text() == "key"


def test_the_verifier_lets_the_password_in_and_no_other(project, tmp_path_factory):
    setup(project)
    verifier = (project / "deploy" / "secrets" / "postgres_verifier").read_text()
    password = (project / "deploy" / "secrets" / "postgres_password").read_text()
    with Cluster(tmp_path_factory.mktemp("scram")) as cluster:
        with cluster.session() as cursor:
            cursor.execute("CREATE ROLE boss LOGIN PASSWORD %s", [verifier])
            cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'boss'")
            assert cursor.fetchone()[0] == verifier  # stored as it is
        (cluster.data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
        cluster.stop()
        parameters = cluster.parameters | {"user": "boss"}
        cluster.start(ready=lambda: accepts(parameters | {"password": password}))
        assert not accepts(parameters | {"password": password + "x"})
        assert not accepts(parameters | {"password": verifier})


def accepts(parameters: dict) -> bool:
    try:
        psycopg2.connect(**parameters).close()
    except psycopg2.OperationalError:
        return False
    return True
