"""The manifest of a backup: what it holds, by which `restore` and `drill` judge it."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from deploy.operations import environment
from deploy.operations.project import TIME, parse_time
from deploy.operations.report import Failure
from deploy.operations.seal import Key

FORMAT = 1
"""Of the manifest's fields; a program that reads an older one than it writes says so here."""

NAME = re.compile(r"(rentomatic-(\d{8}T\d{6}Z))\.dump")
CLOCK_SLACK = timedelta(minutes=5)
"""By so much two clocks may differ before a backup counts as one from the future."""

OTHERS = "./deploy/rentomatic restore, which lists the others"


@dataclass(frozen=True)
class Part:
    """A file of a backup, beside its manifest."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds; `rows` are counted in the snapshot that the dump is of."""

    at: str
    site: str
    """COMPOSE_PROJECT_NAME: no two folders have the same."""
    host: str
    image: str
    postgresql: int
    """As server_version_num, such as 180004."""
    database_bytes: int
    migrations: list[str]
    """What is applied, as `app.name`, oldest first."""
    rows: dict[str, int]
    seconds: float
    parts: dict[str, Part]
    key: str = ""
    """The id of the key that its parts are encrypted with; empty where they are not."""
    mac: str = ""
    format: int = FORMAT

    @property
    def total_bytes(self) -> int:
        return sum(part.bytes for part in self.parts.values())

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def message(self) -> bytes:
        """What the MAC is over: all but itself."""
        return json.dumps(asdict(self) | {"mac": ""}, sort_keys=True).encode()

    def sealed(self, key: Key | None) -> "Manifest":
        if key is None:
            return self
        named = replace(self, key=key.id)
        return replace(named, mac=key.sign(named.message()))


def beside(dump: Path) -> Path:
    """Where the manifest of a dump is."""
    return dump.with_name(f"{dump.name}.json")


def part(path: Path, name: str = "") -> Part:
    """A file as the manifest describes it, under another name where one is given."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Part(name or path.name, path.stat().st_size, digest)


def write(dump: Path, manifest: Manifest) -> None:
    environment.replace(beside(dump), manifest.text(), 0o600)


def read(dump: Path) -> Manifest:
    """The manifest of a dump; Failure where it is missing, cut off, or of a later program."""
    path = beside(dump)
    if not dump.is_file():
        raise Failure(f"{dump} cannot be read; nothing was changed", OTHERS)
    if not path.exists():
        raise Failure(
            f"{dump.name} has no manifest ({path.name} is missing): what it should hold is not known; "
            "nothing was changed",
            f"copy {path.name} beside it, or put it in place unproven with --accept",
        )
    try:
        fields = json.loads(path.read_text())
        if int(fields["format"]) > FORMAT:
            raise Failure(
                f"{path.name} was written by a later version of this program; nothing was changed",
                "git pull, then the same again",
            )
        parts = {name: Part(**one) for name, one in fields.pop("parts").items()}
        found = Manifest(parts=parts, **fields)
        parse_time(found.at)
        whole = (
            "dump" in parts
            and isinstance(found.mac, str)
            and all(isinstance(number, int) for number in found.rows.values())
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise Failure(f"{path.name} is damaged; nothing was changed", OTHERS)
    return found


def check_parts(dump: Path, manifest: Manifest) -> None:
    """Failure where a part is missing, cut off, or has one other bit."""
    for kind, one in manifest.parts.items():
        path = dump if kind == "dump" else dump.with_name(one.name)
        if not path.is_file():
            raise Failure(f"{path.name} is missing beside {dump.name}; nothing was changed", OTHERS)
        size = path.stat().st_size
        if size != one.bytes:
            raise Failure(
                f"{path} is not what was saved: it has {size:,} bytes of {one.bytes:,}; nothing was changed",
                OTHERS,
            )
        if part(path).sha256 != one.sha256:
            raise Failure(f"{path} is not what was saved (its SHA-256 differs); nothing was changed", OTHERS)


def key_of(dump: Path, manifest: Manifest, keys: list[Key]) -> Key | None:
    """Of a backup, None where it is not encrypted; Failure where no key of ours has made it as it is."""
    if not manifest.key:
        return None
    for key in keys:
        if key.id == manifest.key:
            if key.signed(manifest.message(), manifest.mac):
                return key
            raise Failure(
                f"{beside(dump).name} was changed after it was written; nothing was changed here", OTHERS
            )
    ours = f"we have {', '.join(key.id for key in keys)}" if keys else "there is none"
    raise Failure(
        f"{dump.name} is encrypted with the key {manifest.key}, and {ours}; nothing was changed",
        "put that key into deploy/secrets/backup_key (a former one into backup_key_former), mode 0600",
    )


def differences(expected: dict[str, int], found: dict[str, int]) -> list[str]:
    """What a database does not have as the manifest says, such as `room has 3 rows of 4`."""
    return [
        f"{table} has {found.get(table, 'no')} rows of {expected.get(table, 'none')}"
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]


def newer(migrations: list[str], known: list[str]) -> list[str]:
    """The migrations that a version does not have, of the apps that it has."""
    apps = {name.partition(".")[0] for name in known}
    return [name for name in migrations if name not in known and name.partition(".")[0] in apps]


# --- The backups of a folder


def backups(folder: Path) -> list[Path]:
    """The dumps that `backup` has written, oldest first by the time in their names."""
    return sorted(path for path in folder.glob("rentomatic-*.dump") if taken_at(path) is not None)


def taken_at(dump: Path) -> datetime | None:
    found = NAME.fullmatch(dump.name)
    try:
        return parse_time(found[2]) if found else None
    except ValueError:
        return None


def past(folder: Path, now: datetime) -> list[Path]:
    """
    The backups of a folder, without those from the future: a clock that was wrong has named them.

    One of those would count as the newest for years, and push out the real ones.
    """
    latest = (now + CLOCK_SLACK).strftime(TIME)
    return [path for path in backups(folder) if path.name[len("rentomatic-") :] < f"{latest}."]


def future(folder: Path, now: datetime) -> list[Path]:
    known = past(folder, now)
    return [path for path in backups(folder) if path not in known]


def newest(folder: Path, now: datetime) -> datetime | None:
    """When the newest backup of a folder was begun."""
    found = past(folder, now)
    return taken_at(found[-1]) if found else None
