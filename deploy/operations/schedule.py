"""`schedule`: the timetable of .env, as timers of systemd."""

import argparse
import os
import pwd
import re
from pathlib import Path

from deploy.operations import environment, process
from deploy.operations.pitr import copying
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Let systemd make backups and drills by the timetable in .env: BACKUP_AT, such as 03:15, and DRILL_AT, such as
Sun 04:15, in the words of systemd's OnCalendar; and copies of the archive, each ARCHIVE_COPY_EVERY, such as
1min, 30s or 1h. What is empty takes its timer away.

The units of deploy/systemd are written with this folder in them, and started; run as root they are the
system's, else yours. Without systemd it prints the lines for cron. What they did is in doctor, and in the
journal of the unit (journalctl -u UNIT)."""

TIMES = {"backup": "BACKUP_AT", "drill": "DRILL_AT", "archive": "ARCHIVE_COPY_EVERY"}
SYSTEM = Path("/etc/systemd/system")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--into", metavar="FOLDER", help="write the units there, and start none")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    units = render(project)
    report.data["units"] = sorted(units)
    if options.dry_run:
        for name, text in units.items():
            report.say(f"# {name}\n{text}")
        return
    with project.lock("schedule", options.wait):
        folder = Path(options.into).resolve() if options.into else own_folder()
        if not options.into and not Path("/run/systemd/system").exists():
            raise Failure("systemd does not run here; nothing was changed", f"crontab -e: {cron(project)}")
        gone = [
            path
            for command in TIMES
            for path in folder.glob(f"{project.name}-{command}.*")
            if path.name not in units
        ]
        if not options.into:
            manage("disable", "--now", *[path.name for path in gone if path.suffix == ".timer"])
        folder.mkdir(parents=True, exist_ok=True)
        for path in gone:
            path.unlink()
        for name, text in units.items():
            environment.replace(folder / name, text, 0o644)
        if not options.into:
            manage("daemon-reload")
            manage("enable", "--now", *[name for name in units if name.endswith(".timer")])
        for name in units:
            report.say(f"written {folder / name}")
        for path in gone:
            report.say(f"removed {path}")


def render(project: Project) -> dict[str, str]:
    """The units by their names, which begin with the project's: a host may have two sites."""
    units = {}
    for command, variable in TIMES.items():
        when = project.setting(variable)
        if not when:
            continue
        if command == "archive":
            copying.interval(project)
        else:
            check_time(variable, when)
        for kind in ("service", "timer"):
            text = (project.deploy / "systemd" / f"rentomatic-{command}.{kind}").read_text()
            text = text.replace("/srv/rentomatic", str(project.folder))
            text = re.sub(r"^(OnCalendar|OnUnitActiveSec)=.*$", rf"\1={when}", text, flags=re.M)
            owner = f"User={owner_of(project)}\n" if os.getuid() == 0 else ""
            units[f"{project.name}-{command}.{kind}"] = text.replace("User=root\n", owner)
    return units


def check_time(variable: str, when: str) -> None:
    try:
        done = process.run(["systemd-analyze", "calendar", "--", when])
    except FileNotFoundError:
        return  # and no systemd that it is for
    if not done or "\n" in when:
        raise Failure(
            f"{variable}={when} is no time of systemd's; nothing was changed",
            f"in .env {variable}=03:15, or another one that systemd-analyze calendar accepts",
            status=2,
        )


def owner_of(project: Project) -> str:
    """Whose .env is: as whom the site is operated, and docker may be asked."""
    number = project.environment.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def own_folder() -> Path:
    if os.getuid() == 0:
        return SYSTEM
    return Path(os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))) / "systemd" / "user"


def manage(*words: str) -> None:
    if words[-1].startswith("--"):
        return  # no unit is named
    mine = [] if os.getuid() == 0 else ["--user"]
    done = process.run(["systemctl", *mine, *words])
    if not done:
        raise Failure(f"systemctl {words[0]} failed: {done.text}", "systemctl list-timers")


def cron(project: Project) -> str:
    lines = [
        f"15 3 * * {day} {project.folder}/deploy/rentomatic {command} --wait 3600"
        for command, day in (("backup", "*"), ("drill", "0"))
    ]
    if copying.interval(project):
        lines.append(f"* * * * * {project.folder}/deploy/rentomatic archive --copy")
    return "; ".join(lines)
