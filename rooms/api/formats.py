"""
The formats of a response. PostgreSQL serialises each room: a format is the SQL of a room's text, and the
text before, between and after the rooms.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from django.http import HttpRequest

from rooms.api.errors import NotAcceptable
from rooms.api.negotiation import preferred_media_type
from rooms.columns import COLUMNS

Names = tuple[str, ...]
"""The columns of a line, by name and in order; `distance` is one of them where a search has `near`."""


@dataclass(frozen=True)
class Format:
    """A format of rooms. `line` and `head` take the names of the columns."""

    name: str
    media_type: str
    line: Callable[[Names], str]
    """SQL of one room's text, from a row named `room`; without a line end."""
    head: Callable[[Names], str] = lambda names: ""
    separator: str = ","
    tail: str = ""
    ends_lines: bool = False
    """Whether the last line, too, ends with `separator`."""
    streams: bool = False
    """Whether a request without `limit` gets all rooms, in a response of any length."""

    def write_text(self, lines: list[str], names: Names) -> str:
        """The text of a response from the lines that PostgreSQL serialised."""
        return f"{self.head(names)}{self.separator.join(lines)}{self.end(bool(lines))}"

    def end(self, has_lines: bool) -> str:
        """The text after the last line; without it a response is not complete."""
        return f"{self.separator if self.ends_lines and has_lines else ''}{self.tail}"

    @property
    def content_type(self) -> str:
        return f"{self.media_type}; charset=utf-8" if self.media_type.startswith("text/") else self.media_type


@dataclass(frozen=True)
class Value:
    """A part of a line that is an SQL expression."""

    sql: str


def line_sql(parts: Iterable[str | Value]) -> str:
    """SQL that concatenates constants and values; null becomes the empty string."""
    arguments: list[str] = []
    for is_constant, group in groupby(parts, key=lambda part: isinstance(part, str)):
        if is_constant:
            arguments.append("'" + "".join(str(part) for part in group) + "'")
        else:
            arguments += [part.sql for part in group if isinstance(part, Value)]
    return f"concat({', '.join(arguments)})"


DISTANCE = Value("round(room.distance::numeric, 1)")
"""In metres, to the decimetre."""


def plain_value(name: str) -> Value:
    return DISTANCE if name == "distance" else Value(COLUMNS[name].sql)


def json_value(name: str) -> list[str | Value]:
    """A column as a JSON value; no column holds text that needs escaping."""
    value = plain_value(name)
    if name == "distance":
        return [value]
    if COLUMNS[name].type.schema["type"] == "string":
        return ['"', value, '"']
    return [Value(f"coalesce({value.sql}::text, 'null')")] if COLUMNS[name].nullable else [value]


def json_object(names: Names) -> list[str | Value]:
    parts: list[str | Value] = []
    for name in names:
        parts += [",", f'"{name}":', *json_value(name)]
    return ["{", *parts[1:], "}"]


@cache
def json_line(names: Names) -> str:
    return line_sql(json_object(names))


@cache
def csv_line(names: Names) -> str:
    """A record of RFC 4180; no value needs quotes. Null is empty."""
    parts: list[str | Value] = []
    for name in names:
        parts += [plain_value(name), ","]
    return line_sql(parts[:-1])


@cache
def geojson_line(names: Names) -> str:
    """A feature of RFC 7946: id and geometry always, longitude first; the other names are properties."""
    longitude, latitude = plain_value("longitude"), plain_value("latitude")
    properties = tuple(name for name in names if name not in {"latitude", "longitude"})
    feature: list[str | Value] = ['{"type":"Feature","id":', *json_value("code")]
    feature += [',"geometry":{"type":"Point","coordinates":[', longitude, ",", latitude, "]}"]
    return line_sql([*feature, ',"properties":', *json_object(properties), "}"])


JSON = Format("json", "application/json", json_line, lambda names: "[", tail="]")
NDJSON = Format("ndjson", "application/x-ndjson", json_line, separator="\n", ends_lines=True, streams=True)
CSV = Format(
    "csv",
    "text/csv",
    csv_line,
    lambda names: ",".join(names) + "\r\n",
    separator="\r\n",
    ends_lines=True,
    streams=True,
)
GEOJSON = Format(
    "geojson",
    "application/geo+json",
    geojson_line,
    lambda names: '{"type":"FeatureCollection","features":[',
    tail="]}",
    streams=True,
)
HTML = Format("html", "text/html", json_line)
"""For browsers; rooms.pages renders it from the rooms' values."""

FORMATS = {row.name: row for row in (JSON, NDJSON, CSV, GEOJSON)}
"""By suffix, as in /rooms.csv."""

BY_MEDIA_TYPE = {row.media_type: row for row in (*FORMATS.values(), HTML)}


def choose_format(
    request: HttpRequest, suffix: str = "", offers: Mapping[str, Format] = BY_MEDIA_TYPE
) -> Format:
    """The format that the suffix names, else the offer that the client prefers; raises NotAcceptable."""
    if suffix:
        return FORMATS[suffix]
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    if accept in {"*/*", JSON.media_type}:  # what most clients send: no need to parse it
        return JSON
    media_type = preferred_media_type(accept, list(offers))
    if media_type is None:
        raise NotAcceptable(f"Rooms come as {', '.join(offers)}; also by suffix, as in /rooms.csv.")
    return offers[media_type]
