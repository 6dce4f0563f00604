"""The request id: from nginx to the log, the answer and back."""

import io
import json
import logging.config
import re

import pytest


def test_the_id_that_nginx_gave_is_in_the_answer(client):
    assert (
        client.get("/livez", headers={"X-Request-ID": "0123456789abcdef"})["X-Request-ID"]
        == "0123456789abcdef"
    )


@pytest.mark.parametrize("given", ["", "short", "line\nbreak-0123", "x" * 65, "\x00" * 10, "<script>alert"])
def test_an_id_that_is_none_is_replaced(client, given):
    made = client.get("/livez", headers={"X-Request-ID": given})["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


@pytest.mark.parametrize("format", ["text", "json"])
def test_every_line_of_a_request_carries_its_id(client, settings, format):
    stream = io.StringIO()
    handler = settings.LOGGING["handlers"]["console"] | {"formatter": format, "stream": stream}
    logging.config.dictConfig(settings.LOGGING | {"handlers": {"console": handler}})
    try:
        client.get("/no-such-page", headers={"X-Request-ID": "0123456789abcdef"})
    finally:
        logging.config.dictConfig(settings.LOGGING)
    line = stream.getvalue()
    assert "Not Found: /no-such-page" in line
    if format == "json":
        assert json.loads(line)["request_id"] == "0123456789abcdef"
    else:
        assert line.endswith(" [0123456789abcdef]\n")
