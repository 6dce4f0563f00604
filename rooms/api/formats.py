"""
How rooms are written. PostgreSQL writes each room itself, as one text a row: a format is the SQL of that
text and what stands around and between the texts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from django.http import HttpRequest

from rooms.api.errors import NotAcceptable
from rooms.api.negotiation import preferred
from rooms.api.operators import FIELDS

COLUMNS = tuple(FIELDS)
"""What a room shows, in this order; `distance` follows where a search is near a place."""

Columns = tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """A way to write rooms. `line` and `head` take the columns that the rooms have."""

    name: str
    media_type: str
    line: Callable[[Columns], str]
    """SQL of one room's text, over a row named `room`; without a line end."""
    head: Callable[[Columns], str] = lambda columns: ""
    between: str = ","
    tail: str = ""
    streams: bool = False
    """Whether lines stand by themselves, each ended by `between`, so that there may be any number."""

    def written(self, lines: list[str], columns: Columns) -> str:
        """The whole text, with the lines that PostgreSQL wrote."""
        end = self.between if self.streams and lines else ""
        return f"{self.head(columns)}{self.between.join(lines)}{end}{self.tail}"

    @property
    def content_type(self) -> str:
        return f"{self.media_type}; charset=utf-8" if self.media_type.startswith("text/") else self.media_type


def written_by_sql(template: str) -> str:
    """SQL that writes a template, in which | opens and closes an expression; null is written as nothing."""
    parts = template.split("|")
    arguments = [part if index % 2 else f"'{part}'" for index, part in enumerate(parts)]
    return f"concat({', '.join(arguments)})"


def json_value(column: str) -> str:
    """A column as a JSON value; no text that is ever in one needs escapes."""
    if column == "code":
        return '"|room.code|"'
    if column == "distance":
        return "|round(room.distance::numeric, 1)|"  # to the decimetre
    return f"|coalesce(room.{column}::text, 'null')|" if FIELDS[column].nullable else f"|room.{column}|"


def json_members(columns: Columns) -> str:
    return ",".join(f'"{column}":{json_value(column)}' for column in columns)


@cache
def json_line(columns: Columns) -> str:
    return written_by_sql(f"{{{json_members(columns)}}}")


@cache
def csv_line(columns: Columns) -> str:
    """A record of RFC 4180; no value needs quotes. An unknown size is empty."""
    cells = {column: f"|room.{column}|" for column in columns} | {"distance": json_value("distance")}
    return written_by_sql(",".join(cells[column] for column in columns))


@cache
def geojson_line(columns: Columns) -> str:
    """A feature of RFC 7946: longitude first; all that is no place is a property."""
    properties = tuple(column for column in columns if column not in {"latitude", "longitude"})
    return written_by_sql(
        '{"type":"Feature","id":"|room.code|",'
        '"geometry":{"type":"Point","coordinates":[|room.longitude|,|room.latitude|]},'
        f'"properties":{{{json_members(properties)}}}}}'
    )


JSON = Format("json", "application/json", json_line, lambda columns: "[", tail="]")
NDJSON = Format("ndjson", "application/x-ndjson", json_line, between="\n", streams=True)
CSV = Format("csv", "text/csv", csv_line, lambda columns: ",".join(columns) + "\r\n", "\r\n", streams=True)
GEOJSON = Format(
    "geojson",
    "application/geo+json",
    geojson_line,
    lambda columns: '{"type":"FeatureCollection","features":[',
    tail="]}",
)
HTML = Format("html", "text/html", json_line, lambda columns: "[", tail="]")
"""For people: a template shows what JSON says."""

FORMATS = {format.name: format for format in (JSON, NDJSON, CSV, GEOJSON)}
"""By suffix, as in /rooms.csv."""

BY_MEDIA_TYPE = {format.media_type: format for format in (*FORMATS.values(), HTML)}


def choose(request: HttpRequest, suffix: str = "") -> Format:
    """The format that the suffix names, else the one that the client prefers; raises NotAcceptable."""
    if suffix:
        return FORMATS[suffix]
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    if accept in {"*/*", JSON.media_type}:  # what most programs send, without parsing it
        return JSON
    media_type = preferred(accept, list(BY_MEDIA_TYPE))
    if media_type is None:
        raise NotAcceptable(f"Rooms come as {', '.join(BY_MEDIA_TYPE)}; also by suffix, as in /rooms.csv.")
    return BY_MEDIA_TYPE[media_type]
