from collections.abc import Iterator

import pytest

from rentomatic_site.tests.password_server import PasswordServer


@pytest.fixture(scope="session")
def password_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PasswordServer]:
    with PasswordServer(tmp_path_factory.mktemp("password_server")) as server:
        yield server
