"""While a scenario runs, whatever its code starts is on the scenario's database, not on the application's."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest
from django.conf import settings

from rentomatic_site import postgres
from rentomatic_site.scenarios import isolation
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

REFUSED = "is closed to a scenario's code and to what it starts"


@pytest.mark.parametrize(
    "opening",
    [
        "postgres.connect(settings.APPLICATION_DB)",
        "type(ready)(settings.DATABASES['default'] | {'NAME': settings.APPLICATION_DB}).connect()",
        "subprocess.run(['./manage.py', 'shell', '-v0', '-c', IN_A_CHILD], check=True)",
        "ready.copy().connect()",
    ],
)
def test_the_applications_database_cannot_be_opened_in_run(
    workshop: Workshop, server_env: dict[str, str | None], opening: str
) -> None:
    workshop.write(
        "t_opens",
        f"""
        import subprocess
        from django.conf import settings
        from django.db import connections
        from rentomatic_site import postgres

        IN_A_CHILD = (
            "from django.conf import settings; from rentomatic_site import postgres;"
            "postgres.connect(settings.APPLICATION_DB)"
        )
        ready = connections["default"].copy()
        ready.settings_dict["NAME"] = settings.APPLICATION_DB

        def run():
            {opening}
        """,
    )
    done = workshop.manage("load_scenario", "t_opens", **server_env)
    assert done.returncode == 1
    assert REFUSED in done.stderr


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
