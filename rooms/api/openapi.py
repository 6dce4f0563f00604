"""The OpenAPI 3.1 document, generated from the tables that also parse the requests."""

import json
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from rooms.api import changes, ogc, places
from rooms.api.clusters import FORMATS as CLUSTER_FORMATS
from rooms.api.errors import MEDIA_TYPE
from rooms.api.formats import FORMATS, GEOJSON, JSON, NDJSON
from rooms.api.operators import FILTERS
from rooms.api.pagination import MAX_LIMIT
from rooms.api.parameters import LISTED, MAPPED, PARAMETERS, PARSERS, WHERE
from rooms.api.schemas import BODIES, BOX, CLUSTERS, FEATURE, PLACES, SCHEMAS, TEXT, Schema, lines_of
from rooms.columns import COLUMNS, DECIMALS

INTRODUCTION = f"""
Filters are `filter_<field>__<operator>=value`; all of them must hold. A body is always the bare list:
pages are linked by the header `Link`, counts are in `X-Total-Count`. All errors of a request are reported
in one response of type `application/problem+json`, with the closest parameter that exists and a URL
that works. Coordinates have {DECIMALS} decimals (1 mm): further ones are rounded, in rooms and in
requests alike. Lists are separated by commas, or each value has the name again. `/rooms` and a room
are pages, too, for a browser (`text/html`).
"""

TAGS = {
    "rooms": "Lists of rooms, a page or all of them, and single rooms",
    "statistics": "What the rooms of a search are like",
    "changes": "The feed that keeps a copy of the rooms up to date",
    "map": "Where the rooms of a search are",
    "features": "The same rooms by OGC API – Features",
    "places": "Names of cities and districts, for a search around them",
}


CHANGES = "All rooms, or the changes since a cursor or a time"
CHANGE_LINES = (
    "Each line is one of RoomChange: a room as it is now, a deletion, or a cursor that stands behind all "
    "lines before it. The last line is a cursor with `complete_to`."
)


@cache
def document() -> str:
    """The document as JSON text."""
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Rent-o-matic",
                "version": "1.0",
                "description": INTRODUCTION.strip(),
                "contact": {"name": "Rent-o-matic"},
            },
            "servers": [{"url": "/"}],
            "security": [],
            "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
            "paths": dict(paths()),
            "components": {
                "schemas": SCHEMAS,
                "parameters": {parameter["name"]: parameter for parameter in parameters()},
            },
        }
    )


def paths() -> Iterator[tuple[str, Schema]]:
    list_summary = "The rooms that match, a page at a time"
    negotiated = {output.media_type: BODIES[output.name] for output in FORMATS.values()}
    yield (
        "/rooms",
        operation(
            "listRooms", f"{list_summary}, in the format that Accept prefers", LISTED, negotiated, PAGED
        ),
    )
    for output in FORMATS.values():
        summary = f"All the rooms that match, as {output.media_type}" if output.streams else list_summary
        bodies = {output.media_type: BODIES[output.name]}
        yield (
            f"/rooms.{output.name}",
            operation(f"listRooms{output.name.capitalize()}", summary, LISTED, bodies, PAGED),
        )
    statistics = {JSON.media_type: {"$ref": "#/components/schemas/Statistics"}}
    yield (
        "/rooms/stats",
        operation("describeRooms", "Statistics of the rooms that match", WHERE, statistics, {}, "statistics"),
    )
    feed = operation("listChanges", CHANGES, (), {NDJSON.media_type: BODIES["ndjson"]}, {}, "changes")
    feed["get"]["parameters"] = [
        parameter(name, row.description, row.schema) for name, row in changes.PARAMETERS.items()
    ]
    feed["get"]["responses"] |= {
        "200": {
            "description": CHANGES,
            "content": {NDJSON.media_type: {"schema": lines_of("RoomChange", CHANGE_LINES)}},
        },
        "410": problem("The changes since then are not kept: begin again without parameters"),
    }
    del feed["get"]["responses"]["304"]
    yield "/rooms/changes", feed
    summary = "The map of the rooms that match, in cells of a grid"
    clusters = {media_type: CLUSTERS[output.name] for media_type, output in CLUSTER_FORMATS.items()}
    yield "/rooms/clusters", operation("mapRooms", summary, MAPPED, clusters, {}, "map")
    for media_type, output in CLUSTER_FORMATS.items():
        name = f"mapRooms{output.name.capitalize()}"
        yield (
            f"/rooms/clusters.{output.name}",
            operation(name, summary, MAPPED, {media_type: clusters[media_type]}, {}, "map"),
        )
    code = {
        "name": "code",
        "in": "path",
        "required": True,
        "schema": COLUMNS["code"].schema,
        "example": COLUMNS["code"].example,
    }
    bodies = negotiated | {
        JSON.media_type: {"$ref": "#/components/schemas/Room"},
        GEOJSON.media_type: FEATURE,
    }
    detail = operation("getRoom", "One room", (), bodies, {})
    detail["get"]["parameters"] = [code]
    detail["get"]["responses"]["404"] = problem("No room has this code")
    yield "/rooms/{code}", detail
    for output in (JSON, GEOJSON):
        name, body = f"getRoom{output.name.capitalize()}", {output.media_type: bodies[output.media_type]}
        single = operation(name, f"One room as {output.name.upper()}", (), body, {})
        single["get"]["parameters"] = [code]
        single["get"]["responses"]["404"] = problem("No room has this code")
        yield f"/rooms/{{code}}.{output.name}", single
    yield from ogc_paths(code)
    summary = "The cities and districts whose name begins with a text, the most populous first"
    completion = operation("completePlaces", summary, (), {JSON.media_type: PLACES}, {}, "places")
    beginning = parameter(places.QUERY.name, places.QUERY.description, places.QUERY.schema)
    completion["get"]["parameters"] = [beginning | {"required": True, "example": places.QUERY.example}]
    yield "/places", completion


