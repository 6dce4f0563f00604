"""The archive of PITR=on in another place: a folder, a real S3 server, a real SSH server."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.operations.doctor import point_in_time
from deploy.operations.doctor.finding import ERROR, OK, WARNING
from deploy.operations.pitr import copying
from deploy.operations.pitr.elsewhere import Elsewhere
from deploy.operations.project import Project, lock_file
from deploy.operations.report import Failure, Report
from deploy.operations.seal import Key
from deploy.operations.target import Target
from deploy.tests.operations.places import project, s3_site, ssh_site
from rentomatic_site.testing import rig

pytestmark = pytest.mark.usefixtures("rclone")

SYSTEM = "7710810401525485587"
RUN = f"{SYSTEM}/wal/00000001-20261121T080000Z"
BASE = f"{SYSTEM}/base/20261121T081000Z-00000001-18"
SERVED = f"20261121T080000Z {SYSTEM} 00000001\n"


def write(site: Project, name: str, content: bytes) -> Path:
    path = site.deploy / "archive" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def segment(number: int, suffix: str = "") -> str:
    return f"{RUN}/00000001{0:08X}{number:08X}{suffix}"


def fill(site: Project) -> Project:
    """An archive with two whole segments, one that is written to, a base backup and the half of another."""
    site.record("PITR", "on")
    site.write_secret("backup_key", "the-first-key")
    (site.deploy / "archive").mkdir(mode=0o700)
    for number in (2, 3):
        write(site, segment(number), bytes([number]) * 300_000)
    write(site, segment(4, ".partial"), b"written until now".ljust(300_000, b"\0"))
    write(site, f"{RUN}/begun", b"")
    write(site, f"{SYSTEM}/wal/history/00000002.history", b"1\t0/5000100\tno recovery target\n")
    write(site, f"{BASE}/base.tar.gz", b"all tables" * 10_000)
    write(site, f"{BASE}/backup_manifest", b"{}")
    write(site, f"{SYSTEM}/base/.partial/base.tar.gz", b"some tables")
    write(site, "served", SERVED.encode())
    return site


def contents(site: Project) -> dict[str, bytes]:
    """All that is kept, by its path; not what is on its way, whose folders begin with a dot."""
    folder = site.deploy / "archive"
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return {name: (folder / name).read_bytes() for name in names if "/." not in f"/{name}"}


def copy(site: Project) -> None:
    Elsewhere(site).copy(Report("archive"))


def new_host(site: Project, folder: Path, *secrets: str) -> Project:
    """Another one, with these secrets of it (default: the key and rclone.conf)."""
    other = project(folder, site.setting("BACKUP_TO"), PITR="on")
    for name in secrets or ("backup_key", "rclone.conf"):
        if (site.secrets / name).exists():
            shutil.copy(site.secrets / name, other.secrets)
    return other


def fetch(site: Project, *, accept: bool = False) -> Report:
    report = Report("archive")
    Elsewhere(site).fetch(report, accept=accept)
    return report


def refused(action, site: Project) -> Failure:
    with pytest.raises(Failure) as failure:
        action(site)
    return failure.value


@pytest.fixture
def site(tmp_path, folder) -> Project:
    """One that copies to a folder."""
    return fill(project(tmp_path / "site", folder))


@pytest.fixture
def heads(folder):
    """A function that finds the heads in the folder, by name."""
    return lambda: sorted(folder.glob("archive/*/head-*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --- There and back


def expect_there_and_back(site: Project, folder: Path) -> None:
    """All of it comes to a new host, with its times, for its owner alone; and what is written later, too."""
    copy(site)
    other = new_host(site, folder / "first")
    fetch(other)
    assert contents(other) == contents(site)
    for name in contents(site):
        ours, theirs = ((one.deploy / "archive" / name).stat() for one in (site, other))
        assert theirs.st_mode & 0o777 == 0o600
        assert name == "served" or abs(theirs.st_mtime - ours.st_mtime) < 1
    made = [path for path in (other.deploy / "archive").rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
    assert ".fetched" not in {path.name for path in made}
    write(site, segment(4, ".partial"), b"written until later".ljust(300_000, b"\0")).rename(
        site.deploy / "archive" / segment(4)
    )
    write(site, segment(5, ".partial"), b"and more".ljust(300_000, b"\0"))
    copy(site)
    other = new_host(site, folder / "second")
    fetch(other)
    assert contents(other) == contents(site)


def test_an_archive_goes_to_a_folder_and_to_a_new_host(site, tmp_path, folder):
    expect_there_and_back(site, tmp_path)
    there = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder / "archive")).partition("/")[2] for path in there}
    assert names >= {f"{segment(2)}.bin", f"{BASE}/base.tar.gz.bin", "head-0.tar.gz.bin", "head-1.tar.gz.bin"}
    assert not any(".partial" in name for name in names)
    for plain in (b"all tables", b"written until", b"\2" * 100, SYSTEM.encode()):
        assert not any(plain in path.read_bytes() for path in there)


def test_an_archive_goes_to_a_bucket_and_to_a_new_host(tmp_path, s3_server):
    site = fill(s3_site(tmp_path / "site", s3_server, "store:backups/rooms"))
    expect_there_and_back(site, tmp_path)

    def there() -> set[tuple[str, str]]:
        """Paths, and when the server got them."""
        words = ("lsjson", "--recursive", "--files-only", "--fast-list", "--use-server-modtime")
        listed = Target(site).rclone(*words, "store:backups/rooms/archive")
        return {(one["Path"].partition("/")[2], one["ModTime"]) for one in json.loads(listed.stdout)}

    before = there()
    write(site, segment(6), b"more")
    copy(site)
    assert {name for name, _ in there() - before} == {f"{segment(6)}.bin", "head-0.tar.gz.bin"}


@pytest.mark.needs("root")
def test_an_archive_goes_to_another_machine_by_ssh_and_to_a_new_host(tmp_path, ssh_server, folder):
    expect_there_and_back(fill(ssh_site(tmp_path / "site", ssh_server, folder)), tmp_path)


def test_what_is_whole_goes_there_once_and_an_idle_archive_not_at_all(site, folder, heads):
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    copy(site)
    first = written()
    for path in first:
        os.utime(path, (1, 1))
    before = copying.last(site)
    copy(site)
    assert set(written().values()) == {10**9}
    assert copying.last(site) > before
    write(site, segment(4, ".partial"), b"one commit more".ljust(300_000, b"\0"))
    copy(site)
    changed = {path for path, time in written().items() if time != 10**9}
    assert changed == {heads()[1]}


def test_the_second_to_go_to_is_that_after_the_copy(site, tmp_path, capsys):
    copy(site)
    at = copying.last(site)
    fetch(new_host(site, tmp_path / "other"))
    second = f"{at.replace(microsecond=0) + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}"
    assert f'./deploy/rentomatic restore --at "{second}"' in capsys.readouterr().out


def test_wal_that_is_removed_here_while_it_is_copied_is_not_expected_there(site, tmp_path, monkeypatch):
    """As by a base backup, which removes the WAL that no kept one needs."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    gone = site.deploy / "archive" / segment(2)
    (bin_ / "rclone").write_text(f'#!/bin/sh\nrm -f {gone}\nexec {shutil.which("rclone")} "$@"\n')
    (bin_ / "rclone").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    assert gone.exists()
    copy(site)
    other = new_host(site, tmp_path / "other")
    fetch(other)
    assert contents(other) == contents(site)


