"""Operations of migrations that change a table while it is used (rooms/online)."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from django.db import DataError, NotSupportedError, OperationalError, connection, models, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.testing.rig import wait_until
from rooms.online import AlterFieldOnline, UpdateInBatches

pytestmark = pytest.mark.scenario("foo")

WIDE = AlterFieldOnline("room", "price", models.BigIntegerField())
ROOMS = 3000


def rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as session:
        session.execute(sql)
        return session.fetchall() if session.description else []


def add_rooms() -> None:
    rows(
        "INSERT INTO room (code, size, price, latitude, longitude)"
        f" SELECT gen_random_uuid(), 10, n, 41, 2 FROM generate_series(1, {ROOMS}) AS n"
    )


def run(operation: Operation, *, back: bool = False) -> None:
    """As a migration with `atomic = False` runs it, or takes it back."""
    before = MigrationLoader(connection).project_state()
    after = before.clone()
    operation.state_forwards("rooms", after)
    with connection.schema_editor(atomic=False) as editor:
        if back:
            operation.database_backwards("rooms", editor, after, before)
        else:
            operation.database_forwards("rooms", editor, before, after)


def objects() -> list[tuple[Any, ...]]:
    """What belongs to the table: columns with defaults, indexes, constraints, triggers; and functions."""
    return rows(
        "SELECT attname::text, concat_ws(' ', attnotnull, pg_get_expr(adbin, adrelid)) FROM pg_attribute"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = 'room'::regclass AND attnum > 0 AND NOT attisdropped"
        " UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'room'"
        " UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'room'::regclass"
        " UNION ALL SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'room'::regclass"
        " UNION ALL SELECT proname, '' FROM pg_proc WHERE proname LIKE 'room%' ORDER BY 1, 2"
    )


def type_of(column: str) -> str:
    ((found,),) = rows(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = 'room'::regclass AND attname = '{column}'"
    )
    return str(found)


class Run(Thread):
    """An operation in a thread, on a connection of its own."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.pid = 0
        self.raised: list[Exception] = []

    def run(self) -> None:
        try:
            ((self.pid,),) = rows("SELECT pg_backend_pid()")
            run(self.operation)
        except Exception as error:
            self.raised.append(error)
        finally:
            connection.close()

    def __enter__(self) -> "Run":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.join(60)
        assert not self.is_alive()


@contextmanager
def other_session() -> Iterator[cursor]:
    with postgres.session(connection.settings_dict["NAME"]) as session:
        session.execute("SET lock_timeout = 10000")
        yield session


@contextmanager
def paused(operation: Operation) -> Iterator[Run]:
    """The operation, which builds no index before the block ends: an old snapshot is in its way."""
    with other_session() as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")  # uses no table
        with Run(operation) as change:
            try:
                yield change
            finally:
                session.execute("ROLLBACK")


def is_filled(session: cursor) -> bool:
    """Whether each room has its value in the second column."""
    session.execute("SELECT FROM pg_attribute WHERE attname = 'price_next' AND NOT attisdropped")
    if not session.rowcount:
        return False
    session.execute("SELECT FROM room WHERE price_next IS DISTINCT FROM price")
    return not session.rowcount


def test_a_column_gets_another_type_and_keeps_what_belongs_to_it() -> None:
    add_rooms()
    before, values = objects(), rows("SELECT id, price FROM room ORDER BY id")
    run(WIDE)
    assert type_of("price") == "bigint"
    assert objects() == before
    assert rows("SELECT id, price FROM room ORDER BY id") == values
    ((analysed,),) = rows("SELECT count(*) FROM pg_stats WHERE tablename = 'room' AND attname = 'price'")
    assert analysed == 1
    run(WIDE, back=True)
    assert type_of("price") == "integer"
    assert objects() == before


