"""
Rooms for tests: the factory fills all fields that a test does not state.

`RoomFactory()` stores one room, `RoomFactory.create_batch(3, price=66)` three, `RoomFactory.build()` none.
factory-boy is a requirement of tests only; `rooms.seeding` is what scenarios use.
"""

import random
import uuid

from factory import LazyFunction, Sequence
from factory.django import DjangoModelFactory

from rooms.models import Room


class RoomFactory(DjangoModelFactory):
    """Rooms around London that differ in every field from one to the next."""

    class Meta:
        model = Room

    code = LazyFunction(uuid.uuid4)
    size = Sequence(lambda n: 20 + n % 200)
    price = Sequence(lambda n: 30 + n % 150)
    latitude = Sequence(lambda n: round(51.5 + n % 997 / 10_000, 4))
    longitude = Sequence(lambda n: round(-0.12 + n % 991 / 10_000, 4))


def varied_rooms(count: int, seed: int = 1) -> list[Room]:
    """Rooms with ties, unknown sizes and the extremes of every column, in random order; not stored."""
    chance = random.Random(seed)  # noqa: S311 - test data
    return [
        RoomFactory.build(
            code=uuid.UUID(int=chance.getrandbits(128), version=4),
            size=chance.choice([None, 1, 100_000, *range(48, 54)]),
            price=chance.choice([0, 1_000_000, *range(60, 70)]),
            latitude=chance.choice([-90, 90, 0, 51.5, 51.75436293, 1e-7, round(chance.uniform(-90, 90), 8)]),
            longitude=chance.choice([-180, 180, 0, -0.1, -0.09998975, round(chance.uniform(-180, 180), 8)]),
        )
        for _ in range(count)
    ]
