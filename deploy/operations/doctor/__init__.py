"""`doctor`: whether all is well, and what mends what is not."""

import argparse
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from deploy.operations import hosts, https, nodes, pitr, pooling
from deploy.operations.database import identifier
from deploy.operations.docker import Docker
from deploy.operations.doctor import (
    containers,
    files,
    host,
    point_in_time,
    pooler,
    replication,
    server,
    site,
    web_hosts,
)
from deploy.operations.doctor.facts import Facts
from deploy.operations.doctor.finding import ERROR, OK, SKIPPED, WARNING, Finding, error, ok, skipped
from deploy.operations.pitr import copying
from deploy.operations.pitr.archive import Archive
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

HELP = """\
Look whether all is well: the host, the containers, the certificate, the secrets, the database, the backups,
and the site as clients see it. Changes nothing.

Each check is ✓, or ✗ with its cause and the command that mends it or shows more; ! is a warning, and - a
check that could not be made. Exit status: 0 all is well, 1 warnings, 2 errors."""

MARKS = {OK: "✓", WARNING: "!", ERROR: "✗", SKIPPED: "-"}


@dataclass(frozen=True)
class Check:
    """A check by its name; `group` is what it looks at."""

    name: str
    group: str
    look: Callable[[Facts], Finding]
    before_rollout: bool = False
    """Whether a rollout is refused where it finds an error."""


def database_reachable(facts: Facts) -> Finding:
    if facts.project.managed:
        return ok("the database is a managed one; its provider looks after it")
    if facts.project.is_web_host:
        return ok("the database is the site's host's, which looks after it")
    if facts.database is None:
        return error(
            "the database does not answer", "docker compose up -d db; docker compose logs --tail 30 db"
        )
    if facts.is_closed:
        allow = f"ALTER DATABASE {identifier(facts.project.database)} ALLOW_CONNECTIONS true"
        return error(
            "the database lets nobody in, as where it died in the middle of a restore",
            f"{server.PSQL} -c {shlex.quote(allow)}",
        )
    return ok("the database answers")


def migrations(facts: Facts) -> Finding:
    reason = facts.reason_of_readiness
    if not reason:
        return ok("the schema is that of the version")
    command = (
        "docker compose run --rm migrate" if "pending" in reason else "docker compose logs --tail 20 web"
    )
    if "newer" in reason:
        command = "./deploy/rentomatic rollout the version that fits, or rollback"
    return error(reason.strip()[:300], hosts.next_step(facts.project, reason, command))


def connections(facts: Facts) -> Finding:
    setting = facts.project.setting
    workers, threads = int(setting("WEB_WORKERS", "2")), int(setting("WEB_THREADS", "4"))
    pooled = pooling.size(facts.project) if pooling.wanted(facts.project) else 0
    # As many replicas on each host.
    replicas = int(setting("WEB_REPLICAS", "2")) * (1 + len(hosts.web_hosts(facts.project)))
    return server.connections(facts.ask, replicas, workers, threads, pooled)


def versions(facts: Facts) -> Finding:
    found = facts.versions
    if facts.database and not facts.is_closed:
        found["PostgreSQL"] = server.version(facts.ask)
    return host.versions(found)


Look = Callable[[Facts], Finding]


def on_server(look: Look) -> Look:
    """A check that needs the database."""

    def check(facts: Facts) -> Finding:
        if facts.database is None or facts.is_closed:
            return skipped("not looked at: no database of ours answers")
        return look(facts)

    return check


def of_server(look: Callable[[server.Ask], Finding]) -> Look:
    return on_server(lambda facts: look(facts.ask))


def where(wanted: Callable[[Project], bool], otherwise: str) -> Callable[[Look], Look]:
    """A check of what a deployment has only where .env says so; without it, it is well."""

    def of(look: Look) -> Look:
        return lambda facts: look(facts) if wanted(facts.project) else ok(otherwise)

    return of


of_backups = where(lambda project: project.has_database, "backups are those of who has the database")
of_site = where(lambda project: not project.is_web_host, "the site's host looks after it (ROLE=web)")
of_nodes = where(nodes.wanted, "off: one server has the database (REPLICAS=on adds two that follow it)")
of_archive = where(pitr.wanted, "no WAL is kept (PITR=on)")
of_pooler = where(pooling.wanted, "off: each thread has its own connection (POOLER=on lets them share a few)")


@of_backups
def backups(facts: Facts) -> Finding:
    return files.backup_age(facts.project.deploy / "backups", facts.now)