def test_a_default_of_the_database_and_nulls_are_kept() -> None:
    add_rooms()
    rows("UPDATE room SET size = NULL WHERE price = 1")
    run(AlterFieldOnline("room", "version", models.BigIntegerField(db_default=1)))
    run(AlterFieldOnline("room", "size", models.BigIntegerField(null=True)))
    rows("INSERT INTO room (code, price, latitude, longitude) VALUES (gen_random_uuid(), 1, 41, 2)")
    assert (type_of("version"), type_of("size")) == ("bigint", "bigint")
    assert rows("SELECT count(*), min(version) FROM room WHERE size IS NULL") == [(2, 1)]


def test_filling_a_column_changes_no_room_for_editors_and_mirrors() -> None:
    add_rooms()
    rows("TRUNCATE room_change")
    before = rows("SELECT id, version, updated_at FROM room ORDER BY id")
    run(WIDE)
    assert rows("SELECT id, version, updated_at FROM room ORDER BY id") == before
    assert rows("SELECT count(*) FROM room_change") == [(0,)]
    rows("UPDATE room SET price = price + 1 WHERE id = (SELECT min(id) FROM room)")
    assert rows("SELECT count(*) FROM room WHERE version = 2") == [(1,)]
    assert rows("SELECT count(*) FROM room_change") == [(1,)]


def test_rooms_are_written_while_the_column_is_exchanged() -> None:
    add_rooms()
    with other_session() as writer, paused(WIDE) as change:
        wait_until(lambda: is_filled(writer), "the second column")
        writer.execute("UPDATE room SET price = 900000 WHERE price = 8")
        writer.execute(
            "INSERT INTO room (code, price, latitude, longitude) VALUES (gen_random_uuid(), 900001, 41, 2)"
        )
        assert is_filled(writer)
        assert change.is_alive()
    assert change.raised == []
    assert type_of("price") == "bigint"
    assert rows("SELECT price FROM room WHERE price > 800000 ORDER BY 1") == [(900000,), (900001,)]
    assert rows("SELECT count(*), count(DISTINCT price) FROM room") == [(ROOMS + 1, ROOMS + 1)]


def test_a_long_read_delays_the_change_and_nobody_queues_behind_it() -> None:
    add_rooms()
    with other_session() as export, other_session() as reader:
        export.execute("BEGIN; SELECT FROM room LIMIT 1")
        with Run(WIDE) as change:
            try:
                for _ in range(20):  # some come while the lock is waited for
                    reader.execute("SELECT count(*) FROM room; SELECT pg_sleep(0.1)")
                assert change.is_alive()
                assert not is_filled(reader)
            finally:
                export.execute("ROLLBACK")
    assert change.raised == []
    assert type_of("price") == "bigint"


def test_what_a_kill_leaves_lets_rooms_be_written_and_is_continued() -> None:
    add_rooms()
    before = objects()
    with other_session() as other:
        with paused(WIDE) as change:
            wait_until(lambda: is_filled(other), "the second column")
            other.execute("SELECT pg_terminate_backend(%s)", [change.pid])
        assert [type(error) for error in change.raised] == [OperationalError]
        other.execute("UPDATE room SET price = 900000 WHERE price = 8")
        assert is_filled(other)
    run(WIDE)
    assert type_of("price") == "bigint"
    assert objects() == before
    assert rows("SELECT count(*) FROM room WHERE price = 900000") == [(1,)]


def test_after_a_kill_between_the_exchange_and_its_note_nothing_is_left_to_do() -> None:
    run(WIDE)
    before = rows("SELECT attnum FROM pg_attribute WHERE attrelid = 'room'::regclass")
    run(WIDE)
    assert rows("SELECT attnum FROM pg_attribute WHERE attrelid = 'room'::regclass") == before


