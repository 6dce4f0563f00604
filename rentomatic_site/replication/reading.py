"""Public views on replicas."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from rentomatic_site.replication.replicas import replicas
from rentomatic_site.replication.router import read_from
from rentomatic_site.replication.written import place_to_reach

TOOK_TOO_LONG = "57014"


def from_replica(
    view: Callable[..., HttpResponseBase], request: HttpRequest, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    """
    The response of a view that reads only: from a replica that shows what this client has written, from the
    next one where that one fails, else from the primary.
    """
    place = place_to_reach(request)
    for alias in replicas.readable():
        if place and not replicas.has(alias, place):
            continue
        try:
            with replicas.at_work(alias):
                return respond(alias, view, request, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            if getattr(error.__cause__, "pgcode", None) == TOOK_TOO_LONG:
                raise  # as it would on another one
            replicas.fail(alias)
    return view(request, *args, **kwargs)


def respond(
    alias: str, view: Callable[..., HttpResponseBase], request: HttpRequest, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    """The view's response, all of which is read from the database."""
    read_from.set(alias)
    try:
        response = view(request, *args, **kwargs)
    finally:
        read_from.set(DEFAULT_DB_ALIAS)
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = streamed(alias, iter(response))
    return response


def streamed(alias: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The rest of a response, which the server reads when the view has returned."""
    read_from.set(alias)
    try:
        yield from chunks
    finally:
        read_from.set(DEFAULT_DB_ALIAS)
