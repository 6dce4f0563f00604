"""/rooms/changes: what a response has, in which order, and when a mirror has to begin again."""

import json
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from rentomatic_site import postgres
from rentomatic_site.testing.database import wait_for_other_databases
from rooms.api import changes, exports
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.api.mirror import Mirror
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/rooms/changes"


@pytest.fixture
def ask(client):
    """`ask(path)`: the status and the lines of a response."""

    def run(path):
        with connection.cursor() as cursor:
            wait_for_other_databases(cursor)
        response = client.get(path)
        return response.status_code, b"".join(response).decode().splitlines()

    return run


@pytest.fixture
def read(ask):
    """`read(cursor)`: the lines after it as objects, without the last one, and the cursor of the last one."""

    def run(cursor=""):
        status, lines = ask(f"{PATH}?after={cursor}" if cursor else PATH)
        assert status == 200, lines
        *found, last = map(json.loads, lines)
        return found, last["cursor"]

    return run


@contextmanager
def another_session():
    with postgres.session(connection.settings_dict["NAME"]) as cursor:
        yield cursor


def execute(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else None


def add_room(cursor):
    """Add a room in another session; its code."""
    cursor.execute(
        "INSERT INTO room (code, price, latitude, longitude) VALUES (gen_random_uuid(), 1, 0, 0)"
        " RETURNING code::text"
    )
    return cursor.fetchone()[0]


def codes(lines):
    return [line["code"] for line in lines]


def present(room):
    """The line of a room as it is now."""
    room.refresh_from_db()
    return {
        "code": str(room.code),
        "size": room.size,
        "price": room.price,
        "latitude": room.latitude,
        "longitude": room.longitude,
    }


def assert_gone(ask, cursor, message):
    status, lines = ask(f"{PATH}?after={cursor}")
    problem = json.loads(lines[0])
    assert (status, problem["type"], problem["title"]) == (410, "ResourceError", "Gone")
    assert problem["message"].startswith(message)
    assert problem["message"].endswith("read all rooms without `after`.")
    assert problem["try"] == PATH


# --- What a response has


def test_without_parameters_all_rooms_come_and_then_a_cursor(read):
    rooms = [RoomFactory(), RoomFactory(size=None)]
    found, cursor = read()
    assert found == [present(room) for room in rooms]
    assert read(cursor)[0] == []


def test_without_rooms_there_is_only_the_cursor(read):
    found, cursor = read()
    assert found == []
    RoomFactory()
    assert len(read(cursor)[0]) == 1


def test_additions_changes_and_deletions_follow_in_their_order(read):
    changed, deleted = RoomFactory(), RoomFactory()
    cursor = read()[1]
    added = RoomFactory()
    Room.objects.filter(pk=changed.pk).update(price=77)
    deleted.delete()
    found, cursor = read(cursor)
    gone = {"code": str(deleted.code), "deleted": True}
    assert found == [present(added), present(changed), gone]
    assert read(cursor)[0] == []


def test_a_room_that_changed_twice_comes_twice_as_it_is_now(read):
    room = RoomFactory()
    cursor = read()[1]
    for price in (1, 2):
        Room.objects.update(price=price)
    assert read(cursor)[0] == [present(room)] * 2


def test_a_cursor_gives_the_same_changes_again(read):
    cursor = read()[1]
    RoomFactory()
    assert read(cursor)[0] == read(cursor)[0] != []


def test_a_new_code_deletes_the_former_one(read):
    room = RoomFactory()
    cursor, former = read()[1], str(room.code)
    Room.objects.update(code=uuid.UUID(int=5))
    found = read(cursor)[0]
    assert {"code": former, "deleted": True} in found
    assert present(room) in found
    assert len(found) == 2


def test_rolled_back_changes_are_not_in_the_feed(read):
    cursor = read()[1]
    with transaction.atomic():
        kept = RoomFactory()
        with transaction.atomic():
            RoomFactory()
            transaction.set_rollback(True)
    with transaction.atomic():
        RoomFactory()
        transaction.set_rollback(True)
    assert read(cursor)[0] == [present(kept)]


def test_a_statement_that_changes_no_row_writes_nothing(read):
    cursor, before = read()[1], kept()
    Room.objects.filter(price=-5).update(price=1)
    Room.objects.filter(price=-5).delete()
    assert kept() == before
    assert read(cursor)[0] == []


def test_changes_follow_the_transactions_numerically(read):
    """As text, transaction 1000 would come before 999."""
    cursor = read()[1]
    expected = []
    for number in range(0, 1200, 100):
        code = str(uuid.UUID(int=number))
        expected.append(code)
        execute(
            "INSERT INTO room_change (history, xid, oldest, changed_at, code) SELECT room_change_history(),"
            " (txid_current() + %s)::text::xid8, '1', now(), %s",
            number * 100,
            code,
        )
    state = changes.State.read()
    position = changes.Position.parse(cursor)
    found = execute(changes.LINES, state.history, str(position.xid), 0, str(10**9))
    assert [json.loads(line)["code"] for line, *_ in found] == expected


# --- Transactions that commit out of order


def test_nothing_is_read_above_the_oldest_running_transaction(read):
    cursor = read()[1]
    with another_session() as slow:
        slow.execute("BEGIN")
        slow_code = add_room(slow)
        quick = RoomFactory()
        found, held = read(cursor)
        assert found == []
        slow.execute("COMMIT")
    assert codes(read(held)[0]) == [slow_code, str(quick.code)]


def test_a_savepoints_changes_have_the_outer_transactions_place(read):
    """A savepoint has a later id of its own, by which its changes would come behind others'."""
    cursor = read()[1]
    with another_session() as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_current_xact_id()")
        between = RoomFactory()
        other.execute("SAVEPOINT inner_one")
        inner = add_room(other)
        other.execute("RELEASE inner_one")
        assert read(cursor)[0] == []
        other.execute("COMMIT")
    assert codes(read(cursor)[0]) == [inner, str(between.code)]


def test_a_snapshot_without_writes_holds_nothing_back(read):
    """Such as pg_dump's."""
    cursor = read()[1]
    with another_session() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM room")
        room = RoomFactory()
        assert read(cursor)[0] == [present(room)]
        reader.execute("ROLLBACK")


def test_complete_to_is_when_the_oldest_running_transaction_began(ask):
    def complete_to():
        return datetime.fromisoformat(json.loads(ask(PATH)[1][-1])["complete_to"])

    def now():
        return execute("SELECT clock_timestamp()")[0][0]

    before = now()
    assert before <= complete_to() <= now()
    with another_session() as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT now(), pg_current_xact_id()")
        began = slow.fetchone()[0]
        RoomFactory()
        assert complete_to() == began
        slow.execute("ROLLBACK")
    assert complete_to() > began


def test_a_copy_begins_where_its_transactions_were_still_running(read):
    with another_session() as slow:
        slow.execute("BEGIN")
        add_room(slow)
        found, cursor = read()
        assert found == []
        slow.execute("COMMIT")
    assert len(read(cursor)[0]) == 1


# --- Many changes


def test_many_changes_are_streamed_with_a_cursor_every_few_thousand_lines(client, read, ask):
    cursor = read()[1]
    insert_rooms(5_000)
    response = client.get(f"{PATH}?after={cursor}")
    assert response.streaming
    assert response.headers["X-Accel-Buffering"] == "no"
    lines = [json.loads(line) for line in b"".join(response).decode().splitlines()]
    assert [number for number, line in enumerate(lines) if "cursor" in line] == [2000, 4001, 5002]
    assert len({line["code"] for line in lines if "code" in line}) == 5_000
    halfway = json.loads(ask(f"{PATH}?after={lines[2000]['cursor']}")[1][0])
    assert halfway == lines[2001]


def test_streams_need_a_slot_and_short_responses_do_not(client, ask, read):
    cursor = read()[1]
    insert_rooms(2_000)
    held = [exports.slots.acquire(blocking=False) for _ in range(exports.slots._initial_value)]
    try:
        assert ask(f"{PATH}?after={cursor}")[0] == 200
        insert_rooms(1)
        response = client.get(f"{PATH}?after={cursor}")
        assert (response.status_code, response.headers["Retry-After"]) == (429, "10")
        assert not connection.in_atomic_block
    finally:
        for _ in held:
            exports.slots.release()
    assert ask(f"{PATH}?after={cursor}")[0] == 200
    assert exports.slots._value == exports.slots._initial_value


def test_a_change_is_found_by_its_position_and_its_room_by_its_code(read):
    cursor = read()[1]
    insert_rooms(20_000)
    execute("VACUUM ANALYZE room_change")
    position, state = changes.Position.parse(cursor), changes.State.read()
    values = [state.history, str(position.xid), 0, str(state.horizon)]
    plan = "\n".join(row[0] for row in execute(f"EXPLAIN {changes.LINES}", *values))
    assert "Sort" not in plan
    assert "room_change_pkey" in plan
    assert "room_code_key" in plan


# --- Beginning at a time


def clock():
    return execute("SELECT clock_timestamp()")[0][0].isoformat().replace("+", "%2B")


def test_since_gives_what_was_committed_after_the_time(ask):
    RoomFactory()
    with connection.cursor() as cursor:
        wait_for_other_databases(cursor)
    RoomFactory()
    time = clock()
    room = RoomFactory()
    status, lines = ask(f"{PATH}?since={time}")
    assert status == 200
    assert present(room) in [json.loads(line) for line in lines]
    assert len(lines) <= 3


def test_since_has_transactions_that_wrote_before_the_time_and_committed_after_it(ask):
    with another_session() as slow:
        slow.execute("BEGIN")
        code = add_room(slow)
        for _ in range(3):
            RoomFactory()
        time = clock()
        slow.execute("COMMIT")
    status, lines = ask(f"{PATH}?since={time}")
    assert status == 200
    assert code in [json.loads(line).get("code") for line in lines]


def test_since_before_the_history_is_410(ask):
    RoomFactory()
    status, lines = ask(f"{PATH}?since=2020-01-01T00:00:00Z")
    assert status == 410
    assert json.loads(lines[0])["message"].startswith("The changes that are kept do not reach back to this")


def test_since_before_a_truncation_is_410(ask):
    RoomFactory()
    time = clock()
    execute("TRUNCATE room")
    assert ask(f"{PATH}?since={time}")[0] == 410


def test_since_a_time_to_come_is_400(ask):
    time = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    status, lines = ask(f"{PATH}?since={time}")
    assert status == 400
    assert json.loads(lines[0])["errors"] == [
        {"parameter": "since", "message": "is in the future, by the clock of the database"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T00:00:00Z",
        "2020-01-01t00:00:00.5z",
        "2020-01-01%2000:00:00.1234567891%2B01:00",
        "2020-01-01T00:00:00%2B23:59",
    ],
)
def test_times_of_rfc_3339_are_understood(ask, text):
    assert ask(f"{PATH}?since={text}")[0] == 410


# --- When a mirror has to begin again


@pytest.mark.parametrize("table", ["room", "room_change"])
def test_a_truncation_ends_all_cursors(ask, read, table):
    RoomFactory()
    cursor = read()[1]
    execute(f"TRUNCATE {table}")
    assert_gone(ask, cursor, changes.ANOTHER_EPOCH)
    RoomFactory()
    _, cursor = read()
    RoomFactory()
    assert len(read(cursor)[0]) == 1


def test_a_truncation_that_is_rolled_back_ends_no_cursor(read):
    cursor = read()[1]
    with another_session() as other:
        other.execute("BEGIN; TRUNCATE room; ROLLBACK")
    assert read(cursor)[0] == []


def test_a_mirror_begins_again_once_while_an_older_transaction_runs(ask):
    mirror = Mirror(ask)
    mirror.update()
    with another_session() as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT pg_current_xact_id()")
        execute("TRUNCATE room")
        for _ in range(3):
            mirror.update()
        assert mirror.copies == 2
        add_room(slow)
        mirror.update()
        slow.execute("COMMIT")
    mirror.update()
    assert (len(mirror.rooms), mirror.copies) == (1, 2)


def test_flush_ends_all_cursors(ask, read):
    cursor = read()[1]
    call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True)
    assert_gone(ask, cursor, changes.ANOTHER_EPOCH)