def copies(facts: Facts) -> Finding:
    project = facts.project
    return files.copy_age(project.backup_to, project.notes("copy"), facts.now)


@of_backups
def drills(facts: Facts) -> Finding:
    return files.proof_age(facts.project.proofs(), facts.now)


@where(https.renews, "the certificate is one that you bring (HTTPS=acme renews one by itself)")
def renewal(facts: Facts) -> Finding:
    return files.renewal(facts.project.deploy / "letsencrypt" / "status", facts.now)


def slots(facts: Facts) -> Finding:
    ours = [pitr.SLOT] if pitr.wanted(facts.project) else []
    return server.slots(facts.ask, *ours, *(nodes.NODES if facts.project.automatic else []))


@where(pitr.wanted, "off: what is written after a backup is only here (PITR=on receives it as it is written)")
@on_server
def receiver(facts: Facts) -> Finding:
    return point_in_time.receiver(facts.ask)


@of_nodes
def primary(facts: Facts) -> Finding:
    return replication.one_primary(facts.nodes, facts.primary, automatic=facts.project.automatic)


@of_nodes
def followers(facts: Facts) -> Finding:
    return replication.followers(facts.nodes, int(facts.project.setting("REPLICA_MAX_LAG_BYTES", "64000000")))


of_patroni = where(
    lambda project: project.automatic,
    "off: `promote` makes another server the primary (REPLICAS=automatic does it by itself)",
)


@of_patroni
def etcd(facts: Facts) -> Finding:
    return replication.etcd(facts.etcd)


@of_patroni
def failover(facts: Facts) -> Finding:
    return replication.failover(facts.primary, paused=facts.is_paused)


@of_pooler
def pooler_settings(facts: Facts) -> Finding:
    return pooler.settings(facts.console, facts.project.primary, pooling.size(facts.project))


@where(
    lambda project: bool(project.setting("WEB_HOSTS")), "off: this host serves alone (WEB_HOSTS names others)"
)
def others(facts: Facts) -> Finding:
    return web_hosts.ready(facts.web_hosts, facts.own_answer)


@of_archive
def archive_copy(facts: Facts) -> Finding:
    every, last = copying.interval(facts.project), copying.last(facts.project)
    return point_in_time.copied(facts.project.backup_to, every, last, facts.now)


@of_archive
def archive(facts: Facts) -> Finding:
    hours = int(facts.project.setting("PITR_BASE_HOURS", "24"))
    return point_in_time.kept(Archive(facts.project), hours, facts.now)


