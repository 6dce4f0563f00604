"""PostgreSQL, by its own views. `ask` runs a query and returns its rows by the names of the columns."""

import re
import shlex
from collections.abc import Callable
from typing import Any

from deploy.operations.database import literal
from deploy.operations.doctor.finding import Finding, error, ok, warning

Ask = Callable[[str], list[dict[str, Any]]]
PSQL = "docker compose exec db psql -U postgres"
VACUUM = "docker compose exec db vacuumdb -U postgres"

OF_A_REBUILD = re.compile(r'_cc(new|old)\d*"?$')
"""How PostgreSQL names what an interrupted REINDEX CONCURRENTLY leaves beside the index."""


def version(ask: Ask) -> str:
    return str(ask("SELECT current_setting('server_version') AS version")[0]["version"])


def invalid_indexes(ask: Ask) -> Finding:
    rows = ask(
        "SELECT indexrelid::regclass::text AS name, current_database() AS database FROM pg_index "
        "WHERE NOT indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p "
        "WHERE p.index_relid = indexrelid) ORDER BY 1"
    )
    if rows:
        names, name = ", ".join(row["name"] for row in rows), rows[0]["name"]
        action = "DROP INDEX" if OF_A_REBUILD.search(name) else "REINDEX INDEX CONCURRENTLY"
        return error(
            f"an interrupted build has left invalid indexes, which cost writes and serve no reader: {names}",
            f"{PSQL} {shlex.quote(rows[0]['database'])} -c {shlex.quote(f'{action} {name}')}",
        )
    return ok("all indexes are valid")


def wraparound(ask: Ask) -> Finding:
    """Age of the oldest transaction id: autovacuum begins at 200 million, writes end at 2,147 million."""
    (row,) = ask(
        "SELECT datname AS name, age(datfrozenxid)::bigint AS age, datallowconn AS open FROM pg_database "
        "ORDER BY 2 DESC, 3 DESC LIMIT 1"
    )
    text = f"the oldest transaction id is {row['age'] / 10**6:.0f} million old, in {row['name']}"
    command = f"{VACUUM} --all --freeze"
    if not row["open"]:  # template0, which nobody may connect to
        allow = f"{PSQL} -c 'ALTER DATABASE {row['name']} ALLOW_CONNECTIONS"
        command = f"{allow} true'; {VACUUM} --freeze {row['name']}; {allow} false'"
    if row["age"] > 1_200_000_000:
        return error(text, command)
    return ok(text) if row["age"] < 500_000_000 else warning(text, command)


def bloat(ask: Ask) -> Finding:
    """Tables of which more than a third are dead rows."""
    rows = ask(
        "SELECT relid::regclass::text AS name, n_dead_tup AS dead, n_live_tup AS live, "
        "current_database() AS database "
        "FROM pg_stat_user_tables WHERE n_dead_tup > 10000 AND n_dead_tup > n_live_tup / 2 "
        "ORDER BY n_dead_tup DESC"
    )
    if rows:
        names = ", ".join(f"{row['name']} ({row['dead']} dead rows beside {row['live']})" for row in rows)
        table, database = shlex.quote(rows[0]["name"]), shlex.quote(rows[0]["database"])
        return warning(f"bloated: {names}", f"{VACUUM} --table {table} {database}")
    return ok("no table is mostly dead rows")


def statistics(ask: Ask) -> Finding:
    """Tables with more than a thousand rows of which a third has changed since the planner's look, or all."""
    rows = ask(
        "SELECT relid::regclass::text AS name, current_database() AS database "
        "FROM pg_stat_user_tables WHERE n_live_tup > 1000 "
        "AND (n_mod_since_analyze > n_live_tup / 3 OR coalesce(last_analyze, last_autoanalyze) IS NULL) "
        "ORDER BY 1"
    )
    if rows:
        return warning(
            f"the planner's statistics are old: {', '.join(row['name'] for row in rows)}",
            f"{VACUUM} --analyze-only {shlex.quote(rows[0]['database'])}",
        )
    return ok("the planner's statistics are fresh")


def checksums(ask: Ask) -> Finding:
    (row,) = ask(
        "SELECT current_setting('data_checksums') AS state, "
        "(SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database) AS failures"
    )
    if row["failures"]:
        return error(
            f"{row['failures']} pages of the disk are damaged",
            "./deploy/rentomatic backup; then another disk",
        )
    if row["state"] != "on":
        return warning(
            "pages have no checksums, so that a damaged disk is not noticed",
            "docker compose stop db && docker compose run --rm --no-deps --entrypoint pg_checksums db "
            "--enable && docker compose up -d --wait",
        )
    return ok("pages have checksums, and none has failed")


