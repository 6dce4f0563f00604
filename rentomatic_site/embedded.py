"""The embedded PostgreSQL of development and tests."""

from pathlib import Path


def socket_folder(folder: Path) -> str:
    """The folder of the cluster's socket."""
    return str(folder)


def start(folder: Path) -> None:
    """Make sure that the cluster in `folder` runs for as long as this process does."""
