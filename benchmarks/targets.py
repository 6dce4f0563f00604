"""The targets: this project, and the same API in the two most likely alternatives."""

import json
import secrets
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.databases import PROJECT, Database

HERE = Path(__file__).resolve().parent
PEERS_FOLDER = PROJECT / ".rentomatic" / "benchmarks"
"""The peers' virtual environment, separate from the project's."""

PAGE = 100  # rooms
PRICES = (48, 66)
"""The filtered page: rooms that cost more than the first and less than the second."""

FIRST, COUNTLESS, FILTERED, ORDERED, NEAREST, ONE, DEEP, MAP, FILTERED_MAP, EXPORT = (
    "first page",
    "first page, DRF's cursor",
    "filtered page",
    "filtered and ordered page",
    "nearest rooms",
    "one room by its code",
    "deep page",
    "map of all rooms",
    "map of London, filtered",
    "export as CSV",
)
"""
The workloads. DRF's default pagination counts all rooms for each page; COUNTLESS is without that. The peers
have no maps.
"""

PLACE = (-0.1276, 51.5072)
"""Longitude and latitude of the nearest rooms. The peers calculate all distances and sort by them."""


class PeersMissingError(Exception):
    """The peers' packages cannot be installed; the message has the next step."""


class Target(NamedTuple):
    """
    A program under test; `paths` returns the path of each workload that it has, from the running
    server's URL.
    """

    name: str
    command: list[str]
    folder: Path
    environment: Mapping[str, str]
    paths: Callable[[str, Database], dict[str, str]]


def deep_page(rooms: int) -> int:
    """The number of the page at nine tenths of the table: 9,000 of a million rooms."""
    return rooms * 9 // 10 // PAGE


def our_paths(url: str, database: Database) -> dict[str, str]:
    return {
        FIRST: "/rooms",
        COUNTLESS: "/rooms",
        FILTERED: f"/rooms?filter_price__gt={PRICES[0]}&filter_price__lt={PRICES[1]}",
        ORDERED: f"/rooms?filter_price__gt={PRICES[0]}&filter_price__lt={PRICES[1]}&order=size",
        NEAREST: f"/rooms?near={PLACE[0]},{PLACE[1]}",
        ONE: f"/rooms/{database.code(database.rooms // 2)}",
        DEEP: our_deep_path(url, deep_page(database.rooms)),
        MAP: "/rooms/clusters",
        FILTERED_MAP: f"/rooms/clusters?bbox=-0.5,51.3,0.3,51.7&zoom=10&filter_price__lt={PRICES[1]}",
        EXPORT: "/rooms.csv",
    }


def our_deep_path(url: str, page: int) -> str:
    """A cursor cannot be calculated: follow the links, first with long pages, then with ordinary ones."""
    long_pages, remaining = divmod((page - 1) * PAGE, 10 * PAGE)
    path = "/rooms"
    for limit, steps in ((10 * PAGE, long_pages), (PAGE, remaining // PAGE)):
        path = with_limit(path, limit)
        for _ in range(steps):
            path = next_path(load.get(url + path)[0].headers["Link"])
    return with_limit(path, PAGE)


def with_limit(path: str, limit: int) -> str:
    """The path with another limit."""
    before, _, query = path.partition("?")
    kept = [item for item in query.split("&") if item and not item.startswith("limit=")]
    return f"{before}?{'&'.join([*kept, f'limit={limit}'])}"


def next_path(links: str | None) -> str:
    """The path of the `next` link of a Link header."""
    for link in (links or "").split(", "):
        url, _, relation = link.partition(">")
        if 'rel="next"' in relation:
            target = urlsplit(url.removeprefix("<"))
            return f"{target.path}?{target.query}"
    raise load.LoadError(f"No next page in Link: {links!r}")


def drf_paths(url: str, database: Database) -> dict[str, str]:
    return {
        FIRST: "/rooms/",
        COUNTLESS: "/rooms-by-cursor/",
        FILTERED: f"/rooms/?price__gt={PRICES[0]}&price__lt={PRICES[1]}",
        ORDERED: f"/rooms/?price__gt={PRICES[0]}&price__lt={PRICES[1]}&ordering=size,id",
        NEAREST: f"/rooms/nearest/?longitude={PLACE[0]}&latitude={PLACE[1]}",
        ONE: f"/rooms/{database.code(database.rooms // 2)}/",
        DEEP: f"/rooms/?page={deep_page(database.rooms)}",
        EXPORT: "/rooms/export/",
    }


def fastapi_paths(url: str, database: Database) -> dict[str, str]:
    return {
        FIRST: "/rooms",
        COUNTLESS: "/rooms",
        FILTERED: f"/rooms?price_gt={PRICES[0]}&price_lt={PRICES[1]}",
        ORDERED: f"/rooms?price_gt={PRICES[0]}&price_lt={PRICES[1]}&order=size",
        NEAREST: f"/nearest?longitude={PLACE[0]}&latitude={PLACE[1]}",
        ONE: f"/rooms/{database.code(database.rooms // 2)}",
        DEEP: f"/rooms?offset={(deep_page(database.rooms) - 1) * PAGE}",
        EXPORT: "/rooms.csv",
    }


def all_targets() -> list[Target]:
    """All three, each with one worker for its one core and without an access log."""
    peers = str(PEERS_FOLDER / "venv" / "bin")
    return [
        Target(
            "Rent-o-matic",
            [
                *(sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"),
                *("--bind", "127.0.0.1:{port}", "--workers", "1", "--max-requests", "0"),
            ],
            PROJECT,
            {
                "DEBUG": "off",
                "SECRET_KEY": secrets.token_urlsafe(50),
                "ALLOWED_HOSTS": "127.0.0.1",
                "HTTPS": "off",
                "SCENARIO": "",
                "ACCESS_LOG": "off",
                "CONN_MAX_AGE": "3600",  # as long as the peer's
            },
            our_paths,
        ),
        Target(
            "Django REST framework",
            [
                *(f"{peers}/gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "1"),
                *("--worker-class", "gthread", "--threads", "4", "--no-control-socket", "peer_drf.wsgi"),
            ],
            HERE,
            {"DJANGO_SETTINGS_MODULE": "peer_drf.settings"},
            drf_paths,
        ),
        Target(
            "FastAPI",
            [f"{peers}/uvicorn", "--port", "{port}", "--no-access-log", "peer_fastapi.app:app"],
            HERE,
            {},
            fastapi_paths,
        ),
    ]


def install_peers() -> None:
    """The peers' packages in an environment of their own, once per version of benchmarks/requirements.txt."""
    wanted = (HERE / "requirements.txt").read_text()
    installed = PEERS_FOLDER / "installed.txt"
    if installed.exists() and installed.read_text() == wanted:
        return
    venv.create(PEERS_FOLDER / "venv", clear=True, with_pip=True)
    pip = [PEERS_FOLDER / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet"]
    if subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=False).returncode:
        raise PeersMissingError(
            "The peers' packages cannot be installed, for the reason that pip gives. "
            "Next: mend it, such as the way to a package index (PIP_INDEX_URL), then make bench again."
        )
    installed.write_text(wanted)


def codes(body: bytes) -> list[str]:
    """The codes of the rooms in a response: a list, one room, or an object with `results`."""
    response = json.loads(body)
    if isinstance(response, dict):
        response = response.get("results", [response])
    return [room["code"] for room in response]
