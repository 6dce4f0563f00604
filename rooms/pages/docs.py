"""The page `/docs`: every parameter with its type, its unit, an example and a command that runs."""

from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.formats import FORMATS
from rooms.api.operators import FILTERS
from rooms.api.parameters import LISTED, PARAMETERS, Parameter
from rooms.columns import COLUMNS, DECIMALS
from rooms.responses import site_url


def render_docs(request: HttpRequest) -> str:
    """Every parameter with its type, unit, example and a command that runs."""
    base = site_url(request)
    filters = [
        {
            "column": column,
            "filters": [
                {"filter": row, "command": f"curl '{base}/rooms?{row.name}={row.example}'"}
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
            "command": command(base, parameter),
        }
        for parameter in PARAMETERS.values()
    ]
    return render_to_string(
        "rooms/docs.html",
        {
            "base": base,
            "filters": filters,
            "others": others,
            "formats": FORMATS,
            "decimals": DECIMALS,
            "example": COLUMNS["code"].example,
        },
        request,
    )


def command(base: str, parameter: Parameter) -> str:
    """A curl command with the parameter and the one that it requires."""
    if not parameter.example:
        return f"curl -sI '{base}/rooms?limit=2'"
    query = f"{parameter.name}={parameter.example}"
    if parameter.needs:
        query = f"{parameter.needs}={PARAMETERS[parameter.needs].example}&{query}"
    path = "/rooms" if parameter.name in LISTED else "/rooms/clusters"
    return f"curl '{base}{path}?{query}'"


def schema_label(schema: dict[str, Any]) -> str:
    """A short text for the schema of a parameter."""
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if schema["type"] == "array":
        return f"{len(schema['prefixItems'])} numbers" if "prefixItems" in schema else "list of fields"
    if "minimum" in schema:
        return f"{schema['type']}, {schema['minimum']} … {schema['maximum']}"
    return str(schema["type"])
