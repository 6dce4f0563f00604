"""The parts of the deployment that .env switches on and off, each by an overlay of Compose."""

from deploy.operations import hosts, https, nodes, pitr, pooling
from deploy.operations.project import Project
from deploy.operations.report import Report


def choose(project: Project, report: Report, *, dry: bool = False) -> None:
    """Name in COMPOSE_FILE what .env asks for, and make what it needs; Failure where it cannot be."""
    for part in (hosts.choose, https.choose, pitr.choose, nodes.choose, pooling.choose):
        part(project, report, dry=dry)
