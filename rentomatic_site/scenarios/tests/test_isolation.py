"""While a scenario runs, whatever its code starts is on the scenario's database, not on the application's."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import psycopg2
import pytest
from django.conf import settings

from rentomatic_site import postgres
from rentomatic_site.scenarios import ancestors, isolation
from rentomatic_site.scenarios.tests.workshop import Workshop

APPLICATION = "t_isolation"
CREATOR = "t_isolation_creator"

THREADS = """
    import threading
    from rooms.seeding import room

    def run():
        threads = [threading.Thread(target=room, kwargs={"price": price}) for price in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
"""
THREADS_LEFT_RUNNING = """
    import threading, time
    from rooms.seeding import room

    def slowly(price):
        time.sleep(0.5)
        room(price=price)

    def run():
        for price in (1, 2, 3):
            threading.Thread(target=slowly, args=[price]).start()
"""
THREAD_POOL = """
    from concurrent.futures import ThreadPoolExecutor
    from rooms.seeding import room

    def run():
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda price: room(price=price), (1, 2, 3)))
"""
IDLE_THREAD_POOL = """
    from concurrent.futures import ThreadPoolExecutor
    from rooms.seeding import room
    from rooms.models import Room

    pool = ThreadPoolExecutor(1)

    def run():
        list(pool.map(lambda price: room(price=price), (1, 2, 3)))

    def check(client):
        assert pool.submit(Room.objects.count).result() == 3
"""
CLOSED_CONNECTIONS = """
    import threading
    from django.db import connections
    from rooms.seeding import room

    def store():
        for price in (1, 2, 3):
            room(price=price)
            connections.close_all()

    def run():
        thread = threading.Thread(target=store)
        thread.start()
        thread.join()
"""
MULTIPROCESSING = """
    from multiprocessing import get_context
    from django.db import connections
    from rooms.seeding import room
    from rooms.models import Room

    def store(price):
        room(price=price, code=f"{price:032x}")  # forked processes draw the same chance
        connections.close_all()

    def run():
        assert Room.objects.count() == 0
        with get_context("fork").Pool(2) as pool:
            pool.map(store, (1, 2, 3))
        assert Room.objects.count() == 3
"""
SUBPROCESS = """
    import subprocess

    CSV = "code,size,price,latitude,longitude\\n" + "".join(
        f"00000000-0000-4000-8000-00000000000{n},20,{n},51.5,-0.1\\n" for n in (1, 2, 3)
    )

    def run():
        subprocess.run(["./manage.py", "import_rooms", "-"], input=CSV, text=True, check=True)
"""
SUBPROCESS_WITHOUT_VARIABLES = """
    import os, subprocess

    CSV = "code,size,price,latitude,longitude\\n" + "".join(
        f"00000000-0000-4000-8000-00000000000{n},20,{n},51.5,-0.1\\n" for n in (1, 2, 3)
    )
    ENV = {name: value for name, value in os.environ.items() if not name.startswith("SCENARIO")}

    def run():
        # A shell that waits for it is between the two.
        command = ["sh", "-c", "./manage.py import_rooms - && true"]
        subprocess.run(command, input=CSV, text=True, check=True, env=ENV)
"""
ASYNC = """
    import asyncio
    from rooms.models import Room

    async def store():
        for price in (1, 2, 3):
            await Room.objects.acreate(price=price, latitude=51.5, longitude=-0.1, code=f"{price:032x}")

    def run():
        asyncio.run(store())
