"""One spreadsheet at a time in each web process, so that its other threads serve other requests."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext

from rooms.admin.locks import retry_page

RETRY_AFTER = 5
"""Seconds; the longest work, 10,000 rooms, takes 3 s of CPU time."""

spreadsheet_lock = threading.Lock()


def one_at_a_time(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for views of a ModelAdmin whose POST is heavy: 503 while another one is running."""

    @wraps(view)
    def respond(model_admin: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.method != "POST":
            return view(model_admin, request, *args, **kwargs)
        if not spreadsheet_lock.acquire(blocking=False):
            return retry_page(
                request,
                model_admin.admin_site,
                gettext("Another spreadsheet is being worked on"),
                gettext(
                    "Spreadsheets are read and written one after the other. Nothing was changed. "
                    "Try again in a few seconds."
                ),
                status=503,
                retry_after=RETRY_AFTER,
            )
        try:
            response = view(model_admin, request, *args, **kwargs)
            # A TemplateResponse is rendered after its view; a preview of 500 rows takes long, too.
            return response.render() if hasattr(response, "render") else response
        finally:
            spreadsheet_lock.release()

    return respond
