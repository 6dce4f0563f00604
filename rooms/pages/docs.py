"""The page `/docs`: every parameter with its type, its unit and an example of a room that is there."""

from dataclasses import replace
from typing import Any

from django.db import Error
from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.formats import FORMATS, GEOJSON, JSON
from rooms.api.operators import FILTERS
from rooms.api.parameters import LISTED, PARAMETERS, Parameter
from rooms.columns import COLUMNS, DECIMALS
from rooms.models import Room
from rooms.pages.examples import Example
from rooms.responses import site_url

CANDIDATES = 20
"""Rooms of which one whose values are all known is taken for the examples."""


def render_docs(request: HttpRequest) -> str:
    """
    Every parameter with its type, unit and an example. One query, for a room; without rooms or without a
    database the examples are those of the columns.
    """
    base = site_url(request)
    values = example_values()
    columns = {name: replace(column, example=values[name]) for name, column in COLUMNS.items()}
    texts = parameter_examples(values)
    filters = [
        {
            "column": column,
            "filters": [
                {
                    "filter": row,
                    "example": Example(
                        base, f"/rooms?{row.name}={row.operator.example(columns[row.column.name])}"
                    ),
                }
                for row in FILTERS.values()
                if row.column is column
            ],
        }
        for column in COLUMNS.values()
    ]
    others = [
        {
            "parameter": parameter,
            "type": schema_label(parameter.schema),
            "example": parameter_request(base, parameter, texts),
        }
        for parameter in PARAMETERS.values()
    ]
    return render_to_string(
        "rooms/docs.html",
        {
            "base": base,
            "first": Example(base, f"/rooms?filter_price__lte={values['price']}&order=price&limit=2"),
            "filters": filters,
            "others": others,
            "formats": FORMATS,
            "urls": url_rows(base, values, texts),
            "decimals": DECIMALS,
            "wrong": Example(base, f"/rooms?price__lt={values['price']}", fails=True),
        },
        request,
    )


def example_values() -> dict[str, str]:
    """The values of a room that is there, as texts; the columns' examples in place of what is missing."""
    examples = {name: column.example for name, column in COLUMNS.items()}
    try:
        rows = list(Room.objects.order_by("code").values_list(*COLUMNS)[:CANDIDATES])
    except Error:  # this page explains what else still responds
        return examples
    if not rows:
        return examples
    room = next((row for row in rows if None not in row), rows[0])
    return {
        name: example if value is None else str(value)
        for (name, example), value in zip(examples.items(), room, strict=True)
    }


def parameter_examples(values: dict[str, str]) -> dict[str, str]:
    """The values of the parameters; places are those of the room."""
    latitude, longitude = float(values["latitude"]), float(values["longitude"])
    west, east = max(longitude - 0.2, -180), min(longitude + 0.2, 180)
    south, north = max(latitude - 0.2, -90), min(latitude + 0.2, 90)
    return {name: parameter.example for name, parameter in PARAMETERS.items()} | {
        "bbox": f"{west:.4f},{south:.4f},{east:.4f},{north:.4f}",
        "near": f"{longitude:.4f},{latitude:.4f}",
    }


def parameter_request(base: str, parameter: Parameter, texts: dict[str, str]) -> Example:
    """A request with the parameter and the one that it requires."""
    if not texts[parameter.name]:  # a cursor
        return Example(base, "/rooms?limit=2", head=True)
    query = f"{parameter.name}={texts[parameter.name]}"
    if parameter.needs:
        query = f"{parameter.needs}={texts[parameter.needs]}&{query}"
    path = "/rooms" if parameter.name in LISTED else "/rooms/clusters"
    return Example(base, f"{path}?{query}")


def url_rows(base: str, values: dict[str, str], texts: dict[str, str]) -> dict[str, Any]:
    """The examples of the URLs."""
    return {
        "list": Example(base, "/rooms?limit=2", accept=GEOJSON.media_type),
        "formats": [
            (name, output, Example(base, f"/rooms.{name}?limit=2", is_json=output in {JSON, GEOJSON}))
            for name, output in FORMATS.items()
        ],
        "room": Example(base, f"/rooms/{values['code']}"),
        "statistics": Example(base, f"/rooms/stats?filter_price__lte={values['price']}"),
        "changes": Example(base, "/rooms/changes", is_json=False),
        "clusters": Example(base, f"/rooms/clusters?bbox={texts['bbox']}&zoom=9"),
        "ogc": Example(base, "/ogc/collections/rooms/items?limit=2"),
    }


def schema_label(schema: dict[str, Any]) -> str:
    """A short text for the schema of a parameter."""
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if schema["type"] == "array":
        return f"{len(schema['prefixItems'])} numbers" if "prefixItems" in schema else "list of fields"
    if "minimum" in schema:
        return f"{schema['type']}, {schema['minimum']} … {schema['maximum']}"
    return str(schema["type"])
