"""The factory makes valid rooms; progress is printed on stderr."""

import subprocess
import sys

import pytest

from rooms.factories import RoomFactory
from rooms.models import Room


@pytest.mark.django_db
def test_a_thousand_factory_rooms_satisfy_every_constraint() -> None:
    Room.objects.bulk_create(RoomFactory.build_batch(1000))
    assert Room.objects.count() == 1000


@pytest.mark.django_db
def test_what_a_test_states_is_what_the_room_has() -> None:
    RoomFactory(price=66, size=None)
    assert Room.objects.filter(price=66, size=None).count() == 1


def test_progress_without_a_terminal_is_lines_on_stderr() -> None:
    program = (
        "from rooms.imports import progress\n"
        "progress.LINE_INTERVAL = 0\n"
        "with progress.progress(1000, 'rooms') as advance:\n"
        "    advance(400); advance(600)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "400 of 1,000 rooms\n1,000 of 1,000 rooms\n"
