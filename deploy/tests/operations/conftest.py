"""Places for BACKUP_TO: a folder, a real S3 server and a real SSH server."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.tests.operations.places import listens
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

PACKAGES = Path(__file__).parent.parent / "s3"


@pytest.fixture
def rclone(monkeypatch):
    """rclone, which none of the environment's variables leads elsewhere."""
    needs("rclone")
    for name in ("AWS_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "nas"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory) -> Iterator[int]:
    """The port of an S3 server, which knows one key and the bucket `backups`."""
    needs("npm", "node", "rclone")
    folder = tmp_path_factory.mktemp("s3")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=300)
    port = rig.free_port()
    command = [*rig.ends_with_pytest(), str(folder / "node_modules/.bin/s3rver"), "--silent"]
    command += ["--directory", str(folder), "--address", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--configure-bucket", "backups"])
    try:
        rig.wait_until(lambda: listens(port), "the S3 server", 60)
        yield port
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory) -> Iterator[tuple[Path, int]]:
    """A folder with the key `mine`, which an SSH server lets in, the key `other`, and the server's port."""
    needs("/usr/sbin/sshd", "ssh-keygen", "rclone")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "mine", "other"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    shutil.copy(folder / "mine.pub", folder / "authorized_keys")
    port = rig.free_port()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\n"
        f"PidFile {folder}/pid\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(
        [*rig.ends_with_pytest(), "/usr/sbin/sshd", "-D", "-f", str(folder / "sshd_config")]
    )
    try:
        rig.wait_until(lambda: listens(port), "the SSH server", 60)
        yield folder, port
    finally:
        server.terminate()
        server.wait(30)
