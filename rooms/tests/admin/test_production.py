"""The admin as production serves it: from gunicorn, with hashed static files."""

import re

from rentomatic_site.testing import rig


def test_the_login_page_and_all_that_it_loads_are_there(live_site):
    page = live_site.get("/admin/login/")
    assert page.status == 200
    assert "no-store" in page.headers["Cache-Control"]
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.body.decode())
    assert len(files) > 4
    for file in files:
        assert re.search(r"\.[0-9a-f]{12}\.", file), f"{file} is not hashed"
        assert live_site.get(file).status == 200


def test_the_map_finds_its_leaflet(live_site):
    """The room's form loads by the manifest what django-leaflet ships."""
    script = "from django.templatetags.static import static; print(static('leaflet/leaflet.js'))"
    path = rig.manage("shell", "-v0", "-c", script, **live_site.variables).strip()
    response = live_site.get(path)
    assert response.status == 200
    assert "Leaflet" in response.body.decode()[:200]