def test_a_cursor_of_a_copied_database_is_410(ask, read):
    RoomFactory()
    cursor = read()[1]
    name = connection.settings_dict["NAME"]
    connection.close()
    with postgres.session() as server:
        postgres.drop_database(server, f"{name}_copy")
        postgres.end_sessions(server, name)
        postgres.create_database(server, f"{name}_copy", template=name)
    try:
        connection.settings_dict["NAME"] = f"{name}_copy"
        assert_gone(ask, cursor, changes.ANOTHER_HISTORY)
        room = RoomFactory()
        found, cursor = Mirror(ask), ""
        found.update()
        assert str(room.code) in found.rooms
        assert len(found.rooms) == 2
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
        with postgres.session() as server:
            postgres.drop_database(server, f"{name}_copy")


# --- What is kept


def age(rows_before, by):
    """Let the rows up to an id look as if they were written earlier."""
    execute("UPDATE room_change SET changed_at = changed_at - %s WHERE id <= %s", by, rows_before)


def newest_id():
    return execute("SELECT coalesce(max(id), 0) FROM room_change")[0][0]


def kept():
    return execute("SELECT count(*) FROM room_change WHERE history = room_change_history()")[0][0]


def test_changes_older_than_seven_days_are_pruned_by_writers(ask, read):
    execute("TRUNCATE room_change")
    first = read()[1]
    insert_rooms(1_500)
    second = read()[1]
    age(newest_id(), timedelta(days=7, hours=1))
    insert_rooms(1_000, seed=0.6)
    assert kept() == 1_000
    assert_gone(ask, first, changes.PRUNED)
    assert len(read(second)[0]) == 1_000


