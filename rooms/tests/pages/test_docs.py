"""The examples of `/docs`: of rooms that are there, in three languages, each of which runs."""

import html
import json
import re
import subprocess
import sys

import pytest

from rooms.factories import RoomFactory


def examples(text, language):
    """The examples of the page in a language, by the path that they request."""
    code = rf'<pre data-language="{language}"[^>]*><code>(.*?)</code>'
    found = re.findall(rf'<div class="example" data-path="([^"]*)".*?{code}', text, re.DOTALL)
    return {html.unescape(path): html.unescape(code) for path, code in found}


@pytest.mark.django_db
def test_the_examples_are_of_a_room_that_is_there(client, django_assert_num_queries):
    RoomFactory(size=None)
    room = RoomFactory(price=43, size=17, latitude=41.40237, longitude=2.15641)
    with django_assert_num_queries(1):
        text = client.get("/docs").content.decode()
    paths = examples(text, "curl")
    assert f"/rooms/{room.code}" in paths
    assert "/rooms?filter_price__gte=43" in paths
    assert "/rooms?near=2.1564,41.4024" in paths
    for path in ("filter_size__eq=17", f"filter_code__in={room.code}", "bbox=1.9564,41.2024,2.3564,41.6024"):
        assert client.get(f"/rooms?{path}").json()[0]["code"] == str(room.code)


@pytest.mark.django_db
@pytest.mark.parametrize("rooms", [[], [{"size": None}], [{"latitude": 90, "longitude": -180}]])
def test_every_example_is_valid_with_few_and_odd_rooms(client, rooms):
    for room in rooms:
        RoomFactory(**room)
    for path in examples(client.get("/docs").content.decode(), "curl"):
        gone = path.startswith("/rooms/f853578c") and not rooms
        assert client.get(path).status_code == (404 if gone else 400 if "?price__lt" in path else 200), path


RUN_IN_PYTHON = "import json, sys\nfor code in json.load(sys.stdin): exec(code, {})"
RUN_IN_JAVASCRIPT = """
const codes = JSON.parse(require("fs").readFileSync(0));
const Run = (async () => {}).constructor;
(async () => { for (const code of codes) await new Run(code)(); })();
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("language", "command"),
    [
        ("python", [sys.executable, "-c", RUN_IN_PYTHON]),
        pytest.param(
            "javascript", ["node", "-e", RUN_IN_JAVASCRIPT], marks=pytest.mark.needs("node"), id="javascript"
        ),
    ],
)
def test_every_example_runs(live_server, client, language, command):
    room = RoomFactory(price=4711)
    text = client.get("/docs", headers={"Host": live_server.url.removeprefix("http://")}).content.decode()
    codes = list(examples(text, language).values())
    assert len(codes) > 40
    done = subprocess.run(
        command, input=json.dumps(codes), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert str(room.code) in done.stdout
    assert "Did you mean" in done.stdout or "filter_price__lt" in done.stdout  # the example of an error
