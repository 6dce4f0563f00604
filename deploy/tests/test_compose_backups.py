"""The stack of test_compose.py while its backups are encrypted, leave the host, and come back."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.tests.stack import Stack
from deploy.tests.test_compose_data import ROOM, databases, room_count
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

pytestmark = pytest.mark.compose


@pytest.fixture(scope="module")
def place(stack, tmp_path_factory) -> Iterator[Path]:
    """The folder of BACKUP_TO, with one encrypted backup in it, of one room; the local ones are gone."""
    needs("rclone", "openssl")
    place = tmp_path_factory.mktemp("nas")
    stack.set("BACKUP_TO", str(place))
    refused = stack.run("./deploy/rentomatic", "backup", check=False)
    assert "there is no key to encrypt them; no backup was made" in refused.stderr
    stack.run("./deploy/rentomatic", "rotate", "backup_key")
    stack.sql("DELETE FROM room")
    stack.sql(ROOM)
    shutil.rmtree(stack.folder / "deploy/backups", ignore_errors=True)
    stack.run("./deploy/rentomatic", "backup")
    shutil.rmtree(stack.folder / "deploy/backups")
    yield place
    stack.set("BACKUP_TO", "")
    stack.sql("DELETE FROM room")
    for name in ("backup_key", "backup_key_former"):
        (stack.folder / "deploy/secrets" / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def name(place) -> str:
    (dump,) = place.glob("rentomatic-*.dump")
    return dump.name


def test_a_backup_elsewhere_is_whole_and_tells_nothing(place, name):
    assert {path.name for path in place.iterdir()} == {name, f"{name}.json", f"{name}.settings"}
    room = b"f853578c-fc0f-4e65-81b8-566c5dffa35a"
    assert not any(room in path.read_bytes() for path in place.iterdir())
    assert not (place / name).read_bytes().startswith(b"PGDMP")
    assert json.loads((place / f"{name}.json").read_text())["rows"]["room"] == 1


def test_a_backup_comes_back_from_elsewhere_by_its_name(stack, place, name):
    stack.sql("DELETE FROM room")
    output = stack.run("./deploy/rentomatic", "restore", name).stdout
    assert f"Fetching {name}" in output
    assert "Restored. Rooms: 1" in output
    assert room_count(stack) == 1
    stack.run("./deploy/rentomatic", "drill")


def test_a_backup_of_a_former_key_opens_and_one_of_another_does_not(stack, place, name):
    secrets = stack.folder / "deploy/secrets"
    first = (secrets / "backup_key").read_text()
    stack.run("./deploy/rentomatic", "rotate", "backup_key")
    assert (secrets / "backup_key").read_text() != first
    assert (secrets / "backup_key_former").read_text() == first
    planned = stack.run("./deploy/rentomatic", "restore", str(place / name), "--dry-run").stdout
    assert "Would put" in planned
    (secrets / "backup_key_former").unlink()
    before = databases(stack)
    done = stack.run("./deploy/rentomatic", "restore", str(place / name), check=False)
    (secrets / "backup_key").write_text(first)
    assert "is encrypted with the key" in done.stderr
    assert "nothing was changed" in done.stderr
    assert databases(stack) == before


def test_a_place_that_is_gone_fails_the_copy_and_keeps_the_backup(stack, place):
    stack.set("BACKUP_TO", str(place / "gone"))
    try:
        done = stack.run("./deploy/rentomatic", "backup", "--json", check=False)
    finally:
        stack.set("BACKUP_TO", str(place))
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert "it is not there" in result["error"]
    assert Path(result["file"]).exists()
    assert not (place / "gone").exists()
    planned = stack.run("./deploy/rentomatic", "backup", "--copy", "--dry-run").stdout
    assert Path(result["file"]).name in planned
    stack.run("./deploy/rentomatic", "backup", "--copy")
    assert (place / Path(result["file"]).name).exists()


def test_a_new_host_gets_the_settings_before_its_first_rollout(stack, place, name, tmp_path):
    other = Stack(tmp_path)
    shutil.copy2(stack.folder / "deploy/secrets/backup_key", tmp_path / "deploy/secrets")
    other.set("BACKUP_TO", str(place))
    own = (tmp_path / "deploy/secrets/secret_key").read_text()
    output = other.run("./deploy/rentomatic", "restore", "--settings", name).stdout
    assert "./deploy/rentomatic rollout" in output
    for file in (
        "deploy/secrets/secret_key",
        "deploy/secrets/postgres_password",
        "deploy/certificates/privkey.pem",
    ):
        ours, theirs = tmp_path / file, stack.folder / file
        assert ours.read_bytes() == theirs.read_bytes()
        assert (ours.stat().st_mode, ours.stat().st_uid) == (theirs.stat().st_mode, theirs.stat().st_uid)
    assert other.setting("COMPOSE_PROJECT_NAME") == stack.setting("COMPOSE_PROJECT_NAME")
    assert other.setting("PROJECT_FOLDER") == str(tmp_path)
    assert other.setting("IMAGE") == ""
    (kept,) = (tmp_path / "deploy/backups").glob("settings_before_*/secret_key")
    assert kept.read_text() == own


def test_settings_are_not_replaced_where_a_site_runs(stack, place, name):
    before = (stack.folder / ".env").read_text()
    done = stack.run("./deploy/rentomatic", "restore", "--settings", name, check=False)
    assert done.returncode == 1
    assert "has a site with settings of its own; nothing was changed" in done.stderr
    assert (stack.folder / ".env").read_text() == before


def test_a_backup_that_is_killed_at_any_moment_leaves_the_older_ones_and_no_half_one(stack, place):
    folder = stack.folder / "deploy/backups"
    stack.run("./deploy/rentomatic", "backup")
    before = {path: path.read_bytes() for path in folder.glob("rentomatic-*")}
    for line in ("Saving", "Reading", "Copying"):
        backup = subprocess.Popen(
            ["./deploy/rentomatic", "backup"], cwd=stack.folder, stdout=subprocess.PIPE, text=True
        )
        for words in backup.stdout:
            if words.startswith(line):
                break
        backup.kill()
        backup.wait()
        backup.stdout.close()
    rig.wait_until(
        lambda: stack.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'backup'") == "0",
        "no dump",
        60,
    )
    assert all(path.read_bytes() == content for path, content in before.items())
    for dump in folder.glob("rentomatic-*.dump"):
        stack.run("./deploy/rentomatic", "restore", str(dump), "--dry-run")
    stack.run("./deploy/rentomatic", "backup")
    assert list(folder.glob(".*.partial")) == []
    assert {path.name for path in folder.glob("rentomatic-*.dump")} <= {path.name for path in place.iterdir()}
