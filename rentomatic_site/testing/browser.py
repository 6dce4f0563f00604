"""What a browser does with forms, without one."""

import re
from typing import Any
from urllib.parse import urlencode

from rentomatic_site.testing.rig import Gunicorn, Response

FORM = "application/x-www-form-urlencoded"


class Browser:
    """Cookies, and forms with the token that their page has."""

    def __init__(self, server: Gunicorn) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}

    def ask(self, path: str, method: str = "GET", **options: Any) -> Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = self.server.get(path, method=method, timeout=120, Cookie=cookies, **options)
        for header in response.headers.get_all("Set-Cookie", []):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        return response

    def fields(self, path: str, *names: str) -> dict[str, str]:
        """The values of a form's fields."""
        page = self.ask(path).body.decode()
        found = {name: re.search(rf'name="{name}"[^>]*? value="([^"]*)"', page) for name in names}
        assert all(found.values()), page
        return {name: match[1] for name, match in found.items() if match}

    def token(self, path: str) -> str:
        page = self.ask(path).body.decode()
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert found, page
        return found[1]

    def post(self, path: str, token: str, Accept: str = "*/*", **fields: str) -> Response:
        body = urlencode({"csrfmiddlewaretoken": token, **fields})
        return self.ask(path, "POST", body=body, Content_Type=FORM, Accept=Accept)

    def login(self, username: str, password: str) -> None:
        path = "/admin/login/"
        done = self.post(path, self.token(path), username=username, password=password)
        assert done.status == 302, done.body
