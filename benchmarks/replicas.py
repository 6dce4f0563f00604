"""
What replicas do: `python -m benchmarks.replicas`, or `make bench ARGS=--replicas`.

On a primary and two replicas of the run's own, which share this machine's cores with the site and the load:

- the throughput of the first page with none, one and two replicas, in rounds A B C, A B C, …;
- how late a replica shows a commit, one after the other, and while an import runs;
- how often staff who have just saved a room see its former price, where replicas are two seconds late;
- how long writes stop when the primary is killed and a replica is promoted, as a histogram.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
import psycopg2

from benchmarks.stopping import stoppable

BOSS = {"DJANGO_SUPERUSER_USERNAME": "boss", "DJANGO_SUPERUSER_PASSWORD": "boss-of-rooms"}
ROOMS = """
INSERT INTO room (code, size, price, latitude, longitude)
SELECT md5(n::text)::uuid, 5 + n %% 300, 20 + n %% 900, 51 + (n %% 1000) / 1000.0, -1 + (n %% 1999) / 1000.0
FROM generate_series(%s::int, %s::int) AS n
"""
DELAY = "2s"
STEPS = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0]
"""Upper bounds of the histogram, in seconds."""


@stoppable
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replicas", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--rooms", type=int, default=100_000, help="in the table (default: %(default)s)")
    parser.add_argument(
        "--pairs", type=int, help="saved rooms that are read at once (default: 10000, quick: 100)"
    )
    parser.add_argument("--failovers", type=int, help="primaries that are killed (default: 20, quick: 3)")
    chosen = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    django.setup()
    from benchmarks import load, machine, report
    from benchmarks.__main__ import report_progress

    quick = chosen.quick
    try:
        sys.stdout.write(f"{machine.description()}\n\n")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            report_progress(f"a primary with {chosen.rooms:,} rooms, and two replicas")
            servers = Servers(folder, stack, chosen.rooms)
            report_progress("throughput")
            rows = throughput(servers, *((3, 0.5) if quick else (7, 2.0)))
            sys.stdout.write(f"{report.markdown(rows)}\n\n")
            report_progress("lag")
            sys.stdout.write(f"{report.markdown(lag(servers, 200 if quick else 2_000))}\n\n")
            pairs = chosen.pairs or (100 if quick else 10_000)
            report_progress(f"{pairs:,} rooms that are saved and read")
            stale = staleness(servers, pairs)
            sys.stdout.write(f"Of {pairs:,} rooms that were saved and read, with replicas {DELAY} late, ")
            sys.stdout.write(f"{stale} were stale.\n\n")
        times = []
        for number in range(1, (chosen.failovers or (3 if quick else 20)) + 1):
            report_progress(f"failover {number}")
            times.append(failover())
        sys.stdout.write(f"{report.markdown(histogram(times))}\n")
    except (load.LoadError, psycopg2.Error, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


class Servers:
    """A primary with rooms, and two replicas."""

    def __init__(self, folder: Path, stack: ExitStack, rooms: int) -> None:
        from rentomatic_site.testing import rig
        from rentomatic_site.testing.cluster import Cluster

        def cluster(name: str, primary: Any = None) -> Any:
            (folder / name).mkdir()
            return stack.enter_context(Cluster(folder / name, primary, shared_buffers="256MB"))

        self.folder, self.stack = folder, stack
        self.primary = cluster("primary")
        rig.manage("migrate", "--verbosity", "0", **self.primary.variables)
        rig.manage("createsuperuser", "--noinput", "--email=b@example.com", **self.primary.variables, **BOSS)
        with self.primary.session() as cursor:
            cursor.execute(ROOMS, [1, rooms])
            cursor.execute("VACUUM ANALYZE room")
        self.rooms = rooms
        self.replicas = [cluster(f"replica{number}", self.primary) for number in (1, 2)]
        self.static = str(folder / "static")
        rig.manage("collectstatic", "--noinput", STATIC_ROOT=self.static, **self.primary.variables)

    def site(self, stack: ExitStack, replicas: int) -> Any:
        """gunicorn that reads from so many replicas."""
        from rentomatic_site.testing import rig

        urls = [f"postgres://127.0.0.1:{replica.port}" for replica in self.replicas[:replicas]]
        variables = {
            "DATABASE_REPLICA_URLS": ",".join(urls),
            "SECOND_FACTOR": "optional",
            "ACCESS_LOG": "off",
        }
        variables |= {"STATIC_ROOT": self.static, "REPLICA_MAX_LAG": "60"}
        folder = self.folder / f"site{replicas}-{time.monotonic_ns()}"
        folder.mkdir()
        return stack.enter_context(rig.Gunicorn(folder, **self.primary.variables, **variables))


def throughput(servers: Servers, rounds: int, seconds: float) -> list[list[str]]:
    """Medians of requests per second by the number of replicas."""
    from benchmarks import load

    with ExitStack() as stack:
        sites = [servers.site(stack, replicas) for replicas in (0, 1, 2)]
        rates: list[list[float]] = [[], [], []]
        for _ in range(rounds + 1):
            for site, found in zip(sites, rates, strict=True):
                found.append(load.load_test(f"{site.url}/rooms.json", seconds, load.generator()).per_second)
    medians = [statistics.median(found[1:]) for found in rates]  # without the round that warms up
    rows = [["replicas", "requests per second", "÷ none"]]
    for replicas, rate in enumerate(medians):
        rows.append([str(replicas), f"{rate:,.0f}", f"{rate / medians[0]:.2f}"])
    return rows


def lag(servers: Servers, commits: int) -> list[list[str]]:
    """How late a replica shows commits, in ms; and how far it is behind during an import."""
    replica = servers.replicas[0]
    times = []
    with servers.primary.session() as writer, replica.session() as reader:

        def wait_for_replay() -> float:
            writer.execute("SELECT pg_current_wal_flush_lsn()")
            ((place,),) = writer.fetchall()
            began = time.perf_counter()
            while True:
                reader.execute("SELECT pg_last_wal_replay_lsn() >= %s", [place])
                if reader.fetchone() == (True,):
                    return time.perf_counter() - began

        for number in range(commits):
            writer.execute("UPDATE room SET price = price + 1 WHERE id = %s", [number % servers.rooms + 1])
            times.append(wait_for_replay() * 1e3)
        behind, over = [0], threading.Event()
        watched = threading.Thread(target=watch, args=(servers, behind, over))
        watched.start()
        writer.execute(ROOMS, [servers.rooms + 1, servers.rooms * 2])
        afterwards = wait_for_replay()
        over.set()
        watched.join()
        writer.execute("DELETE FROM room WHERE id > %s", [servers.rooms])
        writer.execute("VACUUM room")
        wait_for_replay()
    centiles = statistics.quantiles(times, n=100)
    return [
        ["a commit is shown by a replica after", ""],
        ["median", f"{statistics.median(times):.1f} ms"],
        ["99 %", f"{centiles[98]:.1f} ms"],
        ["at most", f"{max(times):.1f} ms"],
        [f"an import of {servers.rooms:,} rooms, when it has ended", f"{afterwards * 1e3:,.0f} ms"],
        ["behind while it ran, at most", f"{max(behind) / 1e6:,.1f} MB of WAL"],
    ]


def watch(servers: Servers, behind: list[int], over: threading.Event) -> None:
    """Note how many bytes the first replica is behind, until `over`."""
    with servers.primary.session() as primary, servers.replicas[0].session() as replica:
        while not over.wait(0.02):
            primary.execute("SELECT pg_current_wal_flush_lsn()")
            ((place,),) = primary.fetchall()
            replica.execute("SELECT greatest(%s - pg_last_wal_replay_lsn(), 0)", [place])
            behind.append(int(replica.fetchone()[0]))


def staleness(servers: Servers, pairs: int) -> int:
    """How many of the rooms that staff have saved were read with their former price."""
    from rentomatic_site.testing.browser import Browser

    for replica in servers.replicas:
        with replica.session() as cursor:
            cursor.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{DELAY}'")
            cursor.execute("SELECT pg_reload_conf()")
    stale = 0
    with ExitStack() as stack:
        boss = Browser(servers.site(stack, 2))
        boss.login("boss", "boss-of-rooms")
        path = "/admin/rooms/room/1/change/"
        names = ("csrfmiddlewaretoken", "loaded_version", "code", "size", "latitude", "longitude")
        fields = boss.fields(path, *names)
        token = fields.pop("csrfmiddlewaretoken")
        version = int(fields.pop("loaded_version"))
        for number in range(pairs):
            price = str(100 + number % 800)
            saved = boss.post(
                path, token, loaded_version=str(version + number), price=price, _save="Save", **fields
            )
            assert saved.status == 302, saved.body
            stale += f'"price":{price},' not in boss.ask(f"/rooms/{fields['code']}").body.decode().replace(
                " ", ""
            )
    return stale


def failover() -> float:
    """Seconds from the kill of a primary to the first write on the replica that is promoted."""
    from rentomatic_site.testing.cluster import Cluster

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folders = [Path(name, role) for role in ("primary", "replica")]
        for folder in folders:
            folder.mkdir()
        primary = stack.enter_context(Cluster(folders[0]))
        with primary.session() as cursor:
            cursor.execute("CREATE TABLE written (at timestamptz)")
        # A replica that has just lost its primary looks for it after 5 s, and for a promotion no sooner.
        replica = stack.enter_context(Cluster(folders[1], primary, wal_retrieve_retry_interval="200ms"))
        hosts = {"host": "127.0.0.1,127.0.0.1", "port": f"{primary.port},{replica.port}"}
        began = time.perf_counter()
        primary.process.kill()
        with replica.session() as cursor:
            cursor.execute("SELECT pg_promote()")
        writer = psycopg2.connect(**replica.parameters | hosts, target_session_attrs="read-write")
        with writer, writer.cursor() as cursor:
            cursor.execute("INSERT INTO written VALUES (now())")
        writer.close()
        return time.perf_counter() - began


def histogram(times: list[float]) -> list[list[str]]:
    rows = [["from the kill to the first write, s", "failovers", ""]]
    lower = 0.0
    for upper in [*STEPS, float("inf")]:
        number = sum(lower < taken <= upper for taken in times)
        rows.append(
            [
                f"{lower:g} to {upper:g}" if upper < float("inf") else f"over {lower:g}",
                str(number),
                "#" * number,
            ]
        )
        lower = upper
    return rows


if __name__ == "__main__":
    sys.exit(main())
