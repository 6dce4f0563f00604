"""Spreadsheets are worked on one at a time in each web process: its other threads are for the others."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest

from rooms.admin.locks import send_again

RETRY_AFTER = 5
"""Seconds; the longest work, 50,000 rooms as XLSX, takes 4 s of computing."""

turn = threading.Lock()


def in_turn(view: Callable[..., Any]) -> Callable[..., Any]:
    """A view of a ModelAdmin that does heavy work on POST; while another does, it answers 503 at once."""

    @wraps(view)
    def answer(model_admin: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.method != "POST":
            return view(model_admin, request, *args, **kwargs)
        if not turn.acquire(blocking=False):
            return send_again(
                request,
                model_admin.admin_site,
                "Another spreadsheet is being worked on",
                "Spreadsheets are read and written one after the other. Nothing was changed. "
                "Try again in a few seconds.",
                status=503,
                retry_after=RETRY_AFTER,
            )
        try:
            response = view(model_admin, request, *args, **kwargs)
            # A page is rendered after its view, and a preview of 500 rows takes a while, too.
            return response.render() if hasattr(response, "render") else response
        finally:
            turn.release()

    return answer
