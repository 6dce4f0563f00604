"""deploy/monitoring/textfile/backup.prom, which node exporter reads."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from deploy.operations import backup_metrics, manifest
from deploy.operations.pitr import copying
from deploy.operations.project import TIME, Project


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / ".env").write_text(f"COMPOSE_PROJECT_NAME=rentomatic-1234\nPROJECT_FOLDER={tmp_path}\n")
    (tmp_path / "deploy" / "backups").mkdir(parents=True)
    return Project(tmp_path)


def save(project: Project, ago: timedelta, rooms: int | None) -> None:
    """A backup; without a number of rooms one that has no manifest."""
    at = f"{datetime.now(UTC) - ago:{TIME}}"
    path = project.deploy / "backups" / f"rentomatic-{at}.dump"
    path.write_bytes(b"PGDMP")
    if rooms is not None:
        parts = {"dump": manifest.part(path)}
        manifest.write(
            path, manifest.Manifest(at, project.name, "", "", 180004, 9, [], {"room": rooms}, 1.5, parts)
        )


def written(project: Project) -> dict[str, float]:
    """The file as Prometheus reads it; each gauge has a help and a type before it."""
    backup_metrics.write(project)
    file = project.deploy / "monitoring" / "textfile" / "backup.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    text = file.read_text()
    line = r"# HELP (\w+) [^\n]+\n# TYPE (\w+) gauge\n(\w+) ([0-9.]+)\n"
    assert re.fullmatch(f"({line})*", text)
    found = re.findall(line, text)
    assert all(one == two == three for one, two, three, _ in found)
    return {name: float(number) for name, _, _, number in found}


def test_without_a_backup_the_file_says_so(project):
    assert written(project) == {"rentomatic_backups": 0}


def test_the_newest_backup_with_a_manifest_is_the_one_that_counts(project):
    save(project, timedelta(hours=30), 3)
    save(project, timedelta(hours=2), 4)
    save(project, timedelta(hours=1), None)
    save(project, -timedelta(days=1), 5)
    found = written(project)
    age = datetime.now(UTC).timestamp() - found.pop("rentomatic_backup_timestamp_seconds")
    assert round(age / 3600) == 2
    assert found == {
        "rentomatic_backups": 3,
        "rentomatic_backup_duration_seconds": 1.5,
        "rentomatic_backup_size_bytes": 5,
        "rentomatic_backup_rooms": 4,
    }


def test_the_time_when_the_archive_has_to_be_copied_is_told_only_where_it_is_copied(project):
    at = datetime.now(UTC)
    copying.note(project, at=at.isoformat(), place="nas:rooms")
    assert written(project) == {"rentomatic_backups": 0}
    project.record("BACKUP_TO", "nas:rooms")
    project.record("ARCHIVE_COPY_EVERY", "1min")
    due = written(project)["rentomatic_archive_copy_due_timestamp_seconds"]
    assert round((due - at.timestamp()) / 60) == 7


def test_a_drill_that_fails_keeps_the_time_of_the_last_that_did_not(project):
    project.note("drill", ok=True, seconds=9.5, rooms=4)
    proven = written(project)
    assert proven["rentomatic_drill_success"] == 1
    assert proven["rentomatic_drill_duration_seconds"] == 9.5
    project.note("drill", ok=False, seconds=3, reason="room has 3 rows of 4")
    failed = written(project)
    assert failed["rentomatic_drill_success"] == 0
    time = "rentomatic_drill_timestamp_seconds"
    assert failed[time] == proven[time] > 0