def ogc_paths(code: Schema) -> Iterator[tuple[str, Schema]]:
    """OGC API – Features; `code` is the parameter of one room's path."""
    for path, name, summary in (
        (ogc.ROOT, "describeService", "OGC API – Features: the landing page"),
        (f"{ogc.ROOT}/conformance", "describeConformance", "What of the standard is implemented"),
        (f"{ogc.ROOT}/collections", "listCollections", "The collections: one, of rooms"),
        (ogc.COLLECTION, "describeCollection", "The collection of rooms"),
    ):
        yield path, operation(name, summary, (), {JSON.media_type: {"type": "object"}}, {}, "features")
    summary = "The rooms that match as features, a page at a time"
    features = {GEOJSON.media_type: {"$ref": "#/components/schemas/FeaturePage"}}
    more_tolerant = {"limit", "bbox"}
    items = operation(
        "listFeatures", summary, ogc.ALLOWED - more_tolerant, features, {"Link": PAGED["Link"]}, "features"
    )
    items["get"]["parameters"] += [
        parameter(
            "limit", f"Rooms on a page; above {MAX_LIMIT:,} as many.", {"type": "integer", "minimum": 1}
        ),
        parameter(
            "bbox", PARAMETERS["bbox"].description + " It may have heights, which rooms have not.", BOX
        ),
        *(
            parameter(name, f"Rooms whose {name} is this; the same as {same}.", COLUMNS[name].schema)
            for name, same in ogc.EQUALS.items()
        ),
        parameter(
            "datetime",
            "A time or an interval. Rooms have none: all of them match.",
            TEXT | {"pattern": ogc.INTERVAL},
        ),
    ]
    yield ogc.ITEMS, items
    item = operation("getFeature", "One room as a feature", (), {GEOJSON.media_type: FEATURE}, {}, "features")
    item["get"]["parameters"] = [code]
    item["get"]["responses"]["404"] = problem("No room has this code")
    yield f"{ogc.ITEMS}/{{code}}", item


def operation(
    name: str,
    description: str,
    allowed: Collection[str],
    bodies: Schema,
    headers: Schema,
    tag: str = "rooms",
) -> Schema:
    """The GET operation of one URL, and its possible errors."""
    content = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
    return {
        "get": {
            "operationId": name,
            "summary": description,
            "description": f"{description}.",
            "tags": [tag],
            "parameters": [
                {"$ref": f"#/components/parameters/{name}"} for name in PARSERS if name in allowed
            ],
            "responses": {
                "200": {"description": description, "headers": CACHED | headers, "content": content},
                "304": {"description": "Not modified: If-None-Match names the current ETag"},
                "400": problem("Parameters that are unknown, malformed, out of range or given twice"),
                "405": problem("Another method than GET and HEAD"),
                "406": problem("A format that is not available"),
                "414": problem("A request line (method, URL, version) of more than 4094 bytes"),
                "429": problem("Too many requests or exports at once: try again after Retry-After seconds"),
                "431": problem("A header of more than 8 kB"),
                "503": problem(
                    "The database is unavailable, slow or full: try again after Retry-After seconds"
                ),
            },
        }
    }


def parameters() -> Iterator[Schema]:
    """All query parameters."""
    for name, row in FILTERS.items():
        unit = f" ({row.column.unit})" if row.column.unit else ""
        yield parameter(name, f"Rooms whose {row.label} …; {row.column.description}{unit}.", row.schema)
    for name, other in PARAMETERS.items():
        yield parameter(name, other.description, other.schema)


def parameter(name: str, description: str, schema: Schema) -> Schema:
    definition: Schema = {"name": name, "in": "query", "description": description, "schema": schema}
    if schema["type"] == "array":
        definition |= {"style": "form", "explode": False}
    return definition


def problem(description: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def header(description: str, **schema: Any) -> Schema:
    return {"description": description, "schema": schema}


CACHED = {
    "ETag": header("A weak validator of the body", type="string"),
    "Server-Timing": header("Milliseconds of all queries", type="string"),
}
PAGED = {
    "Link": header(
        'rel="first" and, where there are any, rel="prev" and rel="next" (RFC 8288); not where all are sent',
        type="string",
    ),
    "X-Total-Count": header("How many rooms match, where `count` asks", type="integer"),
    "X-Total-Count-Precision": header("How that is known", enum=["exact", "estimated"]),
}
