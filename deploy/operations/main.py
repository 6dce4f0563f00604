"""The command line of ./deploy/rentomatic."""

import argparse
import importlib
import sys
from types import ModuleType

from deploy.operations import hosts, process
from deploy.operations.report import Failure, Report

COMMANDS = {
    "setup": "prepare a production start: .env, secrets, a certificate",
    "rollout": "bring in the version in this folder; also the first start",
    "apply": "let what was changed in .env take effect",
    "rollback": "go back to a version that is kept",
    "promote": "make a replica of the database the primary",
    "rotate": "put a new secret in the place of one",
    "doctor": "look whether all is well, and what mends what is not",
    "status": "how the site does, on one screen",
    "logs": "all lines of one request",
    "backup": "save the database",
    "basebackup": "save the cluster, for `restore --at`",
    "archive": "what `restore --at` needs, to another place and back",
    "restore": "put a backup, or a point in time, in the place of the database",
    "drill": "prove the newest backup, beside what serves",
    "schedule": "backups and drills at the times of .env",
    "upgrade": "bring PostgreSQL to another major version",
}
"""Each is a module beside this one, with HELP, add_arguments() and run()."""

OF_THE_DATABASE = {"promote", "rotate", "backup", "basebackup", "restore", "drill", "schedule", "upgrade"}
"""Commands that a host with `web` only has no use for."""

STATUSES = """\
exit status: 0 done; 1 failed, and the message says what was changed; 2 the command line is wrong; 3 another
command is at work in this folder; 130 interrupted. doctor: 1 warnings, 2 errors."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="rentomatic",
        description="Operate the site of this folder. Each command is safe to interrupt and to repeat.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        module = load(name)
        command = commands.add_parser(
            name,
            help=summary,
            description=module.HELP,
            epilog=STATUSES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument(
            "--dry-run", action="store_true", help="say what would be done, and change nothing"
        )
        command.add_argument(
            "--json", action="store_true", help="one JSON object on stdout; progress on stderr"
        )
        command.add_argument(
            "--wait",
            type=float,
            default=0,
            metavar="SECONDS",
            help="wait so long for another command (default: 0)",
        )
    return top


def load(command: str) -> ModuleType:
    return importlib.import_module(f"deploy.operations.{command}")


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    report = Report(options.command, options.json)
    process.install_handlers()
    failure, status = None, 0
    try:
        if options.command in OF_THE_DATABASE:
            hosts.refuse(options.command)
        status = load(options.command).run(options, report) or 0
    except Failure as error:
        failure, status = error, error.status
    except process.Interrupted:
        failure, status = Failure("interrupted; nothing was left half done"), 130
    report.finish(status, failure)
    return status


if __name__ == "__main__":
    sys.exit(main())
