"""The JSON Schemas of the OpenAPI document: rooms, clusters, statistics, changes, errors and their bodies."""

from collections.abc import Collection
from typing import Any

from rooms.api import ogc
from rooms.api.formats import NDJSON
from rooms.api.geo import MAX_DISTANCE
from rooms.api.parameters import PARAMETERS, tuple_schema
from rooms.columns import COLUMNS, Column

Schema = dict[str, Any]


def object_schema(required: Collection[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def value_schema(column: Column) -> Schema:
    """The schema of a column's value in a response, with its description."""
    schema = column.schema | {"description": column.description}
    return schema | {"type": [schema["type"], "null"]} if column.nullable else schema


def lines_of(name: str, description: str) -> Schema:
    """Text whose lines each have this schema."""
    line = {"$ref": f"#/components/schemas/{name}"}
    return TEXT | {"description": description, "contentMediaType": NDJSON.media_type, "contentSchema": line}


TEXT: Schema = {"type": "string"}
HINT: Schema = TEXT | {"description": "the parameter that was meant, or an alternative"}
NATURAL: Schema = {"type": "integer", "minimum": 0}

ROOM = object_schema(COLUMNS, **{name: value_schema(column) for name, column in COLUMNS.items()})
ROOM["properties"]["distance"] = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_DISTANCE,
    "description": "metres, with `near`",
}
LISTED_ROOM = {"type": "object", "properties": ROOM["properties"]}
"""Nothing is required: `fields` says what a room of a list has, all but `distance` where it is not given."""

FEATURE = object_schema(
    ("type", "id", "geometry", "properties"),
    type={"const": "Feature"},
    id=COLUMNS["code"].schema,
    geometry=object_schema(
        ("type", "coordinates"),
        type={"const": "Point"},
        coordinates={"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    ),
    properties={"type": "object"},
)
LINKS: Schema = {
    "type": "array",
    "items": object_schema(("href", "rel"), href=TEXT, rel=TEXT, type=TEXT, title=TEXT),
}
BOX: Schema = {
    "type": "array",
    "items": {"type": "number"},
    "oneOf": [PARAMETERS["bbox"].schema, tuple_schema(*[{"type": "number"}] * ogc.HEIGHTS)],
}
"""The parameter `bbox` of OGC API – Features."""
FEATURE["properties"]["links"] = LINKS | {"description": "in OGC API – Features"}


def distribution_schema(name: str) -> Schema:
    """Statistics of one field; all null where no room has it."""
    value = {"type": ["integer", "null"], "description": COLUMNS[name].unit}
    edge = object_schema(("from", "to", "count"), to=value, count=NATURAL, **{"from": NATURAL})
    quartiles = {"type": ["array", "null"], "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}
    return object_schema(
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


BBOX: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
CLUSTER: dict[str, Schema] = {
    "count": {"type": "integer", "minimum": 1},
    "min_price": NATURAL | {"description": COLUMNS["price"].unit},
    "median_price": NATURAL | {"description": COLUMNS["price"].unit},
    "room": {
        "anyOf": [{"$ref": "#/components/schemas/Room"}, {"type": "null"}],
        "description": "the room itself, where it is the only one of its cell",
    },
}
MAP: dict[str, Schema] = {
    "cell_size": {"type": "number", "description": "the width and height of a cell, degrees"},
    "sampled": {"type": "boolean", "description": "whether counts and prices are from a sample"},
    "count": NATURAL | {"description": "the rooms in all these cells"},
}


SCHEMAS = {
    "Room": ROOM,
    "ListedRoom": LISTED_ROOM,
    "Cluster": object_schema(
        (*CLUSTER, "longitude", "latitude", "bbox"),
        **CLUSTER,
        longitude={"type": "number", "description": "the centre of the rooms"},
        latitude={"type": "number", "description": "the centre of the rooms"},
        bbox=BBOX | {"description": "the cell: west, south, east, north"},
    ),
    "FeaturePage": object_schema(
        ("type", "features", "links", "timeStamp", "numberReturned"),
        type={"const": "FeatureCollection"},
        features={"type": "array", "items": FEATURE},
        links=LINKS,
        timeStamp={"type": "string", "format": "date-time"},
        numberReturned=NATURAL,
        numberMatched=NATURAL | {"description": "where it is known exactly: up to about 10,000"},
    ),
    "Statistics": object_schema(
        ("count", "sampled", "price", "size", "bbox"),
        count=NATURAL,
        sampled={"type": "boolean", "description": "whether the statistics are from a sample"},
        price=distribution_schema("price"),
        size=distribution_schema("size"),
        bbox={
            "type": ["array", "null"],
            "items": {"type": "number"},
            "description": "west, south, east, north",
        },
    ),
    "RoomChange": {
        "oneOf": [
            {"$ref": "#/components/schemas/Room"},
            object_schema(("code", "deleted"), code=COLUMNS["code"].schema, deleted={"const": True}),
            object_schema(
                ("cursor",),
                cursor=TEXT,
                complete_to={
                    "type": ["string", "null"],
                    "format": "date-time",
                    "description": "all that was committed before this time is in the response; null where a "
                    "transaction that this server cannot see holds the feed back",
                },
            ),
        ]
    },
    "Problem": object_schema(
        ("type", "title", "status", "message", "detail"),
        type={"enum": ["ParametersError", "ResourceError", "MethodError", "AccessError", "SystemError"]},
        title=TEXT,
        status={"type": "integer"},
        message=TEXT,
        detail=TEXT | {"description": "the message, under the name that RFC 9457 gives it"},
        errors={
            "type": "array",
            "items": object_schema(("parameter", "message"), parameter=TEXT, message=TEXT, hint=HINT),
        },
        **{"try": {"type": "string", "description": "a URL that works"}},
    ),
}
BODIES: dict[str, Schema] = {
    "json": {"type": "array", "items": {"$ref": "#/components/schemas/ListedRoom"}},
    "geojson": object_schema(
        ("type", "features"),
        type={"const": "FeatureCollection"},
        features={"type": "array", "items": FEATURE},
    ),
    "ndjson": lines_of("ListedRoom", "Each line is one of ListedRoom."),
    "csv": TEXT,
}
CLUSTERS: dict[str, Schema] = {
    "json": object_schema(
        (*MAP, "cells"),
        **MAP,
        cells={"type": "array", "items": {"$ref": "#/components/schemas/Cluster"}},
    ),
    "geojson": object_schema(
        ("type", *MAP, "features"),
        type={"const": "FeatureCollection"},
        **MAP,
        features={
            "type": "array",
            "items": object_schema(
                ("type", "bbox", "geometry", "properties"),
                type={"const": "Feature"},
                bbox=BBOX,
                geometry=FEATURE["properties"]["geometry"],
                properties=object_schema(CLUSTER, **CLUSTER),
            ),
        },
    ),
}
PLACES: Schema = {
    "type": "array",
    "items": object_schema(
        ("name", "latitude", "longitude", "within", "population"),
        name=TEXT | {"description": "with its city, region or country"},
        latitude=COLUMNS["latitude"].schema,
        longitude=COLUMNS["longitude"].schema,
        within=NATURAL | {"description": "metres around its centre that hold most of the place"},
        population=NATURAL,
    ),
}
