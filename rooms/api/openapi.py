"""The OpenAPI 3.1 document of the rooms' addresses, made from the vocabulary that also reads the requests."""

import json
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from rooms.api.errors import MEDIA_TYPE
from rooms.api.formats import FORMATS, GEOJSON, HTML, JSON
from rooms.api.geo import FARTHEST
from rooms.api.operators import FILTERS
from rooms.api.parameters import PARAMETERS, PARSERS, WHERE
from rooms.columns import COLUMNS, DECIMALS, Column

Schema = dict[str, Any]

INTRODUCTION = f"""
Filters are `filter_<field>__<operator>=value`; all of them must hold. A body is always the bare list:
pages are linked by the header `Link`, counts come in `X-Total-Count`. Every mistake of a request is named
in one answer of type `application/problem+json`, with the nearest parameter that exists and an address
that works. Coordinates have {DECIMALS} decimals (1 mm): further ones are rounded, in rooms and in
questions alike. A request line (method, address, version) of more than 4094 bytes is answered 414, a header
of more than 8 kB 431, too many requests or exports at once 429 with `Retry-After`.
"""


@cache
def document() -> str:
    """The document as JSON text."""
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Rent-o-matic", "version": "1.0", "description": INTRODUCTION.strip()},
            "servers": [{"url": "/"}],
            "paths": dict(paths()),
            "components": {
                "schemas": SCHEMAS,
                "parameters": {parameter["name"]: parameter for parameter in parameters()},
            },
        }
    )


def paths() -> Iterator[tuple[str, Schema]]:
    listed = "The rooms that match, a page at a time"
    negotiated = {output.media_type: BODIES[output.name] for output in (*FORMATS.values(), HTML)}
    rooms = operation("listRooms", f"{listed}, in the format that Accept prefers", PARSERS, negotiated, PAGED)
    rooms["get"]["responses"]["302"] = {"description": "Of a form: its address without the empty fields"}
    yield "/rooms", rooms
    for output in FORMATS.values():
        summary = f"All the rooms that match, as {output.media_type}" if output.streams else listed
        bodies = {output.media_type: BODIES[output.name]}
        yield (
            f"/rooms.{output.name}",
            operation(f"listRooms{output.name.capitalize()}", summary, PARSERS, bodies, PAGED),
        )
    figures = {JSON.media_type: {"$ref": "#/components/schemas/Figures"}}
    yield "/rooms/stats", operation("describeRooms", "Figures of the rooms that match", WHERE, figures, {})
    code = {
        "name": "code",
        "in": "path",
        "required": True,
        "schema": COLUMNS["code"].schema,
        "example": COLUMNS["code"].example,
    }
    one = negotiated | {JSON.media_type: {"$ref": "#/components/schemas/Room"}, GEOJSON.media_type: FEATURE}
    found = operation("getRoom", "One room", (), one, {})
    found["get"]["parameters"] = [code]
    yield "/rooms/{code}", found


def operation(
    name: str, description: str, allowed: Collection[str], bodies: Schema, headers: Schema
) -> Schema:
    """What GET does at one address, and how it may fail."""
    content = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
    return {
        "get": {
            "operationId": name,
            "summary": description,
            "parameters": [
                {"$ref": f"#/components/parameters/{name}"} for name in PARSERS if name in allowed
            ],
            "responses": {
                "200": {"description": description, "headers": CACHED | headers, "content": content},
                "304": {"description": "What If-None-Match names is still right"},
                "400": problem("Parameters that are unknown, malformed, out of range or given twice"),
                "404": problem("No room has this code"),
                "406": problem("A format that is not spoken here"),
                "414": problem("A request line (method, address, version) of more than 4094 bytes"),
                "429": problem("Too many requests or exports at once: try again after Retry-After seconds"),
                "503": problem("The database is away, slow or full: try again after Retry-After seconds"),
            },
        }
    }