# --- Keys


def test_without_a_key_nothing_leaves_the_host(site, folder):
    (site.secrets / "backup_key").unlink()
    failure = refused(copy, site)
    assert "there is no key to encrypt it; nothing was copied" in failure.reason
    assert failure.next_step == "./deploy/rentomatic rotate backup_key"
    assert list(folder.iterdir()) == []


def test_no_argument_of_a_program_has_the_key(site, tmp_path, monkeypatch):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    log = tmp_path / "log"
    (bin_ / "rclone").write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which("rclone")} "$@"\n')
    (bin_ / "rclone").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    copy(site)
    key = Key("the-first-key")
    arguments = log.read_text()
    assert "copyto" in arguments
    for secret in (key.text, key.derived("archive").hex(), "password"):
        assert secret not in arguments


def test_after_a_rotation_all_of_it_is_there_for_the_new_key_and_the_former_one_opens_the_former(
    site, tmp_path
):
    copy(site)
    before = contents(site)
    site.write_secret("backup_key_former", "the-first-key")
    site.write_secret("backup_key", "the-second-key")
    write(site, segment(4, ".partial"), b"after the rotation".ljust(300_000, b"\0"))
    copy(site)
    with_new = new_host(site, tmp_path / "new")
    fetch(with_new)
    assert contents(with_new) == contents(site)
    with_old = new_host(site, tmp_path / "old", "backup_key_former")
    fetch(with_old)
    assert contents(with_old) == before


def test_another_key_is_refused_with_the_one_that_is_needed(site, tmp_path):
    copy(site)
    other = new_host(site, tmp_path / "other")
    other.write_secret("backup_key", "of somebody else")
    failure = refused(fetch, other)
    assert f"there are copies of the key {Key('the-first-key').id}; nothing was changed" in failure.reason
    assert not (other.deploy / "archive").exists()


# --- Several hosts


