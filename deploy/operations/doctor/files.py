"""The certificate, the secrets and the backups, as files."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploy.operations import manifest, process, seal
from deploy.operations.doctor.finding import Finding, error, ok, warning
from deploy.operations.project import OF_THE_SERVERS, parse_time

TELLING = re.compile(r"Detail:|detail|rror|Unable|refused|rateLimited|too many", re.I)
"""Of certbot's output the lines that name the cause."""

OPERATORS = {"rclone.conf", seal.NAME, seal.FORMER}
"""Secrets that no container reads."""

COPY = "copy a certificate and its key into deploy/certificates, then ./deploy/rentomatic apply"


def openssl(*arguments: str) -> str:
    """What openssl prints; its words where it fails."""
    return process.run(["openssl", *arguments]).text


def certificate_pair(chain: Path, key: Path) -> Finding:
    """Whether the chain is one, and the key is its own."""
    for path in (chain, key):
        if not path.exists():
            return error(f"{path.name} is missing", COPY)
    ours = process.run(["openssl", "x509", "-in", str(chain), "-noout", "-pubkey"])
    if not ours:
        return error(f"{chain.name} is no certificate", COPY)
    public = process.run(["openssl", "pkey", "-in", str(key), "-pubout"])
    if ours.stdout != public.stdout:
        return error(f"{key.name} is not the key of {chain.name}", COPY)
    verified = process.run(["openssl", "verify", "-untrusted", str(chain), str(chain)])
    if verified:
        return ok("the chain leads to an authority that this host trusts")
    issuer = openssl("x509", "-in", str(chain), "-noout", "-issuer", "-subject").splitlines()
    if len(issuer) == 2 and issuer[0].partition("=")[2] == issuer[1].partition("=")[2]:
        return ok("self-signed: browsers ask before they open the site")
    return error("the chain does not lead to an authority: intermediate certificates are missing", COPY)


def certificate_host(chain: Path, host: str) -> Finding:
    said = openssl("x509", "-in", str(chain), "-noout", "-checkhost", host)
    if "does match" in said:
        return ok(f"the certificate is for {host}")
    return error(f"the certificate is not for {host}", COPY)


def certificate_days(chain: Path, now: datetime) -> Finding:
    said = openssl("x509", "-in", str(chain), "-noout", "-enddate").partition("=")[2]
    try:
        end = datetime.strptime(said, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    except ValueError:
        return error("the certificate cannot be read", COPY)
    days = (end - now).days
    if days < 0:
        return error(f"the certificate has expired {-days} days ago", COPY)
    if days < 21:
        return warning(f"the certificate ends in {days} days", COPY)
    return ok(f"the certificate ends in {days} days")


def renewal(status: Path, now: datetime) -> Finding:
    """What the last look of the service `acme` gave, from the file that it writes."""
    command = "docker compose logs --tail 30 acme"
    if not status.exists():
        return warning("no certificate was asked for yet", command)
    first, *rest = status.read_text().splitlines()
    result, time, pause = first.split()
    if result != "ok":
        telling = [line.strip() for line in rest if TELLING.search(line)] or rest[-1:]
        return error(
            f"the certificate was not renewed at {time}, the old one stays: {' '.join(telling)[:300]}",
            command,
        )
    late = now - parse_time(time) - timedelta(seconds=int(pause))
    if late > timedelta(hours=1):
        return warning(f"the certificate was last looked after {hours(now - parse_time(time))} ago", command)
    return ok(f"the certificate was looked after {hours(now - parse_time(time))} ago")


def secret_files(folder: Path, owner: str) -> Finding:
    """Modes and owner (`user:group`); the containers run as that owner."""
    command = f"chown -R {owner} {folder} && chmod 700 {folder} && chmod 600 {folder}/*"
    for path in sorted(folder.iterdir()):
        status = path.stat()
        readable = 0o044 if path.name in OF_THE_SERVERS else 0
        if status.st_mode & 0o077 & ~readable:
            return error(f"others may read or write {path.name} (mode {status.st_mode & 0o777:o})", command)
        if path.name in OPERATORS:
            continue
        if owner and f"{status.st_uid}:{status.st_gid}" != owner:
            return error(
                f"{path.name} belongs to {status.st_uid}:{status.st_gid}, the containers run as {owner}",
                command,
            )
    if folder.stat().st_mode & 0o077:
        return error("others may look into deploy/secrets", command)
    return ok("the secrets are readable for their owner only")


def backup_age(folder: Path, now: datetime) -> Finding:
    command = "./deploy/rentomatic backup"
    if wrong := manifest.future(folder, now):
        return warning(
            f"{wrong[-1].name} is from the future: the clock was wrong, and it counts for none",
            f"timedatectl; then rm {' '.join(f'{path}*' for path in wrong)}",
        )
    taken = manifest.newest(folder, now)
    if taken is None:
        return warning("there is no backup", command)
    age = now - taken
    text = f"the newest backup is {hours(age)} old"
    if age > timedelta(days=7):
        return error(text, command)
    return ok(text) if age < timedelta(hours=26) else warning(text, command)


def copy_age(place: str, copies: list[dict[str, Any]], now: datetime) -> Finding:
    """When everything was last in the other place; `copies` is the journal of that."""
    if not place:
        return ok("backups stay on this host (BACKUP_TO brings them to another place)")
    command = "./deploy/rentomatic backup --copy"
    times = [parse_time(note["at"]) for note in copies if note.get("place") == place]
    if not times:
        return warning(f"no backup was ever copied to {place}", command)
    age = now - times[-1]
    text = f"all backups were in {place} {hours(age)} ago"
    return ok(text) if age < timedelta(hours=26) else error(text, command)


def proof_age(proofs: list[dict[str, Any]], now: datetime) -> Finding:
    """When a backup was last proven, by a drill or by a restore; `proofs` is the journal of both."""
    command = "./deploy/rentomatic drill"
    if not proofs:
        return warning("no backup was ever restored here", command)
    last = proofs[-1]
    age = now - parse_time(last["at"])
    if not last.get("ok", True):
        reason = " ".join(last["reason"].split())[:300]
        return error(f"the last drill, {hours(age)} ago, has failed: {reason}", command)
    what = "proven by a drill" if last["command"] == "drill" else "restored"
    text = f"a backup was {what} {hours(age)} ago"
    return ok(text) if age < timedelta(days=32) else warning(text, command)


def hours(age: timedelta) -> str:
    """An age in words."""
    if age < timedelta(hours=2):
        return f"{age.total_seconds() / 60:.0f} minutes"
    if age < timedelta(hours=48):
        return f"{age.total_seconds() / 3600:.0f} hours"
    return f"{age.days} days"
