"""What tests have started and not ended: processes, and databases on the tests' own server."""

import os
import re
import time
from pathlib import Path

from django.conf import settings

from rentomatic_site import postgres
from rentomatic_site.embedded import server as embedded_server

PATIENCE = 20.0
"""Seconds for which a process may still be about to end: a server of development waits for ten."""

EXPECTED = re.compile(r"postgres|template[01]|application|tpl_\w+")
"""Databases that a server keeps: its own, and the templates, which the next test would want."""


def databases() -> list[str]:
    """The names of databases that tests made on the embedded server; none where it is another server."""
    folder = settings.EMBEDDED_POSTGRES
    if folder is None or embedded_server.supervisor_pid(folder) is None:
        return []
    with postgres.session() as server:
        server.execute("SELECT datname FROM pg_database ORDER BY datname")
        return [f"database {name}" for (name,) in server.fetchall() if not EXPECTED.fullmatch(name)]


def processes(basetemp: Path) -> list[str]:
    """
    The processes that name the tests' folder or server in their command line or environment (Linux).

    The server's own are none of them, nor are we.
    """
    folder = settings.EMBEDDED_POSTGRES
    marks = [os.fsencode(mark) for mark in (f"{basetemp}/", folder) if mark]
    supervisor = embedded_server.supervisor_pid(folder) if folder else None
    parents, suspects = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        try:
            parents[pid] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_bytes()
            context = command + (process / "environ").read_bytes()
            if pid != os.getpid() and any(mark in context for mark in marks):
                suspects[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended, or is another user's
            continue
    left = []
    for pid, command_line in suspects.items():
        ancestor: int | None = pid
        while ancestor not in {None, supervisor}:
            ancestor = parents.get(ancestor or 0)
        if ancestor is None or supervisor is None:
            left.append(f"process {pid}: {command_line[:200]}")
    return left


def found(basetemp: Path) -> list[str]:
    """One line for each thing that is left."""
    deadline = time.monotonic() + PATIENCE
    while (left := processes(basetemp)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [*left, *databases()]
