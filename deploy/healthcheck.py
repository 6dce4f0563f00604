"""
The container's health check: asks /readyz; says what is wrong and ends with 1 where it is not ready.

With --questions it also asks what people ask: a list, a page, the admin's login and the static files that it
names. ./deploy/rollout and ./deploy/restore do so before they let people in.
"""

import http.client
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def ask(path: str, **headers: str) -> str:
    """The answer's text; any status but 200 ends the check."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    if answer.status != 200:
        sys.exit(f"{path} is {answer.status}: {text[:1000]}")
    return text


def questions() -> Iterator[str]:
    """Ask as nginx does; yields each path that was answered."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from rentomatic_site import settings

    headers = {"Host": settings.ALLOWED_HOSTS[0].removeprefix("."), "X-Forwarded-Proto": "https"}
    for path, accept in (("/rooms?limit=1", "application/json"), ("/rooms", "text/html")):
        ask(path, Accept=accept, **headers)
        yield path
    page = ask("/admin/login/", **headers)
    yield "/admin/login/"
    # Without a name to look for, a page without its style sheets would pass.
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page) or ["/static/ (the login names no file)"]:
        ask(path, **headers)
        yield path


try:
    sys.stdout.write(ask("/readyz") + "\n")
    if sys.argv[1:] == ["--questions"]:
        for path in questions():
            sys.stdout.write(f"{path} is 200\n")
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"gunicorn does not answer: {error}")