"""
WAYS = {
    "threads": THREADS,
    "threads that run() does not wait for": THREADS_LEFT_RUNNING,
    "thread pool": THREAD_POOL,
    "thread pool that outlives run()": IDLE_THREAD_POOL,
    "connections.close_all()": CLOSED_CONNECTIONS,
    "multiprocessing": MULTIPROCESSING,
    "subprocess": SUBPROCESS,
    "subprocess that inherits no variable": SUBPROCESS_WITHOUT_VARIABLES,
    "async": ASYNC,
}


@pytest.fixture(scope="module", params=["superuser", "role with CREATEDB only"])
def server_env(
    request: pytest.FixtureRequest, manage: Callable, django_db_setup: None
) -> Iterator[dict[str, str | None]]:
    """The variables of a migrated application's database that its role owns, on the tests' server."""
    role = settings.POSTGRES["user"] if request.param == "superuser" else CREATOR
    env = {
        "DATABASE_URL": None,
        "POSTGRES_HOSTNAME": str(settings.POSTGRES["host"]),
        "POSTGRES_PORT": str(settings.POSTGRES["port"]),
        "POSTGRES_USER": role,
        "POSTGRES_PASSWORD": settings.POSTGRES["password"],
        "APPLICATION_DB": APPLICATION,
    }
    with postgres.session() as server:
        if role == CREATOR:
            server.execute(f"CREATE ROLE {CREATOR} LOGIN CREATEDB PASSWORD %s", [env["POSTGRES_PASSWORD"]])
        postgres.create_database(server, APPLICATION, owner=role)
        migrated = manage("migrate", "-v0", env=env)
        assert migrated.returncode == 0, migrated.stderr
        yield env
        postgres.drop_database(server, APPLICATION)
        if role == CREATOR:
            server.execute(f"SELECT datname FROM pg_database WHERE datdba = '{CREATOR}'::regrole")
            for (name,) in server.fetchall():
                postgres.drop_database(server, name)
            server.execute(f"DROP OWNED BY {CREATOR}; DROP ROLE {CREATOR}")


def rooms_of_the_application() -> int:
    with postgres.session(APPLICATION) as session:
        session.execute("SELECT count(*) FROM room")
        return session.fetchone()[0]


@pytest.mark.parametrize("way", WAYS)
def test_what_run_starts_stores_into_the_scenario(
    workshop: Workshop, server_env: dict[str, str | None], way: str
) -> None:
    workshop.write("t_ways", WAYS[way])
    done = workshop.manage("load_scenario", "t_ways", **server_env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 3 rooms, " in done.stdout
    assert sorted(workshop.prices("t_ways")) == [1, 2, 3]
    assert rooms_of_the_application() == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_check_starts_stores_into_the_scenario(
    workshop: Workshop, server_env: dict[str, str | None], way: str
) -> None:
    if "check" in WAYS[way]:
        pytest.skip("it has both functions")
    workshop.write("t_ways", WAYS[way].replace("def run():", "def check(client):") + "\n    def run(): pass")
    done = workshop.manage("load_scenario", "t_ways", **server_env)
    assert done.returncode == 0, done.stdout + done.stderr
    if way != "threads that run() does not wait for":  # check() is over before they begin
        assert sorted(workshop.prices("t_ways")) == [1, 2, 3]
    assert rooms_of_the_application() == 0


# --- The application's database is closed


OPENINGS = """
    import os, psycopg2, tempfile
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing import get_context
    from urllib.parse import urlencode
    from django.conf import settings
    from django.db import connections
    from psycopg2.extensions import make_dsn
    from psycopg2.extras import LoggingConnection
    from psycopg2.pool import SimpleConnectionPool
    from rentomatic_site import postgres
    from rentomatic_site.scenarios.isolation import environment

    SERVER, NAME = settings.POSTGRES, settings.APPLICATION_DB
    APPLICATION = SERVER | {"dbname": NAME}
    ready = connections["default"].copy()
    ready.settings_dict["NAME"] = NAME
    services = tempfile.NamedTemporaryFile("w")
    services.write("[rooms]\\n" + "".join(f"{key}={value}\\n" for key, value in APPLICATION.items()))
    services.flush()

    def default(*args, variables, **kwargs):
        with environment(**variables):
            psycopg2.connect(*args, **kwargs)

    def in_thread():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(psycopg2.connect, **APPLICATION).result()

    def in_fork():
        with get_context("fork").Pool(1) as pool:
            pool.apply(psycopg2.connect, (), APPLICATION)

    OPENINGS = {
        "postgres.connect": lambda: postgres.connect(NAME),
        "Django": lambda: type(ready)(settings.DATABASES["default"] | {"NAME": NAME}).connect(),
        "a copy of Django's": lambda: ready.copy().connect(),
        "keywords": lambda: psycopg2.connect(**APPLICATION),
        "a DSN": lambda: psycopg2.connect(make_dsn(**APPLICATION)),
        "a URL": lambda: psycopg2.connect("postgresql:///?" + urlencode(APPLICATION)),
        "PGDATABASE": lambda: default(
            **{key: value for key, value in SERVER.items() if key != "dbname"}, variables={"PGDATABASE": NAME}
        ),
        "a service": lambda: default(service="rooms", variables={"PGSERVICEFILE": services.name}),
        "PGSERVICE": lambda: default("", variables={"PGSERVICEFILE": services.name, "PGSERVICE": "rooms"}),
        "a pool": lambda: SimpleConnectionPool(1, 1, **APPLICATION),
        "a class": lambda: psycopg2.connect(**APPLICATION, connection_factory=LoggingConnection),
        "an asynchronous one": lambda: psycopg2.connect(**APPLICATION, async_=True),
        "a thread": in_thread,
        "a fork": in_fork,
    }

    def open_all():
        psycopg2.connect(**SERVER).close()
        psycopg2.connect(postgres.url()).close()
        for name, opening in OPENINGS.items():
            try:
                opening()
            except Exception as error:
                print(name, "is refused" if "is closed to a scenario's code" in str(error) else repr(error))
            else:
                print(name, "is open")
