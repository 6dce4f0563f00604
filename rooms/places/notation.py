"""
Coordinates as people write them, and as the URLs of maps contain them.

>>> parse_coordinates("51.5072, -0.1276")
(51.5072, -0.1276)
>>> parse_coordinates("51°30'26\\"N 0°7'40\\"W")
(51.50722222, -0.12777778)
>>> parse_coordinates("https://www.openstreetmap.org/#map=15/41.4/2.15")
(41.4, 2.15)
"""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from rooms.columns import round_degrees

Coordinates = tuple[float, float]
"""Latitude and longitude in degrees, rounded as a room's."""

NUMBER = r"[-+−]?\d{1,3}(?:\.\d{1,20})?"
PAIR = re.compile(rf"({NUMBER})°?(?:\s*[,;~_]\s*|\s+)({NUMBER})°?")
"""Two decimal numbers: "41.4, 2.15", "41.4 2.15", and Bing's "41.4~2.15", "41.4_2.15"."""

DECIMAL_COMMAS = re.compile(r"([-+−]?\d{1,3},\d{1,20})(?:\s*;\s*|\s+)([-+−]?\d{1,3},\d{1,20})")
""""41,4 2,15" or "41,4; 2,15", as spreadsheets of most of Europe write them."""

SEXAGESIMAL = (
    r"(\d{1,3}(?:\.\d+)?)\s*[°º]\s*"
    r"(?:(\d{1,2}(?:\.\d+)?)\s*['′’]\s*)?"
    r"(?:(\d{1,2}(?:\.\d+)?)\s*(?:[\"″”]|'')\s*)?"
)
LETTER_LAST = re.compile(rf"{SEXAGESIMAL}([NS])\s*,?\s*{SEXAGESIMAL}([EWO])", re.IGNORECASE)
LETTER_FIRST = re.compile(rf"([NS])\s*{SEXAGESIMAL},?\s*([EWO])\s*{SEXAGESIMAL}", re.IGNORECASE)
"""Degrees, minutes and seconds, the latter two optional; O is west (oeste, ouest) in Romance languages."""

PATHS = (
    re.compile(rf"!3d({NUMBER})!4d({NUMBER})"),  # Google: the place, where the page shows one
    re.compile(rf"@({NUMBER}),({NUMBER})"),  # Google: the centre of the map
    re.compile(rf"map=\d+(?:\.\d+)?/({NUMBER})/({NUMBER})"),  # OpenStreetMap: the centre of the map
    re.compile(
        rf"/(?:place|search|dir)/({NUMBER}),\+?({NUMBER})"
    ),  # Google: coordinates that were searched for
)

QUERIES = (
    ("mlat", "mlon"),  # OpenStreetMap: the marker
    ("lat", "lon"),
    ("lat", "lng"),
)

PARAMETERS = ("coordinate", "ll", "q", "query", "sll", "daddr", "destination", "sp", "cp", "center", "where1")
"""Parameters with both: Apple's `coordinate` and `ll`, Google's `q` and `query`, Bing's `cp` and `sp`."""


def parse_coordinates(text: str) -> Coordinates | None:
    """
    The coordinates that `text` consists of: a decimal pair, degrees with minutes and seconds, a `geo:` URI or
    the URL of a place at OpenStreetMap, Google, Apple or Bing Maps.

    None for other text. Raises ValueError, with a message for users, for coordinates beyond ±90 and ±180, and
    for a shortened URL, which only its owner can resolve.
    """
    text = text.strip()
    found = from_url(text) if re.match(r"(?:https?://|geo:)", text, re.IGNORECASE) else from_text(text)
    if found is None:
        return None
    latitude, longitude = (round_degrees(degrees) for degrees in found)
    if not -90 <= latitude <= 90:
        raise ValueError(f"latitude {latitude:g} must be from -90 to 90 degrees")
    if not -180 <= longitude <= 180:
        raise ValueError(f"longitude {longitude:g} must be from -180 to 180 degrees")
    return latitude, longitude


def from_text(text: str) -> Coordinates | None:
    if match := DECIMAL_COMMAS.fullmatch(text):
        north, east = match.groups()
        return number(north.replace(",", ".")), number(east.replace(",", "."))
    if match := PAIR.fullmatch(text.strip("()[] ")):
        north, east = match.groups()
        return number(north), number(east)
    if match := LETTER_LAST.fullmatch(text):
        *north, north_letter, east_degrees, east_minutes, east_seconds, east_letter = match.groups()
        east = [east_degrees, east_minutes, east_seconds]
    elif match := LETTER_FIRST.fullmatch(text):
        north_letter, *north, east_letter, east_degrees, east_minutes, east_seconds = match.groups()
        east = [east_degrees, east_minutes, east_seconds]
    else:
        return None
    latitude, longitude = sexagesimal(north), sexagesimal(east)
    return (
        -latitude if north_letter.upper() == "S" else latitude,
        longitude if east_letter.upper() == "E" else -longitude,
    )


def from_url(text: str) -> Coordinates | None:
    if text.lower().startswith("geo:"):
        return from_text(re.split(r"[;?]", text[4:])[0])
    parts = urlsplit(text)
    if parts.hostname in {"goo.gl", "maps.app.goo.gl", "osm.org", "bit.ly"} and not parts.query:
        raise ValueError("is a shortened address; open it and copy the long one")
    query = dict(parse_qsl(parts.query))
    for latitude, longitude in QUERIES:
        if latitude in query and longitude in query:
            return from_text(f"{query[latitude]}, {query[longitude]}")
    for name in PARAMETERS:
        if match := PAIR.match(re.sub(r"^(?:loc:|point\.)", "", query.get(name, ""))):
            return number(match[1]), number(match[2])
    for pattern in PATHS:
        if match := pattern.search(unquote(f"{parts.path}#{parts.fragment}")):
            return number(match[1]), number(match[2])
    return None


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def sexagesimal(parts: list[str | None]) -> float:
    degrees, minutes, seconds = (float(part or 0) for part in parts)
    return degrees + minutes / 60 + seconds / 3600