def test_changes_of_seven_days_are_kept(read):
    execute("TRUNCATE room_change")
    first = read()[1]
    insert_rooms(1_500)
    age(newest_id(), timedelta(days=6, hours=23))
    insert_rooms(1_000, seed=0.6)
    assert kept() == 2_500
    status_lines, _ = read(first)
    assert len([line for line in status_lines if "code" in line]) == 2_500


def test_more_than_five_million_changes_are_not_kept(ask, read):
    execute("TRUNCATE room_change")
    first = read()[1]
    insert_rooms(100)
    execute("SELECT setval('room_change_id_seq', %s)", newest_id() + 5_000_000)
    second = read()[1]
    insert_rooms(1_000, seed=0.6)
    assert kept() == 1_000
    assert_gone(ask, first, changes.PRUNED)
    assert len(read(second)[0]) == 1_000


def test_nothing_above_the_oldest_running_transaction_is_pruned():
    execute("TRUNCATE room_change")
    with another_session() as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT pg_current_xact_id()")
        insert_rooms(1_500)
        age(newest_id(), timedelta(days=8))
        insert_rooms(1_000, seed=0.6)
        assert kept() == 2_500
        slow.execute("ROLLBACK")
    insert_rooms(1_000, seed=0.7)
    assert kept() == 2_000


