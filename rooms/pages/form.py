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
PARAMETERS = frozenset({PLACE, VIEW, MAP})

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
            unchanged = place_text(Near.parse(given["near"])) == text
        except ValueError:
            unchanged = False
        if unchanged:
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


def gazetteer_place(near: Near) -> Place | None:
    """The place whose centre `near` is."""
    found = gazetteer().nearest(near.latitude, near.longitude)
    return found[0] if found and found[1] < 1 else None


def place_text(near: Near | None) -> str:
    """The text of the field `place` for these coordinates: a name, or the coordinates."""
    if near is None:
        return ""
    place = gazetteer_place(near)
    return place.full if place else f"{degrees(near.latitude)}, {degrees(near.longitude)}"


def place_label(near: Near) -> str:
    """As in "in Gràcia, Barcelona" or "within 1 km of 41.4, 2.15 (in Gràcia, Barcelona)"."""
    place = gazetteer_place(near)
    if place:
        return place.short
    where = describe(near.latitude, near.longitude)
    text = f"{degrees(near.latitude)}, {degrees(near.longitude)}"
    return f"{text} ({where})" if where else text


def namesakes(near: Near) -> list[Place]:
    """Other places with the name of the one that is searched around."""
    place = gazetteer_place(near)
    if place is None:
        return []
    return [other for other in gazetteer().named(place.name) if other != place][:4]
