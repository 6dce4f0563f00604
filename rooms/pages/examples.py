"""Requests as examples in curl, Python and JavaScript."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A request of the API. `path` has its query, and is of this site."""

    base: str
    """The scheme and the host, as in https://rooms.example."""
    path: str
    accept: str = ""
    """The media type that is asked for by `Accept`."""
    is_json: bool = True
    """Whether the body is one JSON document."""
    head: bool = False
    """Whether the header `Link` is of interest, and the body is not."""
    fails: bool = False
    """Whether the response is an error, on purpose."""

    @property
    def url(self) -> str:
        return self.base + self.path

    @property
    def method(self) -> str:
        return "HEAD" if self.head else "GET"

    @property
    def curl(self) -> str:
        options = "-sI " if self.head else ""
        if self.accept:
            options += f"-H 'Accept: {self.accept}' "
        return f"curl {options}'{self.url}'"

    @property
    def python(self) -> str:
        request = f'"{self.url}"'
        names = ["urlopen"]
        if self.accept:
            request = f'Request({request}, headers={{"Accept": "{self.accept}"}})'
            names.insert(0, "Request")
        imports = ["import json"] if self.is_json and not self.head else []
        if self.fails:
            imports.append("from urllib.error import HTTPError")
        imports.append(f"from urllib.request import {', '.join(names)}")
        if self.head:
            steps = f'with urlopen({request}) as response:\n    print(response.headers["Link"])'
        elif self.fails:
            steps = f"try:\n    urlopen({request})\nexcept HTTPError as error:\n    print(json.load(error))"
        elif self.is_json:
            steps = f"with urlopen({request}) as response:\n    print(json.load(response))"
        else:
            steps = f"with urlopen({request}) as response:\n    print(response.read().decode())"
        return "\n".join(imports) + "\n\n" + steps

    @property
    def javascript(self) -> str:
        options = f', {{ headers: {{ Accept: "{self.accept}" }} }}' if self.accept else ""
        body = "await response.json()" if self.is_json else "await response.text()"
        if self.head:
            body = 'response.headers.get("Link")'
        return f'const response = await fetch("{self.url}"{options});\nconsole.log({body});'
