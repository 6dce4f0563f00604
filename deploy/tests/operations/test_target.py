"""BACKUP_TO against a folder, a real S3 server and a real SSH server."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from deploy.operations import manifest
from deploy.operations.project import Project, lock_file
from deploy.operations.report import Failure, Report
from deploy.operations.restore import newest_elsewhere
from deploy.operations.seal import Key
from deploy.operations.target import Target
from deploy.tests.operations.places import project, s3_site, ssh_site
from rentomatic_site.testing import rig

pytestmark = pytest.mark.usefixtures("rclone")

KEY = Key("of the test")


def save(site: Project, day: int, content: bytes = b"of openssl", key: Key | None = KEY) -> Path:
    dump = site.deploy / "backups" / f"rentomatic-202611{day:02}T030000Z.dump"
    dump.write_bytes(content)
    settings = dump.with_name(f"{dump.name}.settings")
    settings.write_bytes(b"of openssl, too")
    parts = {"dump": manifest.part(dump), "settings": manifest.part(settings)}
    found = manifest.Manifest("20261101T030000Z", site.name, "", "", 180004, 9, [], {"room": 1}, 1.5, parts)
    manifest.write(dump, found.sealed(key))
    return dump


def copy(site: Project) -> list[str]:
    return Target(site).copy(site.deploy / "backups", Report("backup"))


def refused(site: Project) -> Failure:
    with pytest.raises(Failure) as failure:
        copy(site)
    assert "rclone" in failure.value.next_step
    return failure.value


def expect_there_and_back(site: Project) -> None:
    """Two backups go there once, and one of them comes back whole, with all its parts."""
    dumps = [save(site, day, bytes([day]) * 100_000) for day in (1, 2)]
    names = [dump.name for dump in dumps]
    assert copy(site) == names
    assert copy(site) == []
    parts = {name: manifest.part(site.deploy / "backups" / name) for name in Target(site).sizes()}
    assert len(parts) == 6
    shutil.rmtree(site.deploy / "backups")
    fetched = Target(site).fetch(names[0], Report("restore"))
    manifest.check_parts(fetched, manifest.read(fetched))
    assert manifest.key_of(fetched, manifest.read(fetched), [KEY]) == KEY
    assert {path.name for path in fetched.parent.iterdir()} == {n for n in parts if n.startswith(names[0])}
    assert {path.stat().st_mode & 0o777 for path in fetched.parent.iterdir()} == {0o600}
    with pytest.raises(Failure, match=r"has no rentomatic-20261109T030000Z\.dump; nothing was changed"):
        Target(site).fetch("rentomatic-20261109T030000Z.dump", Report("restore"))


# --- A folder


def test_backups_go_to_a_folder_and_back(tmp_path, folder):
    expect_there_and_back(project(tmp_path / "site", folder))


def test_the_newest_backup_there_is_found_without_its_name(tmp_path, folder):
    site = project(tmp_path / "site", folder)
    assert newest_elsewhere(site) is None
    for day in (3, 1):
        save(site, day)
        copy(site)
    (folder / "rentomatic-older.dump").write_bytes(b"by hand")
    found = newest_elsewhere(project(tmp_path / "new", folder))
    assert found == tmp_path / "new/deploy/backups/rentomatic-20261103T030000Z.dump"
    assert newest_elsewhere(project(tmp_path / "none", "")) is None


def test_what_is_not_encrypted_does_not_leave_the_host(tmp_path, folder):
    site = project(tmp_path / "site", folder)
    save(site, 1, key=None)
    assert copy(site) == []
    assert list(folder.iterdir()) == []


def test_a_copy_that_was_cut_off_is_made_again(tmp_path, folder):
    site = project(tmp_path / "site", folder)
    dump = save(site, 1)
    copy(site)
    (folder / dump.name).write_bytes(b"of")
    assert copy(site) == [dump.name]
    assert (folder / dump.name).read_bytes() == dump.read_bytes()


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path):
    """As where a disk is not mounted: the copies would be on this one."""
    site = project(tmp_path / "site", tmp_path / "gone")
    save(site, 1)
    assert "it is not there" in refused(site).reason
    assert not (tmp_path / "gone").exists()


@pytest.mark.needs("root", "mount")
def test_a_full_place_is_named_and_the_backup_stays_here(tmp_path, folder):
    site = project(tmp_path / "site", folder)
    dump = save(site, 1, os.urandom(200_000))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", folder], check=True)
    try:
        reason = refused(site).reason
        assert not (folder / dump.name).exists()
    finally:
        subprocess.run(["umount", folder], check=True)
    assert reason == f"{dump.name} is kept here, but could not be copied to {folder}: it is full"
    assert dump.exists()


def test_of_two_copies_at_once_one_says_that_the_other_is_at_work(tmp_path, folder):
    site = project(tmp_path / "site", folder)
    save(site, 1)
    with (
        lock_file(site.deploy / ".lock-copy", "backup --copy"),
        pytest.raises(Failure, match=r"backup --copy .* is at work in this folder") as second,
    ):
        copy(site)
    assert second.value.status == 3


# --- S3


def test_backups_go_to_a_bucket_and_back(tmp_path, s3_server):
    expect_there_and_back(s3_site(tmp_path, s3_server, "store:backups/rooms"))


def test_a_bucket_that_is_gone_is_not_made_anew(tmp_path, s3_server):
    site = s3_site(tmp_path, s3_server, "store:gone")
    save(site, 1)
    assert "it is not there" in refused(site).reason


def test_wrong_credentials_are_named(tmp_path, s3_server):
    site = s3_site(tmp_path, s3_server, "store:backups", key="NOBODY")
    save(site, 1)
    assert "the credentials are refused" in refused(site).reason


def test_a_server_that_is_away_is_named(tmp_path):
    site = s3_site(tmp_path, rig.free_port(), "store:backups")
    save(site, 1)
    assert "nobody answers there" in refused(site).reason


def test_a_server_that_hangs_is_given_up_after_the_time_of_env(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site = s3_site(tmp_path, silent.getsockname()[1], "store:backups", BACKUP_TIMEOUT="2")
        save(site, 1)
        assert "no response within 2 s (BACKUP_TIMEOUT)" in refused(site).reason


@pytest.mark.parametrize("text", ["soon", "0", "-1", "1.5", "inf"])
def test_a_time_out_that_is_no_number_is_refused(tmp_path, text):
    with pytest.raises(Failure, match=r"BACKUP_TIMEOUT=.* is no number of seconds") as refusal:
        Target(project(tmp_path, "store:backups", BACKUP_TIMEOUT=text))
    assert refusal.value.status == 2


def test_a_remote_that_rclone_conf_does_not_have_is_named(tmp_path):
    site = project(tmp_path, "elsewhere:backups")
    save(site, 1)
    assert "rclone.conf has no such remote" in refused(site).reason


# --- SSH


@pytest.mark.needs("root")
def test_backups_go_to_another_machine_by_ssh_and_back(tmp_path, ssh_server, folder):
    expect_there_and_back(ssh_site(tmp_path / "site", ssh_server, folder))


@pytest.mark.needs("root")
def test_a_wrong_ssh_key_and_a_folder_that_is_gone_are_named(tmp_path, ssh_server, folder):
    site = ssh_site(tmp_path / "site", ssh_server, folder, key="other")
    save(site, 1)
    assert "the credentials are refused" in refused(site).reason
    site = ssh_site(tmp_path / "site", ssh_server, folder / "gone")
    assert "it is not there" in refused(site).reason
    assert list(folder.iterdir()) == []


@pytest.mark.needs("root")
def test_another_machine_in_the_place_of_the_known_one_gets_nothing(tmp_path, ssh_server, folder):
    site = ssh_site(tmp_path / "site", ssh_server, folder)
    save(site, 1)
    keys, port = ssh_server
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(keys / 'other.pub').read_text()}")
    config = site.secrets / "rclone.conf"
    config.write_text(config.read_text().replace(f"{keys}/known_hosts", str(known)))
    assert "is not the one of known_hosts" in refused(site).reason
    assert list(folder.iterdir()) == []
