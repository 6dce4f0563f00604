"""Rooms for the tests of pages in a browser."""

import pytest

from rooms.factories import RoomFactory


@pytest.fixture
def rooms():
    """A hundred and fifty rooms in London, about 100 m apart; twenty of them are in Barcelona."""
    return [
        RoomFactory(
            price=20 + n % 90,
            size=None if n % 7 == 0 else 10 + n,
            latitude=(41.4 if n < 20 else 51.5) + n * 0.0005,
            longitude=(2.15 if n < 20 else -0.12) + n * 0.0005,
        )
        for n in range(150)
    ]
