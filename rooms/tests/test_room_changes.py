"""The history of changes on servers of its own: roles, dumps, restores, replicas, prepared transactions."""

import json
import subprocess
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster
from rooms.api import changes
from rooms.tests.api.mirror import Mirror

pytestmark = pytest.mark.django_db(transaction=True)

OWNER = "site_owner"
PATH = "/rooms/changes"
INSERT = "INSERT INTO room (code, price, latitude, longitude) VALUES (gen_random_uuid(), 1, 0, 0)"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A server whose database `site` belongs to a role without powers, which has migrated it."""
    with Cluster(tmp_path_factory.mktemp("cluster"), max_prepared_transactions="5") as server:
        create_site(server)
        variables = server.variables | {"POSTGRES_USER": OWNER, "APPLICATION_DB": "site"}
        rig.manage("migrate", "--verbosity", "0", **variables)
        yield server


@pytest.fixture(scope="module")
def younger(tmp_path_factory):
    """A server with an empty database `site`, whose transactions have lower ids than the other's."""
    with Cluster(tmp_path_factory.mktemp("younger")) as server:
        create_site(server)
        yield server


@pytest.fixture
def site(django_db_setup, cluster):
    with served(cluster):
        yield cluster


def create_site(server):
    with server.session() as cursor:
        cursor.execute(f"CREATE ROLE {OWNER} LOGIN")
        cursor.execute(f"CREATE DATABASE site OWNER {OWNER}")


@contextmanager
def served(server):
    """Requests of the tests' client use the database `site` of that server, as its owner."""
    usual = connection.settings_dict
    connection.close()
    connection.settings_dict = usual | {
        "HOST": "127.0.0.1",
        "PORT": server.port,
        "USER": OWNER,
        "NAME": "site",
    }
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = usual


def ask(path):
    response = Client().get(path)
    return response.status_code, b"".join(response).decode().splitlines()


def last_line():
    status, lines = ask(PATH)
    assert status == 200
    return json.loads(lines[-1])


def codes_after(cursor):
    status, lines = ask(f"{PATH}?after={cursor}")
    assert status == 200, lines
    return [json.loads(line)["code"] for line in lines[:-1]]


def refusal(cursor):
    status, lines = ask(f"{PATH}?after={cursor}")
    assert status == 410, lines
    return json.loads(lines[0])["message"]


def inserted(server, **session):
    with server.session(**{"dbname": "site", "user": OWNER} | session) as cursor:
        cursor.execute(f"{INSERT} RETURNING code::text")
        return cursor.fetchone()[0]


def table(server):
    with server.session(dbname="site", user=OWNER) as cursor:
        cursor.execute("SELECT code::text, price FROM room")
        return dict(cursor.fetchall())


def run(server, name, *arguments):
    command = [
        embedded_server.binary(name),
        "-h",
        "127.0.0.1",
        "-p",
        str(server.port),
        "-U",
        OWNER,
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def assert_followed(mirror, server):
    mirror.update()
    assert {code: room["price"] for code, room in mirror.rooms.items()} == table(server)


def test_a_role_without_powers_migrates_writes_and_reads(site):
    cursor = last_line()["cursor"]
    code = inserted(site)
    assert codes_after(cursor) == [code]
    assert last_line()["complete_to"]


def test_a_role_that_may_only_insert_rooms_is_recorded(site):
    with site.session(dbname="site", user="postgres") as cursor:
        cursor.execute("CREATE ROLE loader LOGIN; GRANT SELECT, INSERT ON room TO loader")
    position = last_line()["cursor"]
    with site.session(dbname="site", user="loader") as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE room_change (LIKE public.room)"
        )  # is not taken for the real one
        cursor.execute(f"{INSERT} RETURNING code::text")
        assert codes_after(position) == [cursor.fetchone()[0]]


