"""Streets on the map from one PMTiles file."""

import pytest

from rooms.tests.pages.pmtiles import IMAGE, RED, VECTOR, write_pmtiles

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "streets.pmtiles"


@pytest.fixture
def streets(settings, tmp_path):
    """`streets(tile_type)` makes the file and names it in the settings."""

    def make(tile_type):
        write_pmtiles(tmp_path / NAME, tile_type)
        settings.MAP_FOLDER, settings.MAP_PMTILES = tmp_path, NAME

    return make


PIXEL = """canvases => canvases.map((canvas) =>
    [...canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].join())"""


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("path", ["/rooms", "/rooms/{code}"])
def test_images_of_a_pmtiles_file_are_drawn_on_the_map(open_window, rooms, streets, path):
    streets(IMAGE)
    page = open_window("/docs")
    asked = []
    page.on("response", lambda response: asked.append(response))
    page.goto(path.format(code=rooms[0].code))
    page.locator(".leaflet-tile-loaded:is(canvas)").first.wait_for()
    drawn = page.locator("canvas.leaflet-tile-loaded").evaluate_all(PIXEL)
    assert set(drawn) == {f"{RED[0]},{RED[1]},{RED[2]},255"}
    ranges = [response for response in asked if response.url.endswith(f"/map/{NAME}")]
    assert {response.status for response in ranges} == {206}
    assert not [response for response in asked if "protomaps-leaflet" in response.url]
    assert "OpenStreetMap" in page.locator(".leaflet-control-attribution").inner_text()


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_vector_tiles_of_a_pmtiles_file_are_painted_in_the_theme(open_window, rooms, streets, scheme):
    streets(VECTOR)
    page = open_window("/rooms", color_scheme=scheme)
    page.locator(".leaflet-tile-loaded:is(canvas)").first.wait_for()
    red, *_, alpha = page.locator("canvas.leaflet-tile-loaded").first.evaluate_all(PIXEL)[0].split(",")
    assert alpha == "255"
    assert (int(red) < 128) == (scheme == "dark")


@pytest.mark.needs("chromium")
def test_the_map_of_the_admin_has_the_streets_too(open_window, rooms, streets, django_user_model):
    streets(IMAGE)
    django_user_model.objects.create_superuser("boss", password="boss-of-rooms")
    page = open_window(f"/admin/rooms/room/{rooms[0].pk}/change/")
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("boss-of-rooms")
    page.get_by_role("button", name="Log in").click()
    page.locator(".leaflet-tile-loaded:is(canvas)").first.wait_for()


@pytest.mark.needs("chromium")
def test_without_a_file_nothing_of_it_is_fetched(open_window, rooms):
    asked = []
    page = open_window("/docs")
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/rooms")
    page.locator(".cluster").first.wait_for()
    assert [url for url in asked if "leaflet.js" in url]
    assert not [url for url in asked if "pmtiles" in url or "streets" in url or "protomaps" in url]


def test_the_file_comes_by_ranges_of_bytes(client, streets):
    streets(IMAGE)
    response = client.get(f"/map/{NAME}", headers={"Range": "bytes=0-6"})
    assert (response.status_code, b"".join(response)) == (206, b"PMTiles")
    assert response.headers["Content-Range"].startswith("bytes 0-6/")
    assert response.headers["Content-Type"] == "application/vnd.pmtiles"
    whole = client.get(f"/map/{NAME}")
    assert (whole.status_code, b"".join(whole)[:8]) == (200, b"PMTiles\x03")
    assert client.get(f"/map/{NAME}", headers={"Range": "bytes=99999999-"}).status_code == 416


@pytest.mark.parametrize("name", ["other.pmtiles", "streets.pmtiles.txt", "..%2Fstreets.pmtiles"])
def test_no_other_file_is_served(client, streets, settings, name):
    streets(IMAGE)
    (settings.MAP_FOLDER / "other.pmtiles").write_bytes(b"PMTiles")
    assert client.get(f"/map/{name}").status_code == 404


def test_a_file_that_is_missing_is_a_404(client, settings, tmp_path):
    settings.MAP_FOLDER, settings.MAP_PMTILES = tmp_path, NAME
    assert client.get(f"/map/{NAME}").status_code == 404