def parameters() -> Iterator[Schema]:
    """Every query parameter that there is."""
    for name, row in FILTERS.items():
        unit = f" ({row.column.unit})" if row.column.unit else ""
        yield parameter(name, f"Rooms whose {row.label} …; {row.column.description}{unit}.", row.schema)
    for name, other in PARAMETERS.items():
        yield parameter(name, other.description, other.schema)


def parameter(name: str, description: str, schema: Schema) -> Schema:
    listed = {"style": "form", "explode": False} if schema["type"] == "array" else {}
    return {"name": name, "in": "query", "description": description, "schema": schema} | listed


def problem(description: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema}, "text/html": {"schema": TEXT}},
    }


def header(description: str, **schema: Any) -> Schema:
    return {"description": description, "schema": schema}


def shape(required: Collection[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def value_schema(column: Column) -> Schema:
    """A column's value in an answer, with what it means."""
    schema = column.schema | {"description": column.description}
    return schema | {"type": [schema["type"], "null"]} if column.nullable else schema


TEXT: Schema = {"type": "string"}
HINT: Schema = TEXT | {"description": "the parameter that was meant, or what there is instead"}
NATURAL: Schema = {"type": "integer", "minimum": 0}
CACHED = {
    "ETag": header("A weak validator of the body", type="string"),
    "Server-Timing": header("Milliseconds in the database", type="string"),
}
PAGED = {
    "Link": header('rel="first" and, where more rooms follow, rel="next" (RFC 8288)', type="string"),
    "X-Total-Count": header("How many rooms match, where `count` asks", type="integer"),
    "X-Total-Count-Precision": header("How that is known", enum=["exact", "estimated"]),
}

ROOM = shape(COLUMNS, **{name: value_schema(column) for name, column in COLUMNS.items()})
ROOM["properties"]["distance"] = {
    "type": "number",
    "minimum": 0,
    "maximum": FARTHEST,
    "description": "metres, with `near`",
}

FEATURE = shape(
    ("type", "id", "geometry", "properties"),
    type={"const": "Feature"},
    id=COLUMNS["code"].schema,
    geometry=shape(
        ("type", "coordinates"),
        type={"const": "Point"},
        coordinates={"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    ),
    properties={"type": "object"},
)


def distribution(name: str) -> Schema:
    """Figures of one field; all null where no room has it."""
    value = {"type": ["integer", "null"], "description": COLUMNS[name].unit}
    edge = shape(("from", "to", "count"), to=value, count=NATURAL, **{"from": NATURAL})
    quartiles = {"type": ["array", "null"], "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}
    return shape(
        ("min", "max", "quartiles", "histogram"),
        min=value,
        max=value,
        quartiles=quartiles,
        histogram={
            "type": "array",
            "items": edge,
            "description": "bins [from, to); the last may have no end",
        },
        unknown=NATURAL,
    )


SCHEMAS = {
    "Room": ROOM,
    "Figures": shape(
        ("count", "sampled", "price", "size", "bbox"),
        count=NATURAL,
        sampled={"type": "boolean", "description": "whether a sample stands for the rooms, which are many"},
        price=distribution("price"),
        size=distribution("size"),
        bbox={
            "type": ["array", "null"],
            "items": {"type": "number"},
            "description": "west, south, east, north",
        },
    ),
    "Problem": shape(
        ("type", "title", "status", "message"),
        type={"enum": ["ParametersError", "ResourceError", "MethodError", "AccessError", "SystemError"]},
        title=TEXT,
        status={"type": "integer"},
        message=TEXT,
        errors={
            "type": "array",
            "items": shape(("parameter", "message"), parameter=TEXT, message=TEXT, hint=HINT),
        },
        **{"try": {"type": "string", "description": "an address that works"}},
    ),
}
BODIES: dict[str, Schema] = {
    "json": {"type": "array", "items": {"$ref": "#/components/schemas/Room"}},
    "geojson": shape(
        ("type", "features"),
        type={"const": "FeatureCollection"},
        features={"type": "array", "items": FEATURE},
    ),
    "ndjson": TEXT,
    "csv": TEXT,
    "html": TEXT,
}
