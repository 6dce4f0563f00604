"""The response header `X-Scenario`, for clients that do not see the banner of the pages."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Add `X-Scenario: NAME`; in use only where SCENARIO is set."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers["X-Scenario"] = settings.SCENARIO
        return response

    return respond