def test_a_new_host_that_served_already_keeps_its_own_and_learns_of_the_other(site, tmp_path, folder):
    """As where it was rolled out before the archive was fetched: its timer may have copied, too."""
    copy(site)
    other = new_host(site, tmp_path / "other")
    fresh = "20261123T090000Z 7710810401525485999 00000001\n"
    write(other, "served", fresh.encode())
    own = f"7710810401525485999/wal/00000001-20261123T090000Z/00000001{1:024X}"[:-8]
    write(other, own, b"of the empty cluster")
    there = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for _ in range(3):
        copy(other)
        write(other, own.replace("0000", "0001", 1), os.urandom(10))
    assert all(path.read_bytes() == content for path, content in there.items())
    fetch(other)
    assert (other.deploy / "archive/served").read_text() == SERVED + fresh
    assert contents(other).items() >= {n: c for n, c in contents(site).items() if n != "served"}.items()
    assert (other.deploy / "archive" / own).read_bytes() == b"of the empty cluster"
    copy(other)
    third = new_host(site, tmp_path / "third")
    fetch(third)
    assert contents(third) == contents(other)


def test_what_is_here_already_is_neither_fetched_nor_overwritten(site, capsys):
    copy(site)
    write(site, segment(4, ".partial"), b"newer than the copy".ljust(300_000, b"\0"))
    before = contents(site)
    fetch(site)
    assert "has all that is there already; nothing was changed" in capsys.readouterr().out
    (site.deploy / "archive/served").unlink()
    fetch(site)
    assert contents(site) == before


# --- What goes wrong


@pytest.mark.parametrize("name", [segment(3), f"{BASE}/base.tar.gz"])
@pytest.mark.parametrize("damage", ["flipped", "cut off", "cut off behind a block", "gone"])
def test_what_was_damaged_there_is_refused_by_its_name(site, tmp_path, folder, name, damage):
    copy(site)
    (path,) = folder.glob(f"archive/*/{name}.bin")
    if damage == "flipped":
        flip(path)
    elif damage == "cut off":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "cut off behind a block":  # which crypt does not notice
        os.truncate(path, 32 + 65552)
    else:
        path.unlink()
    other = new_host(site, tmp_path / "other")
    failure = refused(fetch, other)
    assert "1 of 4 files in" in failure.reason
    assert f"damaged or gone, the first is {name}; nothing was changed" in failure.reason
    assert "archive --fetch --accept" in failure.next_step
    assert contents(other) == {}
    fetch(other, accept=True)
    assert contents(other) == {one: content for one, content in contents(site).items() if one != name}


@pytest.mark.parametrize("left", [None, 0, 10, 40, 1000])
def test_a_damaged_head_leaves_the_one_before_it(site, tmp_path, heads, left, capsys):
    copy(site)
    before = contents(site)
    write(site, segment(4, ".partial"), os.urandom(300_000))
    copy(site)
    newest = heads()[1]
    if left is None:
        flip(newest)
    else:
        os.truncate(newest, left)
    other = new_host(site, tmp_path / "other")
    fetch(other)
    assert contents(other) == before
    assert f"{newest} is damaged or cut off" in capsys.readouterr().err


def test_a_first_copy_that_is_given_up_is_gone_on_with(site, folder, heads, monkeypatch):
    """As of an archive that is larger than what the line carries in BACKUP_TIMEOUT."""
    write(site, segment(5), os.urandom(2_000_000))
    site.record("BACKUP_TIMEOUT", "3")
    with monkeypatch.context() as patch:
        patch.setenv("RCLONE_BWLIMIT", "300k")
        assert "(BACKUP_TIMEOUT)" in refused(copy, site).reason
    assert copying.last(site) is None
    assert heads() == []
    (there,) = folder.glob("archive/*")
    site.record("BACKUP_TIMEOUT", "60")
    copy(site)
    assert list(folder.glob("archive/*")) == [there]
    assert len(heads()) == 1