def test_changes_of_other_histories_are_pruned():
    execute("TRUNCATE room_change")
    execute(
        "INSERT INTO room_change (history, xid, oldest, changed_at, code)"
        " SELECT history, '9999999', '1', now(), gen_random_uuid() FROM (VALUES"
        " (-9223372036854775808), (9223372036854775807)) AS other(history), generate_series(1, 500)"
    )
    insert_rooms(1_000)
    assert execute("SELECT count(*) FROM room_change") == [(1_000,)]


def test_two_writers_do_not_wait_for_each_other_to_prune():
    execute("TRUNCATE room_change")
    insert_rooms(1_500)
    age(newest_id(), timedelta(days=8))
    with another_session() as first:
        first.execute("BEGIN")
        first.execute(
            "INSERT INTO room (code, price, latitude, longitude)"
            " SELECT gen_random_uuid(), 1, 0, 0 FROM generate_series(1, 1000)"
        )
        insert_rooms(1_000, seed=0.6)  # waits for no lock, else lock_timeout would end it
        first.execute("COMMIT")


def test_a_repeatable_read_transaction_writes_while_another_prunes():
    execute("TRUNCATE room_change")
    insert_rooms(1_500)
    age(newest_id(), timedelta(days=8))
    with another_session() as frozen:
        frozen.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        frozen.execute("SELECT count(*) FROM room")
        insert_rooms(1_000, seed=0.6)
        frozen.execute(
            "INSERT INTO room (code, price, latitude, longitude)"
            " SELECT gen_random_uuid(), 1, 0, 0 FROM generate_series(1, 1000)"
        )
        frozen.execute("COMMIT")


