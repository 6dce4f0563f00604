"""
Distributions of generated values, each in two forms: one value drawn in Python, for a single room, and SQL
for a value per row, for a million of them. All randomness depends on a seed (`Source`).
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import exp

from psycopg2.sql import SQL, Composable, Literal


class Source:
    """A source of randomness: a generator for values drawn in Python, salts of a hash for those in SQL."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - rooms, not secrets
        self.drawn = 0

    def uniform(self) -> Composable:
        """SQL for a random number between 0 and 1, both excluded, by the row's number `n` and a new salt."""
        return SQL(
            "((((hashint8extended(n, {}) >> 11) & 4503599627370495) | 1) / 4503599627370496.0)::float8"
        ).format(Literal(self.salt()))

    def normal(self) -> Composable:
        """SQL for a number of the standard normal distribution (Box–Muller transform)."""
        return SQL("(sqrt(-2 * ln({})) * cos(2 * pi() * {}))").format(self.uniform(), self.uniform())

    def uuid(self) -> Composable:
        """SQL for a UUID of version 4: 122 random bits, and six for the version and variant."""
        return SQL(
            "encode(int8send((hashint8extended(n, {}) & ~(15::bigint << 12)) | (4::bigint << 12))"
            " || int8send((hashint8extended(n, {}) & ~(3::bigint << 62)) | (2::bigint << 62)), 'hex')::uuid"
        ).format(Literal(self.salt()), Literal(self.salt()))

    @property
    def independent(self) -> "Source":
        """The source of what does not depend on other columns, such as a choice among distributions."""
        return self

    def salt(self) -> int:
        """A bigint that no other draw of this seed uses."""
        self.drawn += 1
        return int.from_bytes(sha256(f"{self.seed}:{self.drawn}".encode()).digest()[:8], signed=True)


class Correlated(Source):
    """A source whose numbers all follow from one of the normal distribution, given as SQL."""

    def __init__(self, source: Source, normal: Composable) -> None:
        self.source = source
        self.common = normal

    def uniform(self) -> Composable:
        return SQL("(0.5 + 0.5 * erf({} / sqrt(2.0::float8)))").format(self.common)

    def normal(self) -> Composable:
        return self.common

    @property
    def independent(self) -> Source:
        return self.source


class Distribution(ABC):
    """The distribution of a column's values."""

    @abstractmethod
    def sql(self, source: Source) -> Composable:
        """SQL for one value per row, a double precision."""

    @abstractmethod
    def draw(self, chance: random.Random) -> float:
        """One value."""


@dataclass(frozen=True)
class Always(Distribution):
    """The same value in every row."""

    value: float

    def sql(self, source: Source) -> Composable:
        return SQL("{}::float8").format(Literal(self.value))

    def draw(self, chance: random.Random) -> float:
        return self.value


@dataclass(frozen=True)
class Between(Distribution):
    """Every value from `low` to `high` equally often."""

    low: float
    high: float

    def sql(self, source: Source) -> Composable:
        return SQL("({} + {} * {})").format(
            Literal(self.low), Literal(self.high - self.low), source.uniform()
        )

    def draw(self, chance: random.Random) -> float:
        return chance.uniform(self.low, self.high)


@dataclass(frozen=True)
class Skewed(Distribution):
    """
    Log-normal, as prices and sizes are: half of the rows below `median`, a long tail above.

    Two thirds of the rows lie between median / e^spread and median × e^spread.
    """

    median: float
    spread: float = 0.6

    def sql(self, source: Source) -> Composable:
        return SQL("({} * exp({} * {}))").format(Literal(self.median), Literal(self.spread), source.normal())

    def draw(self, chance: random.Random) -> float:
        return self.median * exp(self.spread * chance.gauss(0, 1))


@dataclass(frozen=True)
class Mostly(Distribution):
    """`value` in a `share` (0 … 1) of the rows, another distribution in the rest."""

    value: float
    share: float
    otherwise: Distribution

    def sql(self, source: Source) -> Composable:
        return SQL("CASE WHEN {} < {} THEN {} ELSE {} END").format(
            source.independent.uniform(),
            Literal(self.share),
            Literal(self.value),
            self.otherwise.sql(source),
        )

    def draw(self, chance: random.Random) -> float:
        return self.value if chance.random() < self.share else self.otherwise.draw(chance)


class Mixture(Distribution):
    """Several distributions by their shares, as in `mixture((0.3, always(50)), (0.7, skewed(80)))`."""

    def __init__(self, *parts: tuple[float, Distribution]) -> None:
        """ValueError without a positive share; shares need not add up to 1."""
        total = sum(share for share, _ in parts)
        if total <= 0 or any(share < 0 for share, _ in parts):
            raise ValueError("mixture(): shares must be positive, as in mixture((0.3, always(50)), (0.7, …))")
        self.shares = [share / total for share, _ in parts]
        self.parts = [part for _, part in parts]

    def sql(self, source: Source) -> Composable:
        chosen = source.independent.uniform()
        bounds = [sum(self.shares[: i + 1]) for i in range(len(self.shares) - 1)]
        cases = [
            SQL(" WHEN {} < {} THEN {}").format(chosen, Literal(bound), part.sql(source))
            for bound, part in zip(bounds, self.parts, strict=False)
        ]
        otherwise = self.parts[-1].sql(source)
        return SQL("CASE{} ELSE {} END").format(SQL("").join(cases), otherwise) if cases else otherwise

    def draw(self, chance: random.Random) -> float:
        (part,) = chance.choices(self.parts, self.shares)
        return part.draw(chance)


class ByCity(Distribution):
    """
    A distribution for each city, as in `by_city({"London": skewed(95)}, otherwise=skewed(60))`.

    `room()` knows no city.
    """

    def __init__(self, cities: Mapping[str, Distribution], otherwise: Distribution) -> None:
        self.cities = dict(cities)
        self.otherwise = otherwise

    def sql(self, source: Source) -> Composable:
        cases = [
            SQL(" WHEN {} THEN {}").format(Literal(name), distribution.sql(source))
            for name, distribution in self.cities.items()
        ]
        otherwise = self.otherwise.sql(source)
        return SQL("CASE city{} ELSE {} END").format(SQL("").join(cases), otherwise) if cases else otherwise

    def draw(self, chance: random.Random) -> float:
        return self.otherwise.draw(chance)