def test_a_transaction_of_another_role_or_database_holds_back_without_its_time(site):
    with site.session(dbname="postgres", user="postgres") as slow:
        slow.execute("BEGIN; SELECT pg_current_xact_id()")
        position = last_line()
        code = inserted(site)
        assert codes_after(position["cursor"]) == []
        assert last_line()["complete_to"] is None
        slow.execute("ROLLBACK")
    assert codes_after(position["cursor"]) == [code]
    assert last_line()["complete_to"] is not None


def test_a_prepared_transaction_holds_back_until_it_ends(site):
    position = last_line()["cursor"]
    with site.session(dbname="site", user=OWNER) as cursor:
        cursor.execute(f"BEGIN; {INSERT} RETURNING code::text")
        prepared = cursor.fetchone()[0]
        cursor.execute("PREPARE TRANSACTION 'held'")
        later = inserted(site)
        assert codes_after(position) == []
        assert last_line()["complete_to"] is None
        cursor.execute("COMMIT PREPARED 'held'")
    assert codes_after(position) == [prepared, later]


def test_a_mirror_begins_again_on_a_dump_restored_in_another_cluster(site, younger, tmp_path):
    """The dump has changes whose transactions are of the future there."""
    with site.session(dbname="site", user=OWNER) as cursor:
        cursor.execute(
            "DO $$ BEGIN FOR n IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
        )
    inserted(site)
    mirror = Mirror(ask)
    mirror.update()
    run(site, "pg_dump", "--format", "custom", "--file", str(tmp_path / "dump"), "site")
    restore = ("--no-owner", "--no-acl", "--exit-on-error", "--single-transaction", str(tmp_path / "dump"))
    run(younger, "pg_restore", "--dbname", "site", *restore)
    with served(younger):
        assert refusal(mirror.cursor).startswith(changes.ANOTHER_HISTORY)
        assert_followed(mirror, younger)
        position = mirror.cursor
        code = inserted(younger)
        with younger.session(dbname="site", user=OWNER) as cursor:
            cursor.execute(
                "DO $$ BEGIN FOR n IN 1..9000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
            )
        # None of the dump's changes comes, though their transactions' ids are reached.
        assert codes_after(position) == [code]
        assert_followed(mirror, younger)
        assert mirror.copies == 2


def test_a_mirror_begins_again_after_a_restore_over_the_same_database(site, tmp_path):
    run(site, "pg_dump", "--format", "custom", "--file", str(tmp_path / "dump"), "site")
    inserted(site)
    mirror = Mirror(ask)
    mirror.update()
    run(site, "pg_restore", "--dbname", "site", "--clean", "--exit-on-error", str(tmp_path / "dump"))
    assert refusal(mirror.cursor).startswith(changes.ANOTHER_HISTORY)
    inserted(site)
    assert_followed(mirror, site)


def test_a_mirror_follows_data_that_is_restored_into_the_table(site, tmp_path):
    """pg_restore empties the search path, and the triggers fire."""
    inserted(site)
    run(site, "pg_dump", "--format", "custom", "--table", "room", "--file", str(tmp_path / "dump"), "site")
    mirror = Mirror(ask)
    mirror.update()
    with site.session(dbname="site", user=OWNER) as cursor:
        cursor.execute("DELETE FROM room")
    assert_followed(mirror, site)
    run(site, "pg_restore", "--dbname", "site", "--data-only", "--exit-on-error", str(tmp_path / "dump"))
    assert_followed(mirror, site)
    assert (mirror.copies, bool(mirror.rooms)) == (1, True)


def test_a_standby_serves_the_feed_and_its_promotion_begins_another_history(site):
    code = None
    position = last_line()["cursor"]
    code = inserted(site)
    connection.close()
    site.stop()
    (site.data / "standby.signal").touch()
    site.start()
    assert codes_after(position) == [code]
    with site.session() as cursor:
        cursor.execute("SELECT pg_promote()")
    connection.close()
    assert refusal(position).startswith(changes.ANOTHER_HISTORY)
    mirror = Mirror(ask)
    mirror.update()
    inserted(site)
    assert_followed(mirror, site)