"""


@pytest.mark.parametrize("functions", [("run()", "check(client)"), ("check(client)", "run()")])
def test_the_applications_database_cannot_be_opened_and_others_can(
    workshop: Workshop, server_env: dict[str, str | None], functions: tuple[str, str]
) -> None:
    used, other = functions
    workshop.write("t_opens", f"{OPENINGS}\n    def {used}: open_all()\n    def {other}: pass")
    done = workshop.manage("load_scenario", "t_opens", **server_env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PGSERVICE is refused" in done.stdout
    assert not [line for line in done.stdout.splitlines() if " is open" in line or "rror" in line]


@pytest.mark.parametrize(
    "variables", ["os.environ", "{name: os.environ[name] for name in os.environ.keys() - {'SCENARIO'}}"]
)
def test_the_applications_database_cannot_be_opened_in_a_child(
    workshop: Workshop, server_env: dict[str, str | None], variables: str
) -> None:
    workshop.write(
        "t_opens",
        f"""
        import os, subprocess

        IN_A_CHILD = (
            "import psycopg2; from django.conf import settings;"
            "psycopg2.connect(**settings.POSTGRES | dict(dbname=settings.APPLICATION_DB))"
        )

        def run():
            subprocess.run(["./manage.py", "shell", "-v0", "-c", IN_A_CHILD], check=True, env={variables})
        """,
    )
    done = workshop.manage("load_scenario", "t_opens", **server_env)
    assert done.returncode == 1
    assert "is closed to a scenario's code and to what it starts" in done.stderr


def test_the_applications_database_is_open_again_after_a_load(workshop: Workshop) -> None:
    workshop.write("t_nothing", "def run():\n    pass\n")
    workshop.load("t_nothing")
    psycopg2.connect(postgres.url()).close()
    assert ancestors.scenario_of_ancestors() == ""


def test_an_open_connection_of_a_thread_leads_to_the_scenario(
    workshop: Workshop, manage: Callable, site_env: dict[str, str]
) -> None:
    from django.db import connection, connections

    workshop.write("t_nothing", "def run():\n    pass\n")
    workshop.load("t_nothing")
    usual = connection.settings_dict["NAME"]

    def database() -> str:
        with connection.cursor() as session:
            session.execute("SELECT current_database()")
            return session.fetchone()[0]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(database).result() == usual
        with isolation.django_on("scenario_t_nothing"):
            assert pool.submit(database).result() == "scenario_t_nothing"
        assert pool.submit(database).result() == usual
        pool.submit(connections.close_all).result()


def test_a_thread_that_a_scenario_leaves_behind_gets_no_connection(workshop: Workshop) -> None:
    from django.db import OperationalError, connection

    workshop.write("t_nothing", "def run():\n    pass\n")
    workshop.load("t_nothing")
    opened, over, errors = Event(), Event(), []

    def late() -> None:
        connection.ensure_connection()
        opened.set()
        over.wait(20)
        try:
            connection.ensure_connection()
        except OperationalError as error:
            errors.append(str(error))

    with isolation.django_on("scenario_t_nothing"):
        thread = Thread(target=late, daemon=True)
        thread.start()
        assert opened.wait(20)
    over.set()
    thread.join(20)
    assert len(errors) == 1
    assert "The scenario that started this thread has ended" in errors[0]


def test_the_environment_is_as_before_after_a_load(workshop: Workshop) -> None:
    workshop.write("t_nothing", "def run():\n    pass\n")
    before = dict(os.environ)
    workshop.load("t_nothing")
    assert dict(os.environ) == before


def test_a_thread_that_fails_fails_the_scenario(workshop: Workshop) -> None:
    workshop.write(
        "t_fails",
        """
        import threading
        from rooms.seeding import room

        def run():
            threading.Thread(target=room, kwargs={"price": -5}).start()
        """,
    )
    done = workshop.load("t_fails")
    assert done.returncode == 1
    assert "room_price_range" in done.stderr
    assert "marked incomplete" in done.stderr


def test_a_scenario_that_loads_another_is_told_to_import_it(workshop: Workshop) -> None:
    workshop.write("t_nothing", "def run():\n    pass\n")
    workshop.write(
        "t_nested",
        """
        from django.core.management import call_command

        def run():
            call_command("load_scenario", "t_nothing")
        """,
    )
    done = workshop.load("t_nested")
    assert done.returncode == 1
    assert "Next: import that scenario and call its run()." in done.stderr
