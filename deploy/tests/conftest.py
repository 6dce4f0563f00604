"""Fixtures of the rig: gunicorn and nginx in front of it, with the site's production settings."""

from collections.abc import Iterator

import pytest

from deploy.tests import rig
from rentomatic_site.testing import needs


@pytest.fixture(scope="session")
def site(live_site, tmp_path_factory) -> Iterator[rig.Gunicorn]:
    """gunicorn as it runs behind nginx: it believes that people come through TLS."""
    with rig.Gunicorn(tmp_path_factory.mktemp("site"), **live_site.variables | {"HTTPS": "on"}) as gunicorn:
        yield gunicorn


@pytest.fixture(scope="session")
def edge(site, tmp_path_factory) -> Iterator[rig.Nginx]:
    """nginx with the shipped templates in front of `site`; limits wide enough for the tests themselves."""
    needs("nginx")
    with rig.Nginx(tmp_path_factory.mktemp("edge"), site.port, NGINX_RATE="10000r/s") as nginx:
        yield nginx