@pytest.mark.parametrize("what", [f"{segment(5)}.bin", "head-1.tar.gz.bin"])
def test_a_copy_that_is_killed_leaves_the_one_before_it_and_is_finished_by_the_next(
    site, tmp_path, folder, what
):
    copy(site)
    before = contents(site)
    if "head" in what:
        write(site, segment(4, ".partial"), os.urandom(3_000_000))
    else:
        write(site, segment(5), os.urandom(3_000_000))
    script = (
        "import sys; from pathlib import Path; from deploy.operations.pitr.elsewhere import *; "
        "Elsewhere(Project(Path(sys.argv[1]))).copy(Report('archive'))"
    )
    killed = subprocess.Popen(
        [*rig.ends_with_pytest(), sys.executable, "-c", script, str(site.folder)],
        cwd=rig.PROJECT,
        env={**os.environ, "RCLONE_BWLIMIT": "300k"},
    )
    rig.wait_until(lambda: any(p.stat().st_size for p in folder.glob(f"archive/*/{what}*")), "a begun file")
    program = child(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    os.kill(program, signal.SIGKILL)
    killed.wait(30)
    (begun,) = folder.glob(f"archive/*/{what}*")
    assert begun.stat().st_size < 3_000_000
    other = new_host(site, tmp_path / "other")
    fetch(other)
    assert contents(other) == before
    copy(site)
    other = new_host(site, tmp_path / "third")
    fetch(other)
    assert contents(other) == contents(site)


def child(process: int) -> int:
    (found,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(found)


def test_of_two_at_once_one_says_that_the_other_is_at_work(site):
    with lock_file(site.deploy / ".lock-archive", "archive --copy"):
        failure = refused(copy, site)
    assert "archive --copy" in failure.reason
    assert failure.status == 3


@pytest.mark.needs("root", "mount")
def test_a_full_place_is_named_and_the_copy_before_stays(site, tmp_path, folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", folder], check=True)
    try:
        copy(site)
        before = contents(site)
        write(site, segment(5), os.urandom(1_000_000))
        failure = refused(copy, site)
        assert failure.reason == f"the archive could not be copied to {folder}: it is full"
        assert failure.next_step.endswith("./deploy/rentomatic archive --copy")
        other = new_host(site, tmp_path / "other")
        fetch(other)
        assert contents(other) == before
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.needs("root", "mount")
def test_a_disk_without_room_for_the_archive_is_refused(site, tmp_path):
    copy(site)
    other = new_host(site, tmp_path / "other")
    (other.deploy / "archive").mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "none", other.deploy / "archive"], check=True)
    try:
        failure = refused(fetch, other)
    finally:
        subprocess.run(["umount", other.deploy / "archive"], check=True)
    assert "MB free, and the archive has 0.7 MB; nothing was changed" in failure.reason


def test_a_folder_that_is_gone_is_not_made_anew(site, folder):
    shutil.rmtree(folder)
    for action in (copy, fetch):
        assert "it is not there" in refused(action, site).reason
    assert not folder.exists()


def test_a_place_without_a_copy_is_named(site):
    failure = refused(fetch, site)
    assert "has no whole copy that the keys of this site open; nothing was changed" in failure.reason


def test_a_bucket_that_is_gone_and_wrong_credentials_are_named(tmp_path, s3_server):
    gone = fill(s3_site(tmp_path / "gone", s3_server, "store:gone"))
    assert "it is not there" in refused(copy, gone).reason
    wrong = fill(s3_site(tmp_path / "wrong", s3_server, "store:backups", key="NOBODY"))
    for action in (copy, fetch):
        assert "the credentials are refused" in refused(action, wrong).reason


@pytest.mark.needs("root")
def test_a_wrong_ssh_key_is_named(tmp_path, ssh_server, folder):
    site = fill(ssh_site(tmp_path / "site", ssh_server, folder, key="other"))
    assert "the credentials are refused" in refused(copy, site).reason
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"BACKUP_TO": ""}, "BACKUP_TO in .env names no place"),
        ({"PITR": "off"}, "no WAL is received"),
        ({"PITR_FOLDER": "deploy/secrets"}, "nothing is kept in"),
    ],
)
def test_what_has_nothing_to_copy_says_so_with_the_next_step(site, variables, reason):
    for name, value in variables.items():
        site.record(name, value)
    failure = refused(copy, site)
    assert reason in failure.reason
    assert failure.next_step


# --- How often


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1min", 60), ("2h", 7200)])
def test_an_interval_is_a_number_with_its_unit(site, text, seconds):
    site.record("ARCHIVE_COPY_EVERY", text)
    assert copying.interval(site) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["1", "0min", "often", "1 day", "-5min", "٣min"])
def test_another_one_is_refused(site, text):
    site.record("ARCHIVE_COPY_EVERY", text)
    with pytest.raises(Failure, match=r"ARCHIVE_COPY_EVERY=.* is no interval") as failure:
        copying.interval(site)
    assert failure.value.status == 2


def test_an_archive_that_does_not_reach_its_other_place_is_said(site):
    now, every = datetime.now(UTC), timedelta(minutes=1)
    place = site.setting("BACKUP_TO")
    assert point_in_time.copied("", every, None, now).level == OK
    assert point_in_time.copied(place, None, None, now).level == OK
    never = point_in_time.copied(place, every, copying.last(site), now)
    assert (never.level, "never copied" in never.text) == (WARNING, True)
    copy(site)
    last = copying.last(site)
    assert point_in_time.copied(place, every, last, now + timedelta(minutes=6)).level == OK
    late = point_in_time.copied(place, every, last, now + timedelta(minutes=8))
    assert (late.level, late.command) == (ERROR, "./deploy/rentomatic archive --copy")
    site.record("BACKUP_TO", "elsewhere:now")
    assert copying.last(site) is None
