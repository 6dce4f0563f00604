"""
The container's health check: requests /readyz, prints the reason and ends with 1 where it is not ready.

With --questions it also requests a list, a page, the admin's login and the static files that this names, as
./deploy/rentomatic does before a replica receives requests. With --newer-schema the replica need not be ready
where that is the reason: a rollback takes the migrations back when it serves.
"""

import http.client
import re
import sys
from collections.abc import Iterator
from pathlib import Path

NEWER = "the schema is newer than this version"


def request(path: str, allowed: str = "", **headers: str) -> str:
    """The response's text; any status but 200 ends the check, unless `allowed` is in the text."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    text = response.read().decode(errors="replace")
    if response.status != 200 and not (allowed and allowed in text):
        sys.exit(f"{path} is {response.status}: {text[:1000]}")
    return text


def requests_of_clients() -> Iterator[str]:
    """Send requests as nginx does; yields each path whose status was 200."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from rentomatic_site import settings

    headers = {"Host": settings.ALLOWED_HOSTS[0].removeprefix("."), "X-Forwarded-Proto": "https"}
    for path, accept in (("/rooms?limit=1", "application/json"), ("/rooms", "text/html")):
        request(path, Accept=accept, **headers)
        yield path
    page = request("/admin/login/", **headers)
    yield "/admin/login/"
    # Without a name to look for, a page without its style sheets would pass.
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page) or ["/static/ (the login names no file)"]:
        request(path, **headers)
        yield path


try:
    sys.stdout.write(request("/readyz", NEWER if "--newer-schema" in sys.argv else "") + "\n")
    if "--questions" in sys.argv:
        for path in requests_of_clients():
            sys.stdout.write(f"{path} is 200\n")
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"gunicorn does not respond: {error}")
