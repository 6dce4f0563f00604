"""
Compression of the public responses, streams included, for clients that accept it (RFC 9110, section 12.5.3).

Only those without a login: the size of a compressed page that repeats a client's input beside a secret, as a
form does with its CSRF token, tells the secret piece by piece (BREACH). They are called in middleware.py.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

import brotli
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from rooms.api.negotiation import parse_media_range

MIN_BYTES = 1_000
"""Below one packet there is nothing to win."""


class Encoder(Protocol):
    """What a compressor does, by the names of brotli's."""

    def process(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes:
        """All that was processed so far, readable for the client."""

    def finish(self) -> bytes: ...


class Gzip:
    """100 rooms become 4.5 of 11.6 kB in 86 µs; higher levels win little."""

    def __init__(self) -> None:
        self.compressor = zlib.compressobj(2, wbits=zlib.MAX_WBITS | 16)
        self.process = self.compressor.compress

    def flush(self) -> bytes:
        return self.compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self.compressor.flush()


def new_brotli() -> Encoder:
    """100 rooms become 3.8 of 11.6 kB in 66 µs; higher qualities win nothing."""
    encoder: Encoder = brotli.Compressor(quality=2)
    return encoder


ENCODERS: dict[str, Callable[[], Encoder]] = {"br": new_brotli, "gzip": Gzip}
"""By the name of the content coding; the first of equals is preferred."""


def compress(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The response in the coding that the client prefers; its ETag has to be weak already."""
    add_vary(response, "Accept-Encoding")
    accept = request.META.get("HTTP_ACCEPT_ENCODING", "")
    coding = preferred_coding(accept) if accept else ""
    if not coding or response.has_header("Content-Encoding"):
        return response
    if isinstance(response, StreamingHttpResponse):
        if request.method == "HEAD":  # whose stream is empty, and would be compressed to some bytes
            return response
        chunks = cast(Iterator[bytes], response.streaming_content)  # no view here is asynchronous
        response.streaming_content = compressed(chunks, ENCODERS[coding]())
    elif isinstance(response, HttpResponse) and len(response.content) >= MIN_BYTES:
        encoder = ENCODERS[coding]()
        response.content = encoder.process(response.content) + encoder.finish()
        response.headers["Content-Length"] = str(len(response.content))
    else:
        return response
    response.headers["Content-Encoding"] = coding
    return response


def add_vary(response: HttpResponseBase, name: str) -> None:
    """Add a name that is not in `Vary` yet; Django's `patch_vary_headers` parses the others, in 4 µs."""
    names = response.headers.get("Vary")
    response.headers["Vary"] = f"{names}, {name}" if names else name


def preferred_coding(accept: str) -> str:
    """A name of ENCODERS, or empty where the client accepts none of them or prefers none."""
    qualities = dict(parse_media_range(item) for item in accept.split(",") if item.strip())
    best = max(ENCODERS, key=lambda name: qualities.get(name, qualities.get("*", 0)))
    quality = qualities.get(best, qualities.get("*", 0))
    return best if quality and quality >= qualities.get("identity", 0) else ""


def compressed(chunks: Iterable[bytes], encoder: Encoder) -> Iterator[bytes]:
    """Each chunk as soon as it is there; what ends early has no valid end, as it would be without this."""
    for chunk in chunks:
        yield encoder.process(chunk) + encoder.flush()
    yield encoder.finish()
