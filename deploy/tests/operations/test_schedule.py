"""The timetable of .env as units of systemd."""

import os
import shutil
import subprocess

import pytest

from deploy.operations import schedule
from deploy.operations.project import Project
from deploy.operations.report import Failure
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs


@pytest.fixture
def site(tmp_path):
    """A function that writes a timetable into .env and returns the project."""

    def write(**times: str) -> Project:
        folder = tmp_path / "site"
        shutil.copytree(rig.PROJECT / "deploy/systemd", folder / "deploy/systemd", dirs_exist_ok=True)
        variables = times | {"COMPOSE_PROJECT_NAME": "rentomatic-1234", "PROJECT_FOLDER": str(folder)}
        (folder / ".env").write_text("".join(f"{name}={text}\n" for name, text in variables.items()))
        return Project(folder)

    return write


def test_each_time_of_env_is_a_timer_of_the_project(site):
    project = site(BACKUP_AT="*-*-* 02:30", DRILL_AT="Mon 05:00", ARCHIVE_COPY_EVERY="30s")
    units = schedule.render(project)
    assert len(units) == 6
    assert "\nOnCalendar=*-*-* 02:30\n" in units["rentomatic-1234-backup.timer"]
    assert "\nOnCalendar=Mon 05:00\n" in units["rentomatic-1234-drill.timer"]
    assert "\nOnUnitActiveSec=30s\n" in units["rentomatic-1234-archive.timer"]
    assert f"ExecStart={project.folder}/deploy/rentomatic drill " in units["rentomatic-1234-drill.service"]
    assert "/deploy/rentomatic archive --copy " in units["rentomatic-1234-archive.service"]
    assert not any("/srv/rentomatic" in text for text in units.values())


def test_a_time_that_is_empty_is_no_timer(site):
    assert not schedule.render(site())
    assert set(schedule.render(site(BACKUP_AT="03:15"))) == {
        "rentomatic-1234-backup.service",
        "rentomatic-1234-backup.timer",
    }


@pytest.mark.parametrize("when", ["25:00", "daily at three", "--help", "03:15 # at night?"])
def test_a_time_that_systemd_does_not_know_is_refused(site, when):
    needs("systemd-analyze")
    with pytest.raises(
        Failure, match=r"BACKUP_AT=.* is no time of systemd's; nothing was changed"
    ) as refused:
        schedule.render(site(BACKUP_AT=f"'{when}'"))
    assert refused.value.status == 2


def test_an_interval_that_is_none_is_refused(site):
    with pytest.raises(Failure, match=r"ARCHIVE_COPY_EVERY=03:15 is no interval; nothing was changed"):
        schedule.render(site(ARCHIVE_COPY_EVERY="03:15"))


def test_cron_has_a_line_for_each_that_env_asks_for(site):
    assert "archive" not in schedule.cron(site())
    copies = schedule.cron(site(ARCHIVE_COPY_EVERY="1min")).split("; ")[-1]
    assert copies.startswith("* * * * * /")
    assert copies.endswith("/deploy/rentomatic archive --copy")


def test_systemd_accepts_what_is_written(site, tmp_path):
    needs("systemd-analyze")
    project = site(BACKUP_AT="03:15", DRILL_AT="Sun 04:15", ARCHIVE_COPY_EVERY="1min")
    program = project.deploy / "rentomatic"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name, text in schedule.render(project).items():
        (tmp_path / name).write_text(text)
    units = sorted(str(path) for path in tmp_path.glob("rentomatic-*"))
    assert len(units) == 6
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "rentomatic" in line] == []


@pytest.mark.needs("root")
def test_the_units_run_as_who_owns_the_env(site):
    project = site(BACKUP_AT="03:15")
    assert "\nUser=root\n" in schedule.render(project)["rentomatic-1234-backup.service"]
    os.chown(project.environment, 65534, -1)
    assert "\nUser=nobody\n" in schedule.render(project)["rentomatic-1234-backup.service"]
