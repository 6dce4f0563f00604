"""Fixtures of the rig: gunicorn and nginx in front of it, with the site's production settings."""

from collections.abc import Iterator

import pytest

from deploy.tests.stack import Stack, needs_engine
from rentomatic_site import postgres
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs
from rentomatic_site.testing.proxy import Nginx


@pytest.fixture(scope="session")
def site(live_site, tmp_path_factory) -> Iterator[rig.Gunicorn]:
    """gunicorn as it runs behind nginx: it takes requests for TLS ones."""
    with rig.Gunicorn(tmp_path_factory.mktemp("site"), **live_site.variables | {"HTTPS": "on"}) as gunicorn:
        yield gunicorn


@pytest.fixture(scope="session")
def edge(site, tmp_path_factory) -> Iterator[Nginx]:
    """nginx with the shipped templates in front of `site`; limits wide enough for the tests themselves."""
    needs("nginx")
    with Nginx(tmp_path_factory.mktemp("edge"), site.port, NGINX_RATE="10000r/s") as nginx:
        yield nginx


@pytest.fixture
def nginx(tmp_path):
    """Start an nginx in front of given upstreams; all are stopped after the test."""
    needs("nginx")
    started: list[Nginx] = []

    def start(*upstreams: int | str, **variables: str) -> Nginx:
        folder = tmp_path / f"nginx-{len(started)}"
        started.append(Nginx(folder, *upstreams, **{"NGINX_RATE": "10000r/s", **variables}))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def rooms(live_site) -> Iterator[int]:
    """20,000 rooms, so that the responses are worth compressing; yields their number."""
    number = 20_000
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
        cursor.execute("DELETE FROM room")
        cursor.execute(
            "INSERT INTO room (code, size, price, latitude, longitude) "
            "SELECT gen_random_uuid(), n %% 90 + 10, n %% 70, 51.5, -0.1 FROM generate_series(1, %s) AS n",
            [number],
        )
        yield number
        cursor.execute("DELETE FROM room")


@pytest.fixture(scope="session")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """The whole stack in containers, running; it and everything of it is gone afterwards."""
    needs_engine()
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.run("./deploy/rentomatic", "rollout")
        yield stack
    finally:
        stack.remove()
