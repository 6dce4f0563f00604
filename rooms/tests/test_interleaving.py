"""in_parallel: sessions that are interleaved in the same way each time."""

import pytest
from django.db import DatabaseError, transaction

from rooms.interleaving import BlockedByCaller, in_parallel
from rooms.models import Room
from rooms.seeding import room

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.unpooled("in_parallel knows a session by its process id"),
]


def test_steps_alternate_in_the_order_of_the_functions() -> None:
    log = []

    def session(name, steps):
        for number in range(steps):
            log.append(f"{name}{number}")
            yield

    for _ in range(3):
        log.clear()
        in_parallel(lambda: session("a", 3), lambda: session("b", 1), lambda: session("c", 2))
        assert log == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_a_step_that_waits_for_a_lock_leaves_the_turn_to_the_other() -> None:
    stored = room(price=50)
    log = []

    def first():
        with transaction.atomic():
            Room.objects.filter(pk=stored.pk).update(price=60)
            log.append("first has the row")
            yield
            log.append("first commits")

    def second():
        log.append("second begins")
        Room.objects.filter(pk=stored.pk).update(price=70)
        log.append("second has the row")
        yield

    for _ in range(3):
        log.clear()
        in_parallel(first, second)
        assert log == ["first has the row", "second begins", "first commits", "second has the row"]
        assert Room.objects.get().price == 70


def test_a_deadlock_is_resolved_by_postgresql() -> None:
    one, other = room(price=50), room(price=60)

    def update(first, second):
        with transaction.atomic():
            Room.objects.filter(pk=first.pk).update(price=1)
            yield
            Room.objects.filter(pk=second.pk).update(price=2)

    with pytest.raises(DatabaseError, match="deadlock detected"):
        in_parallel(lambda: update(one, other), lambda: update(other, one))
    assert sorted(Room.objects.values_list("price", flat=True)) == [1, 2]


def test_the_first_error_is_raised_and_the_other_session_ends() -> None:
    ended = []

    def fails():
        yield
        raise ValueError("in the middle")

    def works():
        yield
        yield
        ended.append(True)

    with pytest.raises(ValueError, match="in the middle"):
        in_parallel(fails, works)
    assert ended == [True]


def test_waiting_for_the_callers_own_rows_is_an_error_and_no_hang() -> None:
    stored = room(price=50)

    def session():
        Room.objects.filter(pk=stored.pk).update(price=60)
        yield

    with transaction.atomic():
        Room.objects.filter(pk=stored.pk).update(price=55)
        with pytest.raises(BlockedByCaller, match="Next: call in_parallel in check"):
            in_parallel(session)
    assert Room.objects.get().price == 55