def test_values_that_do_not_fit_are_an_error_that_changes_nothing() -> None:
    add_rooms()
    rows("UPDATE room SET price = 40000 WHERE price = 8")
    before = objects()
    with pytest.raises(DataError, match="out of range"):
        run(AlterFieldOnline("room", "price", models.SmallIntegerField()))
    assert objects() == before


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (
            AlterFieldOnline("room", "latitude", models.DecimalField(max_digits=11, decimal_places=8)),
            "room_round",
        ),
        (AlterFieldOnline("room", "code", models.CharField(max_length=36)), "room_code"),
        (AlterFieldOnline("room", "price", models.BigIntegerField(null=True)), "a change of null"),
        (AlterFieldOnline("room", "id", models.IntegerField(primary_key=True)), "that PostgreSQL generates"),
    ],
)
def test_what_would_be_lost_with_the_column_is_named_and_nothing_changed(
    operation: AlterFieldOnline, name: str
) -> None:
    before = objects()
    with pytest.raises(NotSupportedError, match=name):
        run(operation)
    assert objects() == before


def test_a_generated_column_is_named() -> None:
    rows("ALTER TABLE room ADD COLUMN twice int GENERATED ALWAYS AS (price * 2) STORED")
    with pytest.raises(NotSupportedError, match="twice"):
        run(WIDE)


def test_in_a_transaction_the_operations_are_refused() -> None:
    for operation in (WIDE, UpdateInBatches("room", "price = 1", "price <> 1")):
        with pytest.raises(NotSupportedError, match="atomic = False"), transaction.atomic():
            run(operation)


def test_lists_are_served_on_connections_that_had_prepared_them(scenario: Any) -> None:
    add_rooms()
    query = "/rooms?order=price&limit=3"
    before = scenario.client.get(query).json()
    run(WIDE)
    response = scenario.client.get(query)
    assert (response.status_code, response.json()) == (200, before)


def test_an_update_in_batches_commits_one_by_one_and_is_a_change() -> None:
    add_rooms()
    run(UpdateInBatches("room", "price = price % 100 + 5000", "price < 5000"))
    assert rows("SELECT count(*), min(version), max(version) FROM room WHERE price >= 5000") == [
        (ROOMS, 2, 2)
    ]
    ((transactions, largest),) = rows(
        "SELECT count(*), max(n) FROM (SELECT count(*) AS n FROM room GROUP BY xmin::text) AS batch"
    )
    assert transactions > 2
    assert largest < ROOMS


def test_an_update_that_would_never_end_is_an_error_that_changes_nothing() -> None:
    add_rooms()
    with pytest.raises(ValueError, match="leaves rows with price > 1, and would never end"):
        run(UpdateInBatches("room", "price = price + 1", "price > 1"))
    assert rows("SELECT max(version) FROM room") == [(1,)]


def test_a_locked_room_is_left_out_of_its_batch_and_the_killed_update_is_continued() -> None:
    add_rooms()
    operation = UpdateInBatches("room", "price = price + 5000", "price < 5000")
    with other_session() as editor, other_session() as writer:

        def left() -> int:
            writer.execute("SELECT FROM room WHERE price < 5000")
            return writer.rowcount

        editor.execute("BEGIN; SELECT FROM room WHERE price = 7 FOR UPDATE")
        with Run(operation) as change:
            wait_until(lambda: left() == 1, "all but the locked room")
            writer.execute("UPDATE room SET price = 9000 WHERE price = 5008")
            assert change.is_alive()
            writer.execute("SELECT pg_terminate_backend(%s)", [change.pid])
        assert [type(error) for error in change.raised] == [OperationalError]
        editor.execute("ROLLBACK")
        run(operation)
        assert left() == 0
    assert rows("SELECT count(*), max(version) FROM room WHERE price IN (5007, 9000)") == [(2, 3)]


def test_sqlmigrate_explains_the_operations_in_comments() -> None:
    state = MigrationLoader(connection).project_state()
    for operation in (WIDE, UpdateInBatches("room", "price = 1", "price <> 1")):
        after = state.clone()
        operation.state_forwards("rooms", after)
        with connection.schema_editor(collect_sql=True, atomic=False) as editor:
            operation.database_forwards("rooms", editor, state, after)
        assert all(line.startswith("-- ") for line in editor.collected_sql)
        assert "price" in "".join(editor.collected_sql)
