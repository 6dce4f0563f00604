"""Encrypted backups: who reads, changes and makes them; and the settings that go along."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.operations import manifest, seal, site_settings
from deploy.operations.project import Project
from deploy.operations.report import Failure
from deploy.operations.seal import Key
from rentomatic_site.testing.plugin import needs

KEY, OTHER = Key("of the site"), Key("of another")


@pytest.fixture(autouse=True)
def _tools():
    needs("openssl")


def encrypted(path: Path, content: bytes, key: Key | None = KEY) -> Path:
    with path.open("wb") as file, seal.writing(file, key) as stored:
        stored.write(content)
    return path


def decrypted(path: Path, key: Key | None = KEY) -> bytes:
    with path.open("rb") as file, seal.reading(file, key) as plain:
        return plain.read()


@pytest.mark.parametrize("length", [0, 1, 15, 16, 3_000_000])
def test_what_is_encrypted_comes_back_and_is_another_text_each_time(tmp_path, length):
    content = b"x" * length
    one, two = (encrypted(tmp_path / name, content) for name in "ab")
    assert decrypted(one) == decrypted(two) == content
    assert one.read_bytes() != two.read_bytes()
    assert decrypted(encrypted(tmp_path / "c", content, None), None) == content


def test_openssl_alone_opens_a_backup_with_the_file_of_the_key(tmp_path):
    """As the runbook says, for who has lost this program."""
    path = encrypted(tmp_path / "dump", b"PGDMP")
    (tmp_path / "key").write_text(KEY.text)
    command = ["openssl", "enc", "-d", "-aes-256-ctr", "-pbkdf2", "-pass", f"file:{tmp_path}/key"]
    assert subprocess.check_output([*command, "-in", path]) == b"PGDMP"


def test_a_reader_that_stops_early_leaves_no_openssl(tmp_path):
    path = encrypted(tmp_path / "dump", b"x" * 3_000_000)
    with path.open("rb") as file, seal.reading(file, KEY) as plain:
        assert plain.read(5) == b"xxxxx"


def test_the_key_stands_in_no_list_of_processes(tmp_path):
    with (tmp_path / "dump").open("wb") as file, seal.writing(file, KEY) as stored:
        stored.write(b"x")
        lists = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert any(b"aes-256-ctr" in words for words in lists)
    assert not any(KEY.text.encode() in words for words in lists)


def test_a_full_disk_is_an_error_of_the_writer():
    with (
        pytest.raises(OSError, match="openssl"),
        Path("/dev/full").open("wb") as file,
        seal.writing(file, KEY) as stored,
    ):
        stored.write(b"x" * 1000)


# --- The manifest of an encrypted backup


@pytest.fixture
def dump(tmp_path) -> Path:
    path = encrypted(tmp_path / "rentomatic-20261101T030000Z.dump", b"PGDMP")
    parts = {"dump": manifest.part(path)}
    found = manifest.Manifest(
        "20261101T030000Z", "rentomatic-1234", "", "", 180004, 9, [], {"room": 1}, 1.5, parts
    )
    manifest.write(path, found.sealed(KEY))
    return path


def key_of(dump: Path, *keys: Key) -> Key | None:
    return manifest.key_of(dump, manifest.read(dump), list(keys))


def test_a_backup_is_opened_by_the_present_key_and_by_former_ones(dump):
    assert key_of(dump, KEY) == key_of(dump, OTHER, KEY) == KEY


@pytest.mark.parametrize("keys", [[], [OTHER]])
def test_a_backup_of_another_key_says_which_one_is_wanted(dump, keys):
    with pytest.raises(Failure, match=f"encrypted with the key {KEY.id}.*nothing was changed") as refused:
        key_of(dump, *keys)
    assert "deploy/secrets/backup_key" in refused.value.next_step


@pytest.mark.parametrize(
    ("name", "value"),
    [("rows", {"room": 2}), ("site", "another"), ("parts", None), ("mac", "0" * 64), ("mac", "é")],
)
def test_a_manifest_that_somebody_has_changed_is_refused(dump, name, value):
    """Who can write where the backups are, and has no key, brings none of his own in."""
    path = manifest.beside(dump)
    fields = json.loads(path.read_text())
    if name == "parts":
        dump.write_bytes(b"PGDMP of somebody else")
        found = manifest.part(dump)
        value = {"dump": {"name": found.name, "bytes": found.bytes, "sha256": found.sha256}}
    assert fields[name] != value
    path.write_text(json.dumps(fields | {name: value}))
    with pytest.raises(Failure, match="was changed after it was written"):
        key_of(dump, KEY)


# --- The settings


@pytest.fixture
def project(tmp_path) -> Project:
    folder = tmp_path / "site"
    for name in ("secrets", "certificates", "backups"):
        (folder / "deploy" / name).mkdir(parents=True)
    (folder / ".env").write_text(f"COMPOSE_PROJECT_NAME=rentomatic-1234\nPROJECT_FOLDER={folder}\n")
    for name in ("secret_key", "backup_key", "backup_key_former"):
        (folder / "deploy/secrets" / name).write_text(name)
    (folder / "deploy/certificates/privkey.pem").write_text("key")
    return Project(folder)


def test_the_settings_are_env_secrets_and_certificate_without_the_key_itself(project):
    path = site_settings.save(project, project.deploy / "backups" / "x.dump", KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    files = site_settings.unpack(decrypted(path))
    assert files.keys() == {".env", "deploy/secrets/secret_key", "deploy/certificates/privkey.pem"}
    assert files["deploy/secrets/secret_key"] == b"secret_key"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../.env", "deploy/secrets/../../manage.py", "manage.py", "deploy/rentomatic"]
)
def test_settings_write_nothing_beside_their_places(name):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    assert site_settings.unpack(packed.getvalue()) == {}


def test_the_present_key_is_first_and_former_ones_follow(project):
    assert [key.text for key in seal.keys(project)] == ["backup_key", "backup_key_former"]
