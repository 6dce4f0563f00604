"""A dump together with the numbers of its rows: both of one snapshot of the database."""

import json
from dataclasses import dataclass
from typing import IO, Any

from deploy.operations.database import Database
from deploy.operations.docker import environment_options
from deploy.operations.process import Done

HISTORY = "room_change*"
"""The history of changes means nothing in another database: who followed it begins again (docs/api.md)."""

# For psql. What is counted goes to stderr: stdout is the dump's.
COUNT = r"""
\o |cat >&2
SELECT format('SELECT ''rows '' || json_build_object(%1$L::text, count(*)) FROM %1$s', c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND relpersistence <> 't'
AND nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema' AND relname NOT LIKE 'room\_change%'
ORDER BY c.oid::regclass::text \gexec
SELECT 'facts ' || json_build_object('postgresql', current_setting('server_version_num')::int,
    'database_bytes', pg_database_size(current_database()),
    'migrations', (SELECT json_agg(app || '.' || name ORDER BY id) FROM django_migrations));
\o
"""

# The transaction that exports the snapshot stays open while pg_dump, which psql starts, reads from it.
DUMP = rf"""
SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
{COUNT}
\setenv SNAPSHOT :snapshot
\! exec pg_dump -U postgres -Fc --exclude-table-data '{HISTORY}' --snapshot "$SNAPSHOT" --dbname "$DUMPED"
\if :SHELL_ERROR
\else
\o |cat >&2
SELECT 'dumped';
\o
\endif
COMMIT;
"""


@dataclass(frozen=True)
class Snapshot:
    """What psql told of a database: whether all was done, its words where not."""

    done: bool
    words: str
    rows: dict[str, int]
    facts: dict[str, Any]


def dump(database: Database, name: str, application_name: str, file: IO[bytes]) -> Snapshot:
    """pg_dump of a database into a file; its sessions have the given name."""
    variables = {"PGAPPNAME": application_name, "DUMPED": f"dbname={connection_value(name)}"}
    told = run(database, name, DUMP, variables, file)
    return parse(told, "dumped" in told.stderr.splitlines())


def count(database: Database, name: str) -> Snapshot:
    """The numbers of rows of each table of a database, as they are now."""
    told = run(database, name, f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n{COUNT}\nCOMMIT;\n")
    return parse(told, bool(told))


def run(
    database: Database,
    name: str,
    script: str,
    variables: dict[str, str] | None = None,
    stdout: IO[bytes] | None = None,
) -> Done:
    command = ["exec", "-i", *environment_options(variables), database.container]
    command += ["psql", "--username", "postgres", "--dbname", f"dbname={connection_value(name)}"]
    command += ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]
    return database.docker(*command, check=False, text=script, stdout=stdout)


def parse(told: Done, done: bool) -> Snapshot:
    rows: dict[str, int] = {}
    facts: dict[str, Any] = {}
    words = []
    for line in told.stderr.splitlines():
        kind, _, text = line.partition(" ")
        if kind == "rows":
            rows |= json.loads(text)
        elif kind == "facts":
            facts |= json.loads(text)
        elif line and line != "dumped":
            words.append(line)
    return Snapshot(done and bool(told) and bool(facts), "\n".join(words), rows, facts)


def connection_value(text: str) -> str:
    """A value in a connection string of libpq."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
