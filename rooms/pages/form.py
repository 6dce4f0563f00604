"""
The search form of the page `/rooms`: what people type, turned into the parameters of the API.

The page has parameters of its own, which the API refuses: `place`, a text that becomes `near` and `within` by
a redirect; `view`, cards or a table; and `map`, what the map shows where that is not the search itself.
"""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api.geo import Near
from rooms.pages.names import degrees
from rooms.places.gazetteer import Place, describe, gazetteer
from rooms.places.notation import parse_coordinates

PLACE, VIEW, MAP = "place", "view", "map"

VIEWS = {"cards": "Cards", "table": "Table"}

MAX_PLACE = 300
"""Characters of a place, which may be the URL of a map."""


class UnknownPlace(ValueError):
    """The text of the field `place` is no place; the message is for users."""


@dataclass(frozen=True)
class PageQuery:
    """A request for the page: the API's parameters, and the page's own."""

    search: QueryDict
    view: str = "cards"
    map: str = ""

    @classmethod
    def read(cls, query: QueryDict) -> "PageQuery":
        search = query.copy()
        view = search.pop(VIEW, ["cards"])[-1]
        shown = search.pop(MAP, [""])[-1]
        search.pop(PLACE, None)
        return cls(search, view if view in VIEWS else "cards", shown)


def submitted(query: QueryDict) -> str:
    """
    The query string of a submitted form: without empty fields, its place as coordinates. Raises UnknownPlace.
    """
    given = {name: str(query[name]) for name in query if query[name] and name != PLACE}
    near, within = resolve(str(query[PLACE]).strip(), given)
    # The cursor and the area are of another place.
    dropped = {"near", "within", "after", "before"} | ({"bbox"} if near != given.get("near", "") else set())
    kept = {name: text for name, text in given.items() if name not in dropped}
    if not near and "distance" in kept.get("order", ""):
        del kept["order"]
    place = {"near": near, "within": within}
    return urlencode({name: text for name, text in place.items() if text} | kept, safe=",:")


def resolve(text: str, given: dict[str, str]) -> tuple[str, str]:
    """`near` and `within` for the text of the field; those that are given where the text is still theirs."""
    if not text:
        return "", ""
    if "near" in given:
        try:
            centre = Centre.of(Near.parse(given["near"]))
        except ValueError:
            centre = None
        if centre and centre.text == text:
            return given["near"], given.get("within", "")
    try:
        coordinates = parse_coordinates(text[:MAX_PLACE])
    except ValueError as error:
        raise UnknownPlace(str(error)) from None
    if coordinates:
        latitude, longitude = coordinates
        return f"{degrees(longitude)},{degrees(latitude)}", given.get("within", "")
    places = gazetteer().named(text[:MAX_PLACE])
    if not places:
        raise UnknownPlace("is in no gazetteer of ours: try a city or a district, or paste coordinates")
    found = around(places[0])
    return found["near"], found["within"]


def around(place: Place) -> dict[str, str]:
    """The parameters of a search in a place."""
    return {
        "near": f"{degrees(place.longitude)},{degrees(place.latitude)}",
        "within": str(place.radius),
    }


@dataclass(frozen=True)
class Centre:
    """The centre of a search, and the nearest place of the gazetteer with its distance in metres."""

    near: Near
    nearest: tuple[Place, float] | None

    @classmethod
    def of(cls, near: Near | None) -> "Centre | None":
        """With one look-up, of 0.1 ms."""
        return cls(near, gazetteer().nearest(near.latitude, near.longitude)) if near else None

    @property
    def place(self) -> Place | None:
        """The place whose centre this is."""
        return self.nearest[0] if self.nearest and self.nearest[1] < 1 else None

    @property
    def coordinates(self) -> str:
        return f"{degrees(self.near.latitude)}, {degrees(self.near.longitude)}"

    @property
    def text(self) -> str:
        """The text of the field `place`: a name, or the coordinates."""
        return self.place.full if self.place else self.coordinates

    @property
    def label(self) -> str:
        """As in "Gràcia, Barcelona" or "41.4, 2.15 (in Gràcia, Barcelona)"."""
        if self.place:
            return self.place.short
        where = describe(self.nearest)
        return f"{self.coordinates} ({where})" if where else self.coordinates

    @property
    def namesakes(self) -> list[Place]:
        """Other places with its name."""
        if self.place is None:
            return []
        return [other for other in gazetteer().named(self.place.name) if other != self.place][:4]
