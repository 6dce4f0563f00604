"""Point in time without containers: the setting, times as people write them, what the archive can reach."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.operations import pitr
from deploy.operations.doctor import point_in_time
from deploy.operations.doctor.finding import ERROR, OK, WARNING
from deploy.operations.pitr import recovery
from deploy.operations.pitr.archive import Archive, Part
from deploy.operations.pitr.plan import ended_early
from deploy.operations.pitr.times import parse_at, shown
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from deploy.operations.wal import SEGMENT_BYTES, lsn, position

SYSTEM = "7710810401525485587"


@pytest.fixture
def project(tmp_path):
    """A folder as `setup` leaves it, with more variables in .env."""

    def make(**variables: str) -> Project:
        (tmp_path / "deploy/secrets").mkdir(parents=True)
        owner = f"{os.getuid()}:{os.getgid()}"
        lines = {
            "COMPOSE_PROJECT_NAME": "site",
            "PROJECT_FOLDER": str(tmp_path),
            "RUN_AS": owner,
            **variables,
        }
        (tmp_path / ".env").write_text("".join(f"{name}={text}\n" for name, text in lines.items()))
        return Project(tmp_path)

    return make


# --- The setting


def test_on_adds_the_overlay_a_folder_and_a_secret_and_off_takes_the_overlay_out(project):
    site = project(PITR="on", COMPOSE_FILE="compose.yml:own.yml")
    pitr.choose(site, Report("apply"))
    assert site.setting("COMPOSE_FILE") == "compose.yml:own.yml:deploy/compose.pitr.yml"
    assert (site.deploy / "archive").stat().st_mode & 0o777 == 0o700
    secret = site.secret("archive_password")
    assert len(secret) > 50
    assert (site.secrets / "archive_password").stat().st_mode & 0o777 == 0o600
    pitr.choose(site, Report("apply"))
    assert site.secret("archive_password") == secret
    site.record("PITR", "off")
    pitr.choose(site, Report("apply"))
    assert site.setting("COMPOSE_FILE") == "compose.yml:own.yml"


def test_a_dry_run_writes_nothing(project):
    site = project(PITR="on")
    pitr.choose(site, Report("apply"), dry=True)
    assert "COMPOSE_FILE" not in site.variables
    assert not (site.deploy / "archive").exists()
    assert not list(site.secrets.iterdir())


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PITR": "yes"}, "PITR=yes in .env is not known"),
        ({"PITR": "on", "COMPOSE_FILE": "compose.yml:deploy/compose.managed.yml"}, "a managed one"),
        ({"PITR": "on", "POSTGRES_VERSION": "17"}, "needs PostgreSQL 18, .* and 17 serves"),
        ({"PITR": "on", "PITR_KEEP": "0"}, "PITR_KEEP=0 in .env is no number from 1"),
        ({"PITR": "on", "PITR_BASE_HOURS": "٣"}, "PITR_BASE_HOURS=٣ in .env is no number"),
    ],
)
def test_what_cannot_be_is_refused_with_the_next_step(project, variables, reason):
    with pytest.raises(Failure, match=reason) as refused:
        pitr.choose(project(**variables), Report("apply"))
    assert refused.value.next_step


def test_a_folder_of_somebody_else_is_refused_with_the_command_that_gives_it(project):
    site = project(PITR="on", RUN_AS="4321:4321", PITR_FOLDER="deploy/secrets")
    with pytest.raises(Failure, match="the containers run as 4321:4321") as refused:
        pitr.choose(site, Report("apply"))
    assert refused.value.next_step.startswith("chown 4321:4321 ")


# --- Times


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-21 10:00:05", "2026-11-21 10:00:05 UTC"),
        ("2026-11-21T10:00:05Z", "2026-11-21 10:00:05 UTC"),
        ("2026-11-21 10:00", "2026-11-21 10:00:00 UTC"),
        ("2026-11-21 10:00:05.25", "2026-11-21 10:00:05.250000 UTC"),
        ("2026-11-21 10:00:05+01:00", "2026-11-21 09:00:05 UTC"),
        ("2026-11-21 10:00:05 -0530", "2026-11-21 15:30:05 UTC"),
        ("2026-11-21 10:00:05 +01", "2026-11-21 09:00:05 UTC"),
        ("2026-11-21 10:00:05 Europe/Madrid", "2026-11-21 09:00:05 UTC"),
        ("2026-07-21 10:00:05 Europe/Madrid", "2026-07-21 08:00:05 UTC"),
    ],
)
def test_a_time_is_utc_unless_it_says_its_zone(text, utc):
    found = parse_at(text)
    assert found is not None
    assert shown(found) == utc


def test_latest_is_a_time_without_a_limit():
    assert parse_at("latest") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "10:00:05",
        "2026-11-21",
        "2026-13-21 10:00:05",
        "2026-11-21 25:00",
        "2026-11-21 10:00 Mars",
        "٢٠٢٦-11-21 10:00",
        "21.11.2026 10:00",
        "2026-11-21 10:00:05 ../etc/passwd",
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(Failure, match="nothing was changed") as refused:
        parse_at(text)
    assert refused.value.status == 2
    assert '--at "2026-11-21 10:00:05"' in refused.value.next_step


@pytest.mark.parametrize(
    ("text", "reason"), [("2026-10-25 02:30", "comes twice"), ("2026-03-29 02:30", "does not exist")]
)
def test_a_time_that_clocks_show_twice_or_never_needs_an_offset(text, reason):
    with pytest.raises(Failure, match=reason):
        parse_at(f"{text} Europe/Madrid")
    assert parse_at(f"{text} +01:00") is not None


# --- The archive


@pytest.fixture
def archive(project) -> Archive:
    """Two timelines, of which the second left the first at 0/5000100; a base backup of each."""
    site = project(PITR="on")
    pitr.choose(site, Report("apply"))
    found = Archive(site)
    (found.folder / "served").write_text(
        f"20261121T080000Z {SYSTEM} 00000001\n20261121T103000Z {SYSTEM} 00000002\ncut o"
    )
    for name, numbers in {
        "00000001-20261121T080000Z": range(2, 9),
        "00000002-20261121T103000Z": (5, 6),
    }.items():
        for number in numbers:
            segment(found.folder / SYSTEM / "wal" / name, number, whole=number not in {8, 6})
    (found.folder / SYSTEM / "wal/history").mkdir()
    (found.folder / SYSTEM / "wal/history/00000002.history").write_text("1\t0/5000100\tbefore 10:00:05\n\n")
    base(found, "20261121T081000Z-00000001-18", "0/2000028")
    base(found, "20261121T104000Z-00000002-18", "0/6000028")
    return found


def segment(run: Path, number: int, *, whole: bool = True) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    path = run / f"{run.name[:8]}{0:08X}{number:08X}{'' if whole else '.partial'}"
    with path.open("wb") as file:
        file.truncate(SEGMENT_BYTES)
    return path


def base(archive: Archive, name: str, start: str) -> None:
    folder = archive.folder / SYSTEM / "base" / name
    folder.mkdir(parents=True)
    manifest = {"Files": [{"Path": "PG_VERSION", "Size": 3}, {"Path": "base/1/2", "Size": 8192}]}
    manifest["WAL-Ranges"] = [{"Timeline": 1, "Start-LSN": start, "End-LSN": start}]
    (folder / "backup_manifest").write_text(json.dumps(manifest))


def test_a_position_is_read_and_written_as_postgresql_does():
    assert position("1/3000148") == 2**32 + 0x3000148
    assert lsn(position("1A/3000148")) == "1A/3000148"


def test_each_timeline_served_until_the_next_one_did(archive):
    first, second = archive.served
    assert (first.timeline, first.until) == ("00000001", datetime(2026, 11, 21, 10, 30, tzinfo=UTC))
    assert (second.timeline, second.until) == ("00000002", None)


def test_a_base_backup_leads_along_its_timeline_and_to_those_that_left_it_later(archive):
    old, new = archive.bases(SYSTEM)
    assert old.bytes == 8195
    start, left = position("0/2000028"), position("0/5000100")
    assert archive.way(old, "00000001") == [Part("00000001", start, None)]
    assert archive.way(old, "00000002") == [Part("00000001", start, left), Part("00000002", left, None)]
    assert archive.way(new, "00000002") == [Part("00000002", position("0/6000028"), None)]
    assert archive.way(new, "00000001") == []


def test_a_base_backup_after_the_place_where_its_timeline_was_left_leads_nowhere_else(archive):
    base(archive, "20261121T100000Z-00000001-18", "0/7000028")
    late = archive.bases(SYSTEM)[1]
    assert archive.way(late, "00000002") == []
    assert archive.way(late, "00000001") == [Part("00000001", position("0/7000028"), None)]


def test_the_oldest_time_is_that_of_a_base_backup_behind_which_no_segment_is_missing(archive):
    assert archive.oldest() == datetime(2026, 11, 21, 8, 10, tzinfo=UTC)
    (archive.folder / SYSTEM / "wal/00000001-20261121T080000Z/000000010000000000000003").unlink()
    assert (
        archive.missing(SYSTEM, Part("00000001", position("0/2000028"), None)) == "000000010000000000000003"
    )
    assert archive.oldest() == datetime(2026, 11, 21, 10, 40, tzinfo=UTC)


def test_a_segment_that_was_cut_off_counts_as_missing(archive):
    path = archive.folder / SYSTEM / "wal/00000002-20261121T103000Z/000000020000000000000006.partial"
    os.truncate(path, 1000)
    assert (
        archive.missing(SYSTEM, Part("00000002", position("0/5000100"), None)) == "000000020000000000000006"
    )


def test_the_segment_in_which_a_timeline_was_left_is_looked_for_in_the_next_one(archive):
    """Of a primary that died the archive may have less than the replica that took its place."""
    wal = archive.folder / SYSTEM / "wal"
    left = Part("00000001", position("0/2000028"), position("0/5000100"))
    (wal / "00000001-20261121T080000Z/000000010000000000000005").unlink()
    assert archive.missing(SYSTEM, left) == ""
    (wal / "00000002-20261121T103000Z/000000020000000000000005").unlink()
    later = Part("00000002", position("0/5000100"), None)
    assert archive.missing(SYSTEM, later) == "000000020000000000000005"
    (wal / "00000001-20261121T080000Z/000000010000000000000004").unlink()
    assert archive.missing(SYSTEM, left) == "000000010000000000000004"


def test_segments_of_two_runs_of_a_timeline_follow_each_other(archive):
    run = archive.folder / SYSTEM / "wal/00000002-20261121T120000Z"
    segment(run, 6)
    segment(run, 7, whole=False)
    assert archive.missing(SYSTEM, Part("00000002", position("0/5000100"), None)) == ""
    newest = archive.newest(SYSTEM, "00000002")
    assert newest is not None
    assert newest[0] == position("0/7000000")


# --- What ends WAL, by the words of pg_waldump

AT = "pg_waldump: error: error in WAL record at 0/5000AB8: "
ZERO = AT + "invalid record length at 0/5000AE8: expected at least 24, got 0"
CHECKSUM = AT + "incorrect resource manager data checksum in record at 0/5000AE8"
ACROSS = "pg_waldump: error: error in WAL record at 0/5FFFF10: incorrect resource manager data checksum"
MISSING = 'pg_waldump: error: could not find file "000000010000000000000006": No such file or directory'


@pytest.mark.parametrize(
    ("end", "newest", "words", "reason"),
    [
        (None, "0/5000000", ZERO, ""),
        (None, "0/5000000", CHECKSUM, ""),
        (None, "0/6000000", ACROSS, ""),
        (None, "0/5000000", MISSING, ""),
        (None, "0/7000000", MISSING, "the WAL segment 000000010000000000000006 is missing"),
        (None, "0/6000000", CHECKSUM, "is damaged"),
        (None, "0/6000000", ZERO, "is damaged"),
        ("0/7000100", "0/8000000", ZERO, "is damaged"),
        ("0/7000100", "0/5000000", MISSING, "is missing"),
        ("0/7000100", "0/8000000", "", ""),
    ],
)
def test_only_at_the_end_of_the_newest_segment_may_wal_end(end, newest, words, reason):
    part = Part("00000001", position("0/2000028"), position(end) if end else None)
    assert reason in ended_early(part, position(newest), words)
    assert bool(reason) == bool(ended_early(part, position(newest), words))


# --- What --undo returns to


@pytest.mark.parametrize(
    ("later", "volume"),
    [
        ([], True),
        ([{"begun": "application_before_1"}], False),  # killed while it changed over
        ([{"begun": "application_before_1"}, {"put_back": "application_before_1"}], True),
        ([{"begun": "application_before_1"}, {"file": "x.dump", "before": "application_before_1"}], False),
    ],
)
def test_the_last_restore_is_the_last_that_was_not_put_back(project, later, volume):
    site = project()
    for facts in [{"volume": "new", "before": "old"}, *later]:
        site.note("restore", **facts)
    assert recovery.was_last(site) == volume


# --- What doctor says

STREAMING = {"slot": "archive", "status": "reserved", "state": "streaming", "kept": 0, "lag": 40}


@pytest.mark.parametrize(
    ("changed", "level", "words"),
    [
        ({}, OK, "40 bytes behind"),
        ({"lag": 10**9}, WARNING, "1000000000 bytes behind"),
        ({"state": None, "kept": 3 * 10**7}, ERROR, "nobody receives WAL; 30 MB wait"),
        ({"status": "lost", "state": None}, ERROR, "WAL is lost"),
        ({"slot": None, "state": None}, ERROR, "keeps no WAL for the archive"),
    ],
)
def test_a_receiver_that_is_away_behind_or_lost_is_said(changed, level, words):
    found = point_in_time.receiver(lambda query: [STREAMING | changed])
    assert found.level == level
    assert words in found.text
    assert bool(found.command) == (level != OK)


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_what_is_kept_reaches_back_to_the_oldest_base_backup(archive):
    found = point_in_time.kept(archive, 24, NOON)
    assert (found.level, found.text) == (OK, "can go back to any second since 2026-11-21 08:10:00 UTC")


def test_a_gap_an_old_base_backup_and_an_empty_archive_are_said(archive):
    assert "is 4 days old" in point_in_time.kept(archive, 24, NOON + timedelta(days=4)).text
    (archive.folder / SYSTEM / "wal/00000001-20261121T080000Z/000000010000000000000004").unlink()
    found = point_in_time.kept(archive, 24, NOON)
    assert found.level == WARNING
    assert (
        "000000010000000000000004 is missing or cut off: only times since 2026-11-21 10:40:00" in found.text
    )
    run = archive.folder / SYSTEM / "wal/00000002-20261121T103000Z"
    (run / "000000020000000000000006.partial").unlink()
    (run / "000000020000000000000005").rename(run / "000000020000000000000007")
    assert point_in_time.kept(archive, 24, NOON).level == ERROR
    for folder in archive.bases(SYSTEM):
        (folder.folder / "backup_manifest").unlink()
    assert "no base backup" in point_in_time.kept(archive, 24, NOON).text
    (archive.folder / "served").unlink()
    assert "nothing is kept" in point_in_time.kept(archive, 24, NOON).text