def slots(ask: Ask, *ours: str) -> Finding:
    """Those that nobody reads, but for `ours`, which have checks of their own."""
    named = ", ".join(map(literal, ("", *ours)))
    rows = ask(
        "SELECT slot_name AS name, "
        "coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS kept "
        f"FROM pg_replication_slots WHERE NOT active AND slot_name NOT IN ({named}) ORDER BY 2 DESC"
    )
    if rows:
        names = ", ".join(f"{row['name']} ({row['kept'] / 10**6:.0f} MB of WAL)" for row in rows)
        return error(
            f"replication slots that nobody reads keep WAL until the disk is full: {names}",
            f"{PSQL} -c \"SELECT pg_drop_replication_slot('{rows[0]['name']}')\"",
        )
    return ok("no unused replication slot keeps WAL")


def write_ahead_log(ask: Ask) -> Finding:
    """Its size against max_wal_size, and the archive, where there is one."""
    (row,) = ask(
        "SELECT (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()) AS bytes, "
        "(SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_wal_size') AS most, "
        "current_setting('archive_mode') AS archive, failed_count AS failed, last_failed_wal AS wal, "
        "coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing, "
        "extract(epoch FROM now() - last_archived_time)::bigint AS age, "
        "EXISTS (SELECT FROM pg_stat_replication "
        "WHERE application_name = 'archive' AND state = 'streaming') AS received FROM pg_stat_archiver"
    )
    if row["failing"]:
        return error(f"the archive refuses WAL since {row['wal']}", "docker compose logs --tail 20 db")
    text = f"{row['bytes'] / 10**6:.0f} MB of WAL"
    if row["bytes"] > 3 * row["most"]:
        return warning(f"{text}, more than three times max_wal_size", f"{PSQL} -c CHECKPOINT")
    if row["received"]:
        return ok(f"{text}, received as it is written")
    if row["archive"] != "off":
        return ok(f"{text}, archived {row['age'] or 0} s ago")
    return ok(f"{text}; it is not archived, what is written after a backup is only here")


def locks(ask: Ask) -> Finding:
    """Who has waited for a lock for more than ten seconds, and who holds it."""
    rows = ask(
        "SELECT (pg_blocking_pids(pid))[1] AS holder, "
        "extract(epoch FROM now() - query_start)::int AS seconds "
        "FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND now() - query_start > interval '10 seconds' ORDER BY 2 DESC"
    )
    if rows:
        first = rows[0]
        return error(
            f"{len(rows)} sessions wait for a lock, the first for {first['seconds']} s; process "
            f"{first['holder']} holds it",
            f"{PSQL} -c 'SELECT pg_terminate_backend({first['holder']})'",
        )
    return ok("nobody waits for a lock")


def long_transactions(ask: Ask) -> Finding:
    """Open for more than ten minutes, or prepared: they hold back vacuum and the feed of changes."""
    rows = ask(
        "SELECT pid::text AS pid, extract(epoch FROM now() - xact_start)::int / 60 AS minutes "
        "FROM pg_stat_activity "
        "WHERE xact_start < now() - interval '10 minutes' AND backend_type = 'client backend' "
        "UNION ALL SELECT gid, extract(epoch FROM now() - prepared)::int / 60 FROM pg_prepared_xacts "
        "WHERE prepared < now() - interval '10 minutes' ORDER BY 2 DESC"
    )
    if not rows:
        return ok("no transaction is open for long")
    first = rows[0]
    end = f"SELECT pg_terminate_backend({first['pid']})"
    if not first["pid"].isdigit():
        end = f"ROLLBACK PREPARED '{first['pid']}'"
    return warning(
        f"a transaction is open for {first['minutes']} minutes: {first['pid']}", f'{PSQL} -c "{end}"'
    )


def connections(ask: Ask, replicas: int, workers: int, threads: int, pooled: int = 0) -> Finding:
    """
    Whether a rollout, twice the replicas, and ten for people fit; and what is used now.

    Of `pooled` connections, where a pooler shares them out, there are twice as many while a password rotates.
    """
    (row,) = ask(
        "SELECT current_setting('max_connections')::int "
        "- current_setting('superuser_reserved_connections')::int AS most, count(*) AS used "
        "FROM pg_stat_activity WHERE backend_type = 'client backend'"
    )
    needed = 2 * replicas * workers * (threads + 1) + 10
    text = f"{row['used']} of {row['most']} connections are used, a rollout needs {needed}"
    command = "fewer WEB_REPLICAS, WEB_WORKERS or WEB_THREADS, or POOLER=on, in .env; "
    command += "then ./deploy/rentomatic apply"
    if pooled:
        needed = 2 * pooled + 10
        text = f"{row['used']} of {row['most']} connections are used, the pooler needs {needed}"
        command = "a smaller POOLER_SIZE in .env, then ./deploy/rentomatic apply"
    if row["used"] > 0.9 * row["most"]:
        return error(text, f"{PSQL} -c 'SELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2'")
    return ok(text) if needed <= row["most"] else error(text, command)
