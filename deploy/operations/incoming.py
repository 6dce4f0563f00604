"""A backup in a database of its own: judged by its manifest, read in, migrated, and tried by a replica."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from deploy.operations import manifest, seal, snapshot
from deploy.operations.backup import megabytes
from deploy.operations.database import Database, identifier
from deploy.operations.docker import Docker
from deploy.operations.manifest import Manifest
from deploy.operations.migrations import Migrations
from deploy.operations.process import Done
from deploy.operations.report import Failure, Report
from deploy.operations.seal import Key

TABLES = ("room", "django_migrations")
VOLUME = "/var/lib/postgresql"

TRY_A_REPLICA = """
gunicorn -c deploy/gunicorn.conf.py >/tmp/log 2>&1 &
refused=0
for try in $(seq 40); do
    sleep 1
    output=$(python deploy/healthcheck.py --questions 2>&1) && exec python -c "${QUESTIONS:-}"
    case $output in *"gunicorn does not respond"*) continue ;; esac
    # It has started: what it refuses again and again stays refused.
    refused=$((refused + 1))
    [ $refused -lt 5 ] || break
done
tail -n 5 /tmp/log
echo "$output"
exit 1
"""


def led_to(server: str) -> dict[str, str]:
    """The environment in which a task uses this server, without pooler and replicas of what serves."""
    return {"POSTGRES_HOSTNAME": server, "DATABASE_POOLER_URL": "", "DATABASE_REPLICA_URLS": ""}


# What clients ask: the first page, how many rooms there are, and how many within a box around one of them.
QUESTIONS = """
import http.client, json
from rentomatic_site import settings
headers = {"Host": settings.ALLOWED_HOSTS[0].removeprefix("."), "X-Forwarded-Proto": "https"}
headers["Accept"] = "application/json"
def ask(query):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=20)
    connection.request("GET", "/rooms?limit=100&count=exact" + query, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    if response.status != 200:
        raise SystemExit(f"/rooms?count=exact{query} is {response.status}: {text[:500]}")
    return json.loads(text), int(response.headers["X-Total-Count"])
page, total = ask("")
box, inside = None, None
if page:
    x, y = page[0]["longitude"], page[0]["latitude"]
    box = [max(x - 0.1, -180), max(y - 0.1, -90), min(x + 0.1, 180), min(y + 0.1, 90)]
    inside = ask("&bbox=" + ",".join(map(repr, box)))[1]
print(json.dumps({"page": len(page), "total": total, "box": box, "inside": inside}))
"""


class Copy:
    """A database beside the one that serves, and a replica that is tried on it."""

    def __init__(self, docker: Docker, name: str, report: Report) -> None:
        self.docker = docker
        self.name = name
        self.report = report
        self.database = Database(docker)

    def try_it(self) -> None:
        self.report.step("Trying it …")
        # Not by the replicas of the database, which may not have it yet.
        inside = {"APPLICATION_DB": self.name, "DATABASE_REPLICA_URLS": ""}
        # It may be of an earlier version; of a later one, the replica is not ready.
        migrated = self.docker.task("migrate", "./manage.py", "migrate", environment=inside)
        self.expect(migrated, "the migration of the backup failed")
        tried = self.docker.task(
            "web", "sh", "-c", TRY_A_REPLICA, environment=inside | {"QUESTIONS": QUESTIONS}
        )
        self.expect(tried, "the site does not answer from this backup")
        self.judge(json.loads(tried.stdout.splitlines()[-1]))

    def judge(self, answers: dict[str, Any]) -> None:
        """Whether the site's numbers are the database's own."""
        box = answers["box"] or [0, 0, 0, 0]
        (row,) = self.database.rows(
            "SELECT count(*) AS total, count(*) FILTER (WHERE longitude BETWEEN "
            f"{box[0]!r} AND {box[2]!r} AND latitude BETWEEN {box[1]!r} AND {box[3]!r}) AS inside FROM room",
            database=self.name,
            timeout=None,
        )
        right = {
            "page": min(100, row["total"]),
            "total": row["total"],
            "inside": row["inside"] if answers["box"] else None,
        }
        wrong = [name for name, number in right.items() if answers[name] != number]
        if wrong:
            raise Failure(f"the site answers wrongly from this backup: {answers}, and it has {right}")
        self.report.data["questions"] = answers

    def expect(self, done: Done, reason: str) -> None:
        if not done:
            raise Failure(f"{reason}: {done.text[-1500:]}")

    def dropping(self) -> str:
        return f"DROP DATABASE IF EXISTS {identifier(self.name)} WITH (FORCE)"


class Incoming(Copy):
    """A backup, and the database that it is read into."""

    def __init__(self, docker: Docker, file: Path, name: str, report: Report) -> None:
        super().__init__(docker, name, report)
        self.file = file
        self.manifest: Manifest | None = None
        """None where it has none, which the operator has accepted."""
        self.key: Key | None = None

    # --- Before anything is touched

    def check(self, *, accept: bool = False) -> None:
        """Failure where the backup is not whole, is not ours, or is too new; nothing was touched then."""
        if not accept or manifest.beside(self.file).exists():
            self.manifest = manifest.read(self.file)
            self.find_key(self.manifest, accept)
            manifest.check_parts(self.file, self.manifest)
            self.check_site(self.manifest, accept)
            self.check_versions(self.manifest)
            self.check_room(self.manifest)
        elif not self.file.is_file():
            raise Failure(f"{self.file} cannot be read; nothing was changed", manifest.OTHERS)
        self.check_contents()

    def find_key(self, found: Manifest, accept: bool) -> None:
        keys = seal.keys(self.docker.project)
        self.key = manifest.key_of(self.file, found, keys)
        if keys and self.key is None and not accept:
            raise Failure(
                f"{self.file.name} is not encrypted, and this site's backups are: anybody may have made it; "
                "nothing was changed",
                "the same with --accept, where you know that it is from before there was a key",
            )

    @contextmanager
    def contents(self) -> Iterator[IO[bytes]]:
        """The dump, decrypted."""
        with self.file.open("rb") as file, seal.reading(file, self.key) as plain:
            yield plain

    def check_site(self, found: Manifest, accept: bool) -> None:
        ours = self.docker.project.name
        if found.site != ours and not accept:
            raise Failure(
                f"{self.file.name} is a backup of another site ({found.site}, {found.host}), and this is "
                f"{ours}; nothing was changed",
                "the same with --accept, where that site's rooms and people are to be here",
            )

    def check_versions(self, found: Manifest) -> None:
        (row,) = self.database.rows("SELECT current_setting('server_version_num')::int AS number")
        theirs, ours = found.postgresql // 10_000, row["number"] // 10_000
        if theirs > ours:
            raise Failure(
                f"{self.file.name} is of PostgreSQL {theirs}, and {ours} serves; nothing was changed",
                f"./deploy/rentomatic upgrade {theirs}",
            )
        known = Migrations(self.docker, self.docker.project.image).plan().known
        if newer := manifest.newer(found.migrations, known):
            raise Failure(
                f"the schema of {self.file.name} is newer than the version that serves, which does not know "
                f"{', '.join(newer[:3])}; nothing was changed",
                f"./deploy/rentomatic rollout of the version that it was made by ({found.image})",
            )

    def check_room(self, found: Manifest) -> None:
        """The copy, and what PostgreSQL logs while it is read in."""
        done = self.docker("exec", self.database.container, "df", "-P", "-B1", VOLUME)
        free, needed = int(done.stdout.splitlines()[-1].split()[3]), needed_bytes(found.database_bytes)
        self.report.data |= {"needed_bytes": needed, "free_bytes": free}
        self.report.say(
            f"It needs {megabytes(needed)} of the database's disk, which has {megabytes(free)} free."
        )
        if free < needed:
            raise Failure(
                f"the database's disk has {megabytes(free)} free, and {megabytes(needed)} are needed; "
                "nothing was changed",
                f"docker compose exec {self.docker.primary} df -h {VOLUME}",
            )

    def check_contents(self) -> None:
        """Failure where it is no dump, or one of something else."""
        with self.contents() as source:
            listed = self.database.program("pg_restore", "--list", stdin=source)
        if not listed:
            raise Failure(
                f"the contents cannot be read ({listed.text}); nothing was changed",
                "docker compose ps db, ls deploy/backups",
            )
        for table in TABLES:
            if f" TABLE DATA public {table} " not in listed.stdout:
                raise Failure(
                    f"{self.file} is no backup of this application, it has no table {table}; "
                    "nothing was changed",
                    "ls deploy/backups",
                )

    # --- In a database of its own

    def read_in(self) -> None:
        self.report.step("Reading the backup …")
        role = self.docker.project.role
        self.database.execute(self.dropping())
        self.database.create(self.name, role)
        # As the application's role: a file from elsewhere may hold any statement.
        command = ["pg_restore", "--username", role, "--dbname", self.name, "--no-owner", "--no-acl"]
        with self.contents() as source:
            done = self.database.program(*command, "--exit-on-error", "--single-transaction", stdin=source)
        self.expect(done, "the backup could not be read in")
        self.compare()
        self.expect(
            self.database.execute("ANALYZE", database=self.name, check=False),
            "the backup could not be analysed",
        )

    def compare(self) -> None:
        """Failure where a table has not as many rows as were counted when the backup was made."""
        if self.manifest is None:
            return
        counted = snapshot.count(self.database, self.name)
        if not counted.done:
            raise Failure(f"the rows could not be counted: {counted.words}")
        if different := manifest.differences(self.manifest.rows, counted.rows):
            raise Failure(f"it does not hold what its manifest says: {', '.join(different)}")
        total = sum(counted.rows.values())
        self.report.data["rows"] = counted.rows
        self.report.say(f"All {total:,} rows of {len(counted.rows)} tables are there.")


def needed_bytes(database_bytes: int) -> int:
    return 2 * database_bytes + 100_000_000
