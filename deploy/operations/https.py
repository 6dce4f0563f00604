"""HTTPS=acme: the overlay of compose.yml with the service that renews the certificate."""

import os
from pathlib import Path

from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

OVERLAY = "deploy/compose.acme.yml"


def renews(project: Project) -> bool:
    """Whether .env asks for a certificate that renews itself."""
    wanted = project.setting("HTTPS")
    if wanted not in {"", "acme"}:
        raise Failure(
            f"HTTPS={wanted} in .env is not known; nothing was changed",
            "HTTPS=acme for a certificate that renews itself, or no HTTPS for one that you bring",
        )
    return wanted == "acme"


def choose(project: Project, report: Report, *, dry: bool = False) -> None:
    """Name the overlay in COMPOSE_FILE, or not, as .env says, and make the folders that it writes to."""
    wanted = renews(project)
    if wanted and "." not in project.setting("SITE_HOST", "localhost"):
        raise Failure(
            "no authority gives a certificate to a host without a domain; nothing was changed",
            "SITE_HOST=rooms.example.com in .env",
        )
    project.choose_overlay(OVERLAY, wanted, report, dry=dry)
    if wanted and not dry:
        make_folders(project)


def make_folders(project: Project) -> None:
    """Of the containers' user, who writes the challenge, the certificate and its history."""
    for name, mode in (("acme", 0o755), ("certificates", 0o755), ("letsencrypt", 0o700)):
        folder = project.deploy / name
        if not folder.exists():
            folder.mkdir()
            folder.chmod(mode)
        give(folder, project.setting("RUN_AS"))


def give(folder: Path, owner: str) -> None:
    """Only root can, and only root has to: else the containers run as the person who runs this."""
    if os.getuid() == 0 and owner:
        user, _, group = owner.partition(":")
        os.chown(folder, int(user), int(group or user))
