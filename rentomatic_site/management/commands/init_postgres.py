"""`./manage.py init_postgres`: create the application's database and role, the second deployment step."""

import base64
import hashlib
import hmac
import re
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from psycopg2 import sql
from psycopg2.extensions import cursor, encrypt_password

from rentomatic_site import postgres
from rentomatic_site.pooling import limits

NO_PRIVILEGES = {
    "rolsuper": "NOSUPERUSER",
    "rolcreatedb": "NOCREATEDB",
    "rolcreaterole": "NOCREATEROLE",
    "rolreplication": "NOREPLICATION",
    "rolbypassrls": "NOBYPASSRLS",
}
"""Columns of pg_roles that must be false for the application's role, and the options that make them so."""

FOREIGN_OBJECTS = """
    SELECT 'TABLE', oid::regclass::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'p', 'v', 'm') AND relowner <> %(role)s::regrole
    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proowner <> %(role)s::regrole
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
"""
"""Kind and quoted name of each object of the database that another role owns."""


class Command(BaseCommand):
    help = (
        "Creates the application's database APPLICATION_DB through the maintenance database POSTGRES_DB "
        "and, with APPLICATION_USER and APPLICATION_PASSWORD set, its owner, a login role: no superuser, no "
        "CREATEDB and CREATEROLE. What exists already is kept; the role's password, powers and ownership are "
        "brought up to date. With DATABASE_POOLER_URL the role also gets the limits of requests, such "
        "as STATEMENT_TIMEOUT, which a pooler drops. Safe to repeat, and to run several times at once."
    )
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        role = settings.APPLICATION_USER
        if role and role == settings.POSTGRES["user"]:
            raise CommandError(
                f"APPLICATION_USER and POSTGRES_USER are both {role!r}, and the application must not be the "
                "administrator. Next: choose another APPLICATION_USER, such as rentomatic."
            )
        if role and not settings.APPLICATION_PASSWORD:
            raise CommandError(
                "APPLICATION_USER is set and APPLICATION_PASSWORD is not. "
                "Next: set it, or APPLICATION_PASSWORD_FILE."
            )
        # Two CREATE ROLE or ALTER ROLE at once fail in PostgreSQL, even with IF NOT EXISTS around them.
        with postgres.advisory_lock("rentomatic init_postgres") as server:
            if role:
                self.create_role(server, role)
                if settings.POOLED and limits.give(server, role):
                    self.stdout.write(f"Role '{role}' got the limits of requests.")
            self.create_database(server, settings.APPLICATION_DB, role or None)
            self.add_statistics(server)

    def create_role(self, server: cursor, role: str) -> None:
        """
        Create or update the role; only the password's hash is sent, so that no server log contains it.

        A hash that is the password's stays: a pooler logs in by what it has learnt of that one, and with
        another salt none of its new connections could.
        """
        columns = ", ".join(NO_PRIVILEGES)
        server.execute(f"SELECT {columns} FROM pg_roles WHERE rolname = %s", [role])  # noqa: S608 - constants
        held = server.fetchone()  # None where there is no such role
        revoked = [option for option, has in zip(NO_PRIVILEGES.values(), held or (), strict=False) if has]
        password: sql.Composable = sql.SQL("")
        if not (held and is_verifier_of(settings.APPLICATION_PASSWORD, self.verifier(server, role))):
            verifier = encrypt_password(
                settings.APPLICATION_PASSWORD, role, server.connection, "scram-sha-256"
            )
            password = sql.SQL(" PASSWORD {}").format(sql.Literal(verifier))
        server.execute(
            sql.SQL("{} ROLE {} LOGIN {}{}").format(
                sql.SQL("ALTER" if held else "CREATE"),
                sql.Identifier(role),
                sql.SQL(" ".join(revoked)),
                password,
            )
        )
        # An administrator that is not a superuser, as on managed servers, can give databases only to its own
        # roles.
        server.execute("SELECT pg_has_role(%s, 'SET')", [role])
        if server.fetchone() != (True,):
            server.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
        self.stdout.write(f"Role '{role}' {'updated' if held else 'created'}.")

    def verifier(self, server: cursor, role: str) -> str:
        """What PostgreSQL keeps of the role's password; empty where only a superuser may know."""
        server.execute("SELECT has_table_privilege('pg_authid', 'SELECT')")
        if server.fetchone() != (True,):
            return ""
        server.execute("SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = %s", [role])
        ((verifier,),) = server.fetchall()
        return str(verifier)

    def create_database(self, server: cursor, name: str, role: str | None) -> None:
        if postgres.database_exists(server, name):
            if role:
                self.change_owner(server, name, role)
            self.stdout.write(f"Database '{name}' already exists and will not be recreated.")
        else:
            postgres.create_database(server, name, owner=role)
            self.stdout.write(f"Database '{name}' created.")

    def add_statistics(self, server: cursor) -> None:
        """
        pg_stat_statements where the server has loaded it, for its administrator.

        In the maintenance database, where it shows the statements of all: in the application's it would be
        part of each backup, and only a superuser could restore that.
        """
        server.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if server.fetchone() != (True,):  # nobody else may see the setting, or create the extension
            return
        server.execute("SHOW shared_preload_libraries")
        (loaded,) = server.fetchone() or ("",)
        server.execute("SELECT FROM pg_extension WHERE extname = 'pg_stat_statements'")
        if "pg_stat_statements" in loaded and not server.fetchone():
            server.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            self.stdout.write("Extension 'pg_stat_statements' created.")

    def change_owner(self, server: cursor, name: str, role: str) -> None:
        """Make the role the owner of an existing database and of the objects in it."""
        server.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(role))
        )
        with postgres.session(name) as inside:
            inside.execute(FOREIGN_OBJECTS, {"role": sql.Identifier(role).as_string(inside)})
            for kind, quoted in inside.fetchall():
                inside.execute(
                    sql.SQL("ALTER {} {} OWNER TO {}").format(
                        sql.SQL(kind), sql.SQL(quoted), sql.Identifier(role)
                    )
                )


def is_verifier_of(password: str, verifier: str) -> bool:
    """Whether this SCRAM verifier (RFC 5803) is the password's; False also for one of another kind."""
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):.+", verifier)
    if not found:
        return False
    iterations, salt, stored = int(found[1]), base64.b64decode(found[2]), base64.b64decode(found[3])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored)