CHECKS = (
    Check("disk", "host", lambda facts: host.disk(facts.folders), before_rollout=True),
    Check("inodes", "host", lambda facts: host.inodes(facts.folders), before_rollout=True),
    Check("memory", "host", lambda facts: host.memory(facts.meminfo), before_rollout=True),
    Check("clock", "host", lambda facts: host.clock(host.clock_state(), time.time(), facts.newest_time)),
    Check("versions", "host", versions),
    Check("dns", "host", lambda facts: host.dns(facts.host)),
    Check("ports", "host", lambda facts: host.ports(facts.published)),
    Check("running", "containers", lambda facts: containers.running(facts.containers, facts.services)),
    Check("restarts", "containers", lambda facts: containers.restart_loops(facts.containers, facts.now)),
    Check(
        "memory-kills",
        "containers",
        lambda facts: containers.memory_kills(facts.containers, facts.memory_kills),
    ),
    Check("health", "containers", lambda facts: containers.health(facts.containers)),
    Check("image", "containers", lambda facts: containers.image(facts.containers, facts.project.image)),
    Check("definitions", "containers", lambda facts: containers.definitions(facts.containers, facts.hashes)),
    Check("leftovers", "containers", lambda facts: containers.leftovers(facts.leftovers)),
    Check(
        "secrets",
        "files",
        lambda facts: files.secret_files(facts.project.secrets, facts.project.setting("RUN_AS")),
        before_rollout=True,
    ),
    Check(
        "certificate-chain", "files", of_site(lambda facts: files.certificate_pair(facts.chain, facts.key))
    ),
    Check(
        "certificate-host", "files", of_site(lambda facts: files.certificate_host(facts.chain, facts.host))
    ),
    Check("certificate-days", "files", of_site(lambda facts: files.certificate_days(facts.chain, facts.now))),
    Check("renewal", "files", renewal),
    Check("backup", "files", backups),
    Check("copy", "files", copies),
    Check("drill", "files", drills),
    Check("archive", "files", archive),
    Check("archive-copy", "files", archive_copy),
    Check("database", "database", database_reachable, before_rollout=True),
    Check("migrations", "database", migrations),
    Check("indexes", "database", of_server(server.invalid_indexes)),
    Check("wraparound", "database", of_server(server.wraparound)),
    Check("bloat", "database", of_server(server.bloat)),
    Check("statistics", "database", of_server(server.statistics)),
    Check("checksums", "database", of_server(server.checksums)),
    Check("slots", "database", on_server(slots)),
    Check("point-in-time", "database", receiver),
    Check("primary", "database", primary),
    Check("etcd", "database", etcd),
    Check("failover", "database", failover),
    Check("replicas", "database", followers),
    Check("replica-logins", "database", of_nodes(lambda facts: replication.logins(facts.login_errors))),
    Check("pooler", "database", pooler_settings),
    Check(
        "pooler-clients",
        "database",
        of_pooler(lambda facts: pooler.clients(facts.console, facts.project.database)),
    ),
    Check("pooler-login", "database", of_pooler(lambda facts: pooler.login(facts.pooler_login))),
    Check("wal", "database", of_server(server.write_ahead_log)),
    Check("locks", "database", of_server(server.locks), before_rollout=True),
    Check("transactions", "database", of_server(server.long_transactions)),
    Check("connections", "database", on_server(connections), before_rollout=True),
    Check("answer", "site", lambda facts: site.answer(facts.site)),
    Check(
        "cache",
        "site",
        of_site(
            lambda facts: site.cache(facts.site, facts.project.setting("NGINX_MICROCACHE", "on") == "on")
        ),
    ),
    Check("login", "site", lambda facts: site.login(facts.site, facts.is_under_maintenance)),
    Check("static-files", "site", lambda facts: site.static_files(facts.site)),
    Check(
        "map-file",
        "site",
        of_site(lambda facts: site.map_file(facts.site, facts.project.setting("MAP_PMTILES"))),
    ),
    Check("web-hosts", "site", others),
    Check(
        "certificate-served",
        "site",
        of_site(
            lambda facts: site.served_certificate(
                facts.site, facts.chain.read_text() if facts.chain.exists() else ""
            )
        ),
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checks",
        nargs="*",
        metavar="CHECK",
        help=f"only these: {', '.join(check.name for check in CHECKS)}",
    )


def run(options: argparse.Namespace, report: Report) -> int:
    unknown = sorted(set(options.checks) - {check.name for check in CHECKS})
    if unknown:
        raise Failure(
            f"there is no check {', '.join(unknown)}", "./deploy/rentomatic doctor --help", status=2
        )
    facts = Facts(Docker(Project()))
    chosen = [check for check in CHECKS if not options.checks or check.name in options.checks]
    findings = []
    for check in chosen:
        found = examine(check, facts)
        findings.append(found)
        report.say(f"{MARKS[found.level]} {check.name}: {found.text}")
        if found.command:
            report.say(f"    {found.command}")
    report.data["checks"] = [
        {
            "name": check.name,
            "group": check.group,
            "level": found.level,
            "text": found.text,
            "command": found.command,
        }
        for check, found in zip(chosen, findings, strict=True)
    ]
    levels = [found.level for found in findings]
    report.say(f"{len(levels)} checks: {levels.count(ERROR)} errors, {levels.count(WARNING)} warnings")
    return status(levels)


def status(levels: list[str]) -> int:
    if ERROR in levels:
        return 2
    return 1 if WARNING in levels else 0


def examine(check: Check, facts: Facts) -> Finding:
    """A check that fails itself, as where a file cannot be read, is an error with its words."""
    try:
        found = check.look(facts)
        # The commands are written for `db`; another server is the primary after a promotion.
        if "exec db " in found.command:
            command = found.command.replace("exec db ", f"exec {facts.primary} ")
            return replace(found, command=command)
        return found
    except (Failure, OSError, ValueError) as reason:
        return error(f"could not be looked at: {reason}", "docker compose ps --all")


def before_rollout(docker: Docker) -> None:
    """Failure where the host or the database are in a state in which a rollout would fail half way."""
    facts = Facts(docker)
    for check in CHECKS:
        if check.before_rollout:
            found = examine(check, facts)
            if found.level == ERROR:
                raise Failure(
                    f"{check.name}: {found.text}; nothing was done",
                    f"{found.command}; or ./deploy/rentomatic rollout --no-doctor",
                )
