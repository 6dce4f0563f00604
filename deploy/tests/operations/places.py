"""Sites without containers whose BACKUP_TO is a folder, a bucket or another machine."""

import socket
from pathlib import Path

from deploy.operations.project import Project


def project(folder: Path, place: str | Path, **variables: str) -> Project:
    """A site without containers whose backups go to a place."""
    (folder / "deploy" / "backups").mkdir(parents=True, exist_ok=True)
    (folder / "deploy" / "secrets").mkdir(exist_ok=True)
    variables |= {"COMPOSE_PROJECT_NAME": "rentomatic-1234", "PROJECT_FOLDER": str(folder)}
    variables |= {"BACKUP_TO": str(place)}
    (folder / ".env").write_text("".join(f"{name}={text}\n" for name, text in variables.items()))
    return Project(folder)


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def s3_site(folder: Path, port: int, place: str, key: str = "S3RVER", **variables: str) -> Project:
    site = project(folder, place, **variables)
    (site.secrets / "rclone.conf").write_text(
        "[store]\ntype = s3\nprovider = Minio\nforce_path_style = true\n"
        f"endpoint = http://127.0.0.1:{port}\naccess_key_id = {key}\nsecret_access_key = S3RVER\n"
    )
    return site


def ssh_site(folder: Path, server: tuple[Path, int], place: Path, key: str = "mine") -> Project:
    site = project(folder, f"nas:{place}")
    keys, port = server
    (site.secrets / "rclone.conf").write_text(
        f"[nas]\ntype = sftp\nhost = 127.0.0.1\nport = {port}\nuser = root\nkey_file = {keys}/{key}\n"
        f"known_hosts_file = {keys}/known_hosts\n"
    )
    return site
