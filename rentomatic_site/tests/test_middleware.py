"""The request id: from nginx to the log, the response and back."""

import io
import json
import logging.config
import re
from datetime import datetime, timedelta

import pytest
from django.db import connection

from rentomatic_site import probes


def test_the_id_from_nginx_is_in_the_response(client):
    assert (
        client.get("/livez", headers={"X-Request-ID": "0123456789abcdef"})["X-Request-ID"]
        == "0123456789abcdef"
    )


@pytest.mark.parametrize("sent", ["", "short", "line\nbreak-0123", "x" * 65, "\x00" * 10, "<script>alert"])
def test_an_id_that_is_none_is_replaced(client, sent):
    made = client.get("/livez", headers={"X-Request-ID": sent})["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


@pytest.mark.django_db
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_line_of_a_request_carries_its_id(client, settings, monkeypatch, log_format):
    """Two requests of two lines each: why the database was not reached, and the response."""
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", 1)
    stream = io.StringIO()
    handler = settings.LOGGING["handlers"]["console"] | {"formatter": log_format, "stream": stream}
    logging.config.dictConfig(settings.LOGGING | {"handlers": {"console": handler}})
    try:
        for request_id in ("0123456789abcdef", "fedcba9876543210"):
            probes.database.forget()  # the result is kept for a second
            client.get("/readyz", headers={"X-Request-ID": request_id})
    finally:
        logging.config.dictConfig(settings.LOGGING)
    if log_format == "json":
        records = [json.loads(line) for line in stream.getvalue().splitlines()]
        logged = [(record["message"].partition(":")[0], record["request_id"]) for record in records]
        times = [record["time"] for record in records]
    else:
        records = re.split(r"^(?=\d{4}-)", stream.getvalue(), flags=re.MULTILINE)[1:]
        logged = [
            re.search(r"(not ready|Service Unavailable): (?s:.*) \[(\w+)\]\n\Z", record).groups()
            for record in records
        ]
        times = [record.split()[0] for record in records]
    assert logged == [
        ("not ready", "0123456789abcdef"),
        ("Service Unavailable", "0123456789abcdef"),
        ("not ready", "fedcba9876543210"),
        ("Service Unavailable", "fedcba9876543210"),
    ]
    assert {datetime.fromisoformat(time).utcoffset() for time in times} == {timedelta(0)}
