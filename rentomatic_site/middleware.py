"""What happens to every request before Django looks at it."""

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from rentomatic_site.logs import request_id

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_ids(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """
    Give the request its id: nginx's `X-Request-ID`, or one made here.

    It is in every log line of the request, in the answer's `X-Request-ID` and at `request.id`.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request.id = given if GIVEN_ID.fullmatch(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        # Never reset: Django logs an error answer after the last middleware, and a thread's next request
        # sets it anew.
        request_id.set(request.id)  # type: ignore[attr-defined]
        response = get_response(request)
        response["X-Request-ID"] = request.id  # type: ignore[attr-defined]
        return response

    return middleware
