"""The OpenAPI document and /docs: complete, valid, and consistent with the responses."""

import csv
import html
import io
import json
import re
import shlex
import subprocess

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from rentomatic_site import postgres
from rooms.api import changes, places
from rooms.api.formats import FORMATS
from rooms.api.operators import FILTERS
from rooms.api.parameters import LISTED, LISTS, MAPPED, PARAMETERS, PARSERS, WHERE
from rooms.columns import COLUMNS
from rooms.factories import RoomFactory, varied_rooms
from rooms.models import Room
from rooms.tests.conftest import BOOK_INSERT

pytestmark = pytest.mark.django_db


@pytest.fixture
def document(client):
    response = client.get("/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


def test_the_document_is_valid_openapi(document):
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_parameter_that_exists_is_in_the_document(document):
    described = document["components"]["parameters"]
    assert set(described) == set(PARSERS)

    def named(path):
        return {
            parameter["$ref"].rpartition("/")[2] for parameter in document["paths"][path]["get"]["parameters"]
        }

    for path in ("/rooms", *(f"/rooms.{name}" for name in FORMATS)):
        assert named(path) == set(LISTED)
    assert named("/rooms/stats") == set(WHERE)
    for path in ("/rooms/clusters", "/rooms/clusters.json", "/rooms/clusters.geojson"):
        assert named(path) == set(MAPPED)
    for parameter in described.values():
        assert len(parameter["description"]) > 20
        Draft202012Validator.check_schema(parameter["schema"])


@pytest.mark.parametrize("name", sorted(name for name, row in PARAMETERS.items() if "minimum" in row.schema))
def test_the_limits_of_a_parameter_are_those_of_its_schema(name):
    schema = PARAMETERS[name].schema
    for limit, outside in ((schema["minimum"], -1), (schema["maximum"], 1)):
        assert PARSERS[name](str(limit)) == limit
        with pytest.raises(ValueError, match=f"must be from {schema['minimum']} to {schema['maximum']}"):
            PARSERS[name](str(limit + outside))


def test_lists_are_separated_by_commas_by_the_document_too(document):
    described = document["components"]["parameters"]
    form = {
        name for name, row in described.items() if (row.get("style"), row.get("explode")) == ("form", False)
    }
    assert form == {name for name, row in described.items() if "style" in row} == set(LISTS)


def test_a_filter_is_described_by_its_operator_and_the_unit_of_its_field(document):
    described = document["components"]["parameters"]
    for name, row in FILTERS.items():
        unit = f" ({row.column.unit})" if row.column.unit else ""
        assert described[name]["description"] == (
            f"Rooms whose {row.column.name} {row.operator.label} …; {row.column.description}{unit}."
        )


def test_exports_are_all_rooms_and_the_others_pages(document):
    for output in FORMATS.values():
        summary = document["paths"][f"/rooms.{output.name}"]["get"]["summary"]
        assert summary.startswith(
            "All the rooms" if output.streams else "The rooms that match, a page at a time"
        )


def test_every_address_that_answers_is_in_the_document(document):
    assert set(document["paths"]) == {
        "/rooms",
        *(f"/rooms.{name}" for name in FORMATS),
        "/rooms/stats",
        "/rooms/changes",
        *(f"/rooms/clusters{suffix}" for suffix in ("", ".json", ".geojson")),
        *(f"/rooms/{{code}}{suffix}" for suffix in ("", ".json", ".geojson")),
        "/ogc",
        "/ogc/conformance",
        "/ogc/collections",
        "/ogc/collections/rooms",
        "/ogc/collections/rooms/items",
        "/ogc/collections/rooms/items/{code}",
        "/places",
    }
    assert "text/html" not in json.dumps([path["get"]["responses"] for path in document["paths"].values()])
    for path in document["paths"].values():
        assert {"400", "405", "406", "414", "429", "431", "503"} <= set(path["get"]["responses"])
        assert path["get"]["tags"][0] in [tag["name"] for tag in document["tags"]]
    assert document["security"] == []
    identifiers = [path["get"]["operationId"] for path in document["paths"].values()]
    assert len(set(identifiers)) == len(identifiers)


def test_the_parameters_of_the_changes_are_in_the_document(document):
    described = {row["name"]: row for row in document["paths"]["/rooms/changes"]["get"]["parameters"]}
    assert set(described) == set(changes.PARAMETERS)
    Draft202012Validator(described["since"]["schema"]).validate(changes.PARAMETERS["since"].example)


def test_the_parameter_of_places_is_in_the_document_and_needed(document):
    (described,) = document["paths"]["/places"]["get"]["parameters"]
    assert (described["name"], described["required"]) == ("q", True)
    validator = Draft202012Validator(described["schema"])
    for text in (described["example"], "é" * places.MAX_NAME):
        assert validator.is_valid(text)
        assert places.QUERY.parse(text) == text
    for text in ("", " ", "é" * (places.MAX_NAME + 1)):
        assert not validator.is_valid(text)
        with pytest.raises(ValueError, match="beginning of a place"):
            places.QUERY.parse(text)


def test_deletions_match_the_schema_of_a_change_and_other_lines_do_not(document):
    schema = {"$ref": "#/components/schemas/RoomChange", "components": document["components"]}
    validator = Draft202012Validator(strict(schema))
    validator.validate({"code": "f853578c-fc0f-4e65-81b8-566c5dffa35a", "deleted": True})
    validator.validate({"cursor": "x"})
    assert not validator.is_valid({"code": "f853578c-fc0f-4e65-81b8-566c5dffa35a"})
    assert not validator.is_valid({})


def test_every_parameter_that_exists_is_on_the_page(client):
    page = client.get("/docs").content.decode()
    units = list(dict.fromkeys(column.unit for column in COLUMNS.values() if column.unit))
    assert units == ["m²", "euros per day", "degrees"]
    for name in PARSERS:
        assert f'id="{name}"' in page
        assert f"<code>{name}</code>" in page
    for name, rule in FILTERS.items():
        row = re.search(rf'<tr id="{name}">(.*?)</tr>', page, re.DOTALL)[1]
        assert f"{name}={rule.example}" in html.unescape(row)
    for column in COLUMNS.values():
        (section,) = re.findall(rf'<h3 id="{column.name}">.*?</p>', page, re.DOTALL)
        assert [unit for unit in units if unit in section] == ([column.unit] if column.unit else [])
    for parameter in PARAMETERS.values():
        assert html.escape(parameter.description) in page
    for suffix in FORMATS:
        assert f"/rooms.{suffix}" in page


def test_the_page_asks_no_other_host(client):
    page = client.get("/docs").content.decode()
    assert re.findall(r'(?:src|<link [^>]*href)="(?:https?:)?//[^"]*"', page) == []


# --- Responses match the document


def schema_of(document, path, status, media_type):
    responses = document["paths"][path]["get"]["responses"]
    assert str(status) in responses, f"{path} does not say that it answers {status}"
    content = responses[str(status)]["content"]
    assert media_type in content, f"{path} does not say that it answers {media_type} with {status}"
    return {**content[media_type]["schema"], "components": document["components"]}


def strict(schema):
    """The schema with additional properties forbidden."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if schema.get("type") == "object" and "properties" in schema:
            schema["additionalProperties"] = False
        return schema
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


ASKED = [
    ("/rooms", "/rooms"),
    ("/rooms", "/rooms?limit=3&order=price,-size&count=exact"),
    ("/rooms", "/rooms?near=0,0&within=20000000"),
    ("/rooms", "/rooms?near=1.5,2.5&within=1"),
    ("/rooms", "/rooms?filter_price__lt=0"),
    ("/rooms", "/rooms?filter_size__isnull=true"),
    ("/rooms", "/rooms?fields=price,code"),
    ("/rooms", "/rooms?nope=1&price__lt=5&limit=0"),
    ("/rooms.json", "/rooms.json?limit=2"),
    ("/rooms.json", "/rooms.json?=1"),
    ("/rooms.geojson", "/rooms.geojson"),
    ("/rooms.geojson", "/rooms.geojson?near=0,0&within=20000000"),
    ("/rooms.geojson", "/rooms.geojson?bbox=1"),
    ("/rooms.geojson", "/rooms.geojson?fields=price"),
    ("/rooms.csv", "/rooms.csv"),
    ("/rooms.ndjson", "/rooms.ndjson?count=estimated"),
    ("/ogc", "/ogc"),
    ("/ogc/conformance", "/ogc/conformance"),
    ("/ogc/collections", "/ogc/collections"),
    ("/ogc/collections/rooms", "/ogc/collections/rooms"),
    ("/ogc/collections/rooms/items", "/ogc/collections/rooms/items?limit=2"),
    ("/ogc/collections/rooms/items", "/ogc/collections/rooms/items?price=x"),
    (
        "/ogc/collections/rooms/items/{code}",
        "/ogc/collections/rooms/items/f853578c-fc0f-4e65-81b8-566c5dffa35a",
    ),
    ("/rooms/stats", "/rooms/stats"),
    ("/rooms/stats", "/rooms/stats?filter_price__lt=0"),
    ("/rooms/stats", "/rooms/stats?limit=5"),
    ("/rooms/changes", "/rooms/changes"),
    ("/rooms/changes", "/rooms/changes?since=2020-01-01T00:00:00Z"),
    ("/rooms/changes", "/rooms/changes?after=x"),
    ("/rooms/clusters", "/rooms/clusters"),
    ("/rooms/clusters", "/rooms/clusters?filter_price__lt=0"),
    ("/rooms/clusters", "/rooms/clusters?zoom=x"),
    ("/rooms/clusters.json", "/rooms/clusters.json?zoom=0"),
    ("/rooms/clusters.geojson", "/rooms/clusters.geojson?near=0,0&within=20000000"),
    ("/rooms/{code}", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a"),
    ("/rooms/{code}", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35b"),
    ("/rooms/{code}", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a?x=1"),
    ("/rooms/{code}", "/rooms/nope"),
    ("/rooms/{code}.json", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a.json"),
    ("/rooms/{code}.geojson", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a.geojson"),
    ("/rooms/{code}.geojson", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35b.geojson"),
    ("/places", "/places?q=gra"),
    ("/places", "/places?q=no+such+place"),
    ("/places", "/places?q="),
]


@pytest.mark.parametrize(("path", "url"), ASKED)
@pytest.mark.parametrize(
    "accept", ["*/*", "application/geo+json", "text/csv", "application/x-ndjson", "image/png"]
)
def test_responses_match_the_openapi_document(client, document, path, url, accept):
    Room.objects.bulk_create(varied_rooms(30))
    RoomFactory(code="f853578c-fc0f-4e65-81b8-566c5dffa35a", longitude=1.5, latitude=2.5)
    response = client.get(url, HTTP_ACCEPT=accept)
    body = b"".join(response).decode()
    media_type = response.headers["Content-Type"].partition(";")[0]
    schema = strict(schema_of(document, path, response.status_code, media_type))
    value = body
    if media_type.endswith("json") and media_type != "application/x-ndjson":
        value = json.loads(body)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    validator.validate(value)
    if media_type == "application/x-ndjson":
        name = "RoomChange" if path == "/rooms/changes" else "ListedRoom"
        room = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        for line in body.splitlines():
            Draft202012Validator(strict(room)).validate(json.loads(line))
    if media_type == "text/csv":
        columns = list(document["components"]["schemas"]["Room"]["properties"])
        if "near=" not in url:
            columns.remove("distance")
        if "fields=" in url:
            columns = ["price", "code"]
        assert csv.DictReader(io.StringIO(body)).fieldnames == columns


def test_an_overstated_schema_fails_validation(document):
    schema = strict(schema_of(document, "/rooms", 200, "application/json"))
    assert not Draft202012Validator(schema).is_valid([{"price": "x"}])
    assert not Draft202012Validator(schema).is_valid({})


@pytest.mark.parametrize("quartiles", [[1, 2], [1, 2, 3, 4], [1, 2, "3"]])
def test_other_than_three_quartiles_fail_validation(client, document, quartiles):
    RoomFactory()
    validator = Draft202012Validator(schema_of(document, "/rooms/stats", 200, "application/json"))
    statistics = client.get("/rooms/stats").json()
    assert validator.is_valid(statistics)
    statistics["price"]["quartiles"] = quartiles
    assert not validator.is_valid(statistics)


@pytest.mark.parametrize("name", sorted(LISTS - {"bbox", "near"}))
def test_a_list_of_one_is_valid_by_its_schema(client, document, name):
    schema = document["components"]["parameters"][name]["schema"]
    example = (FILTERS.get(name) or PARAMETERS[name]).example.partition(",")[0]
    kind = {"integer": int, "number": float}.get(schema["items"].get("type"), str)
    assert Draft202012Validator(schema).is_valid([kind(example)])
    assert client.get(f"/rooms?{name}={example}").status_code == 200


@pytest.mark.parametrize("name", sorted(LISTS))
def test_an_empty_list_is_invalid_by_its_schema_too(client, document, name):
    schema = document["components"]["parameters"][name]["schema"]
    assert not Draft202012Validator(schema).is_valid([])
    assert client.get(f"/rooms?{name}=").status_code == 400


@pytest.mark.parametrize("name", PARSERS)
def test_the_examples_are_valid_by_their_own_schemas(document, name):
    example = FILTERS[name].example if name in FILTERS else PARAMETERS[name].example
    schema = document["components"]["parameters"][name]["schema"]
    kind = schema.get("type")
    read = {"integer": int, "number": float, "boolean": lambda text: text == "true"}.get(kind, str)
    items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
    each = {"integer": int, "number": float}.get(items.get("type"), str)
    value = [each(part) for part in example.split(",")] if kind == "array" else read(example)
    if example:
        Draft202012Validator(schema).validate(value)


# --- Commands of the page


@pytest.mark.needs("curl")
def test_every_command_on_the_page_runs(live_site):
    page = live_site.get("/docs").body.decode()
    commands = [html.unescape(found) for found in re.findall(r"<code>(curl [^<]*)</code>", page)]
    assert len(commands) > len(PARSERS)
    for name in PARSERS:
        assert name in {"after", "before"} or any(
            re.search(rf"[?&]{name}=", command) for command in commands
        ), name
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
        cursor.execute(BOOK_INSERT)
    try:
        for command in commands:
            arguments = shlex.split(command)
            done = subprocess.run(
                ["curl", "-sS", "-w", "\n%{http_code}", *arguments[1:]],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            wrong_on_purpose = "?price__lt" in command
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.rsplit("\n", 1)[1] == ("400" if wrong_on_purpose else "200"), (
                command,
                done.stdout,
            )
    finally:
        with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
            cursor.execute("TRUNCATE room")
