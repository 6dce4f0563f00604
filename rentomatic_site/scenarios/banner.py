"""The header that tells programs what the banner tells people: the answer is from a scenario's database."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Add `X-Scenario: NAME`; in use only where SCENARIO is set."""

    def named(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers["X-Scenario"] = settings.SCENARIO
        return response

    return named
