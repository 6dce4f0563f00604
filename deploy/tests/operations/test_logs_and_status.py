"""`logs` and `status`, from lines as the containers write them."""

import json

from deploy.operations.logs import lines_of
from deploy.operations.status import read_lines, screen, summary

REQUEST = "0123456789abcdef0123456789abcdef"
NGINX = {
    "time": "2026-11-20T16:00:00+00:00",
    "request_id": REQUEST,
    "method": "GET",
    "target": "/rooms?limit=1",
    "status": 200,
    "seconds": 0.012,
    "upstream": "172.18.0.3:8000",
    "cache": "MISS",
}
DJANGO = {
    "time": "2026-11-20T16:00:00.300+00:00",
    "level": "ERROR",
    "logger": "rooms",
    "message": "it failed",
    "request_id": REQUEST,
    "database_process": 71,
}
ACCESS = DJANGO | {
    "time": "2026-11-20T16:00:00.400+00:00",
    "level": "INFO",
    "logger": "gunicorn.access",
    "message": "GET",
    "seconds": 0.3,
}
OTHER = ACCESS | {"request_id": "f" * 32}

COMPOSE_LOGS = f"""\
nginx-1  | 2026-11-20T16:00:00.500000000Z {json.dumps(NGINX)}
\x1b[2Kweb-2    | 2026-11-20T16:00:00.300000000Z {json.dumps(DJANGO)}
web-2    | 2026-11-20T16:00:00.400000000Z {json.dumps(ACCESS)}
web-1    | 2026-11-20T16:00:00.200000000Z {json.dumps(OTHER)}
db-1     | 2026-11-20T16:00:00.100000000Z 2026-11-20 16:00:00.050 UTC [71] ERROR:  of the request before
db-1     | 2026-11-20T16:00:00.201000000Z 2026-11-20 16:00:00.200 UTC [71] ERROR:  canceling statement
db-1     | 2026-11-20T16:00:00.201000000Z 2026-11-20 16:00:00.200 UTC [71] STATEMENT:  SELECT code
db-1     | 2026-11-20T16:00:00.201000000Z \tFROM room
db-1     | 2026-11-20T16:00:00.202000000Z 2026-11-20 16:00:00.202 UTC [72] ERROR:  of another connection
db-1     | 2026-11-20T16:00:00.600000000Z 2026-11-20 16:00:00.600 UTC [71] ERROR:  of the request after
db-1     | no line of the log
"""


def test_the_lines_of_a_request_come_in_their_order_and_no_others():
    found = lines_of(COMPOSE_LOGS, REQUEST)
    assert [line["container"] for line in found] == ["db-1", "db-1", "web-2", "web-2", "nginx-1"]
    assert found[0]["text"].endswith("ERROR:  canceling statement")
    assert found[1]["text"].endswith("STATEMENT:  SELECT code FROM room")
    assert found[2]["text"] == "ERROR rooms it failed"
    assert found[4]["text"] == "GET /rooms?limit=1 200 in 0.012 s, from 172.18.0.3:8000, cache MISS"
    assert found[0]["time"] == "2026-11-20T16:00:00.200Z"


def test_a_statement_of_postgresql_is_found_by_its_comment_alone():
    """As where a clock differs, or the lines of `web` are gone."""
    slow = f"duration: 1200 ms  statement: SELECT code FROM room /*request_id='{REQUEST}',route='rooms'*/"
    other = slow.replace(REQUEST, "f" * 32)
    text = "".join(
        f"db-1  | 2026-11-20T17:00:00.000000000Z 2026-11-20 17:00:00.000 UTC [99] LOG:  {line}\n"
        for line in (slow, other)
    )
    assert [line["text"][-len(slow) :] for line in lines_of(text, REQUEST)] == [slow]
    assert len(lines_of(COMPOSE_LOGS + text, REQUEST)) == 6


def test_a_request_of_nginx_alone_has_no_line_of_postgresql():
    found = lines_of(COMPOSE_LOGS.replace('"database_process": 71', '"database_process": 5'), REQUEST)
    assert [line["container"] for line in found] == ["web-2", "web-2", "nginx-1"]


def test_the_status_counts_requests_errors_and_what_the_cache_served():
    slow = NGINX | {"status": 504, "seconds": 20.0, "cache": ""}
    lines = read_lines(
        [json.dumps(NGINX), "nginx: a message", json.dumps(slow), json.dumps(NGINX | {"cache": "HIT"})]
    )
    found = summary(lines)
    assert found["statuses"] == {"200": 2, "504": 1}
    assert (found["total"], found["errors"], found["cached"]) == (3, 1, 1)
    assert [line["seconds"] for line in found["slowest"]] == [20.0, 0.012, 0.012]


def test_the_screen_fits_one_without_a_request_or_a_backup():
    facts = {
        "image": "", "url": "https://localhost", "containers": [], "requests": summary([]), "minutes": 10,
        "database": [], "backup": "", "since": "2026-11-20 16:00:00 UTC", "last": [],
        "archive_copied": "1 minutes",
        "hosts": ["10.0.0.2:8000: ready"], "role": "site",
    }  # fmt: skip
    text = screen(facts)
    assert "nothing is released" in text
    assert "newest backup: none" in text
    assert "10.0.0.2:8000: ready" in text
    assert "newest backup" not in screen(facts | {"role": "web"})
    assert "can go back to any second since 2026-11-20 16:00:00 UTC" in text
    assert "can go back" not in screen(facts | {"since": ""})
    assert "on another host to any second until 1 minutes ago" in text
    assert "another host" not in screen(facts | {"archive_copied": ""})
    assert len(text.splitlines()) < 24
