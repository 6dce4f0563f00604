"""
Rooms for tests: the factory fills all fields that a test does not state.

`RoomFactory()` stores one room, `RoomFactory.create_batch(3, price=66)` three, `RoomFactory.build()` none.
factory-boy is a requirement of tests only; `rooms.seeding` is what scenarios use.
"""

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