# --- Requests


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("after=", [("after", "is no cursor of the changes", None)]),
        ("after=nonsense", [("after", "is no cursor of the changes", None)]),
        ("after=a&after=b", [("after", "is given twice", None)]),
        ("since=yesterday", [("since", "must be a time with its offset", None)]),
        ("since=2026-11-21", [("since", "must be a time with its offset", None)]),
        ("since=2026-11-21T12:00:00", [("since", "must be a time with its offset", None)]),
        ("since=2026-11-21T12:00:00+01:00", [("since", "must be a time with its offset", None)]),
        ("since=2026-02-30T12:00:00Z", [("since", "must be a time with its offset", None)]),
        ("since=2026-11-20T12:00:0012Z", [("since", "must be a time with its offset", None)]),
        ("since=0001-01-01T00:00:00%2B01:00", [("since", "must be a time with its offset", None)]),
        ("limit=5", [("limit", "does not apply to this address", None)]),
        ("filter_price__lt=5", [("filter_price__lt", "does not apply to this address", None)]),
        ("aftr=5", [("aftr", "unknown parameter", "after")]),
        ("sinse=5", [("sinse", "unknown parameter", "since")]),
        ("feed=5", [("feed", "unknown parameter", None)]),
        (
            "after=x&since=2026-11-21T12:00:00Z",
            [("after", "is no cursor", None), ("since", "cannot be given together with `after`", None)],
        ),
    ],
)
def test_bad_parameters_are_named_without_a_query(client, query, errors, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get(f"{PATH}?{query}")
    assert response.status_code == 400
    found = response.json()
    assert [(error["parameter"], error.get("hint")) for error in found["errors"]] == [
        (name, hint) for name, _, hint in errors
    ]
    for error, (_, message, _) in zip(found["errors"], errors, strict=True):
        assert error["message"].startswith(message)
    assert found["try"].startswith(PATH)


def test_a_cursor_of_a_list_is_none_of_the_changes_and_the_reverse(client, ask, read):
    RoomFactory.create_batch(3)
    link = client.get("/rooms?limit=1").headers["Link"]
    of_list = link.rpartition("after=")[2].partition(">")[0]
    assert ask(f"{PATH}?after={of_list}")[0] == 400
    assert ask(f"/rooms?after={read()[1]}")[0] == 400


def test_an_altered_cursor_is_400(ask, read):
    cursor = read()[1]
    assert ask(f"{PATH}?after={cursor[:-1]}")[0] == 400
    assert ask(f"{PATH}?after={cursor}A")[0] == 400


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/x-ndjson", 200),
        ("text/html,*/*;q=0.8", 200),
        ("application/json", 406),
        ("text/html", 406),
    ],
)
def test_changes_come_as_ndjson(client, accept, status):
    response = client.get(PATH, HTTP_ACCEPT=accept)
    assert response.status_code == status
    if status == 200:
        assert response.headers["Content-Type"] == "application/x-ndjson"


def test_no_cache_keeps_changes(client):
    response = client.get(PATH)
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers


def test_head_costs_no_query(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.head(PATH)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Cache-Control"] == "no-store"
    assert client.head(f"{PATH}?after=x").status_code == 400
    assert client.post(PATH).status_code == 405


def test_a_read_costs_few_queries_whatever_it_brings(read, client, django_assert_max_num_queries):
    cursor = read()[1]
    RoomFactory.create_batch(20)
    with django_assert_max_num_queries(9):  # two looks at the state, the lines, and the transaction around
        client.get(f"{PATH}?after={cursor}")
