"""The watchdog: a database that does not answer is cut off, a slow reader is not."""

import contextlib
import time

import pytest
from django.db import OperationalError, connection
from django.http import HttpResponse, StreamingHttpResponse

from rentomatic_site.watchdog import Watchdog

ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/rooms"}


def sleep(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


@pytest.fixture
def reopened():
    """A connection of the test's own, which may be lost."""
    yield
    with contextlib.suppress(OperationalError):
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_step_over_the_limit_loses_its_connection(reopened, caplog):
    watchdog = Watchdog(lambda environ, start: sleep(4), limit=0.4)
    watchdog.start()
    began = time.monotonic()
    with pytest.raises(OperationalError):
        watchdog(ENVIRON, None)
    assert time.monotonic() - began < 3  # not the 4 s of the statement
    assert "GET /rooms makes no progress" in caplog.text
    assert not watchdog.steps


@pytest.mark.django_db(transaction=True)
def test_a_streamed_piece_over_the_limit_loses_its_connection(reopened):
    def pieces():
        yield b"first"
        sleep(4)
        yield b"never"

    watchdog = Watchdog(lambda environ, start: StreamingHttpResponse(pieces()), limit=0.4)
    watchdog.start()
    answer = watchdog(ENVIRON, None)
    assert next(answer) == b"first"
    with pytest.raises(OperationalError):
        next(answer)


@pytest.mark.django_db(transaction=True)
def test_a_slow_reader_of_a_stream_is_left_alone(reopened):
    def pieces():
        for _ in range(3):
            sleep(0.01)
            yield b"piece"

    watchdog = Watchdog(lambda environ, start: StreamingHttpResponse(pieces()), limit=0.2)
    watchdog.start()
    read = []
    for piece in watchdog(ENVIRON, None):
        time.sleep(0.4)  # the reader's time, twice the limit
        read.append(piece)
    assert read == [b"piece"] * 3


def test_a_plain_answer_is_handed_on_as_it_is():
    answer = HttpResponse(b"rooms")
    assert Watchdog(lambda environ, start: answer, limit=1)(ENVIRON, None) is answer


def test_closing_a_stream_closes_the_answer():
    closed = []
    answer = StreamingHttpResponse([b"x"])
    answer._resource_closers.append(lambda: closed.append(True))
    Watchdog(lambda environ, start: answer, limit=1)(ENVIRON, None).close()
    assert closed
