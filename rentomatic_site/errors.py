"""The handlers of 403, 404 and 500: inside the admin for its people, elsewhere those of the rooms."""

import sys
from contextlib import suppress

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext, override

from rooms.api import errors


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return show_in_admin(
        request,
        errors.forbidden(request, exception),
        gettext("You may not do this"),
        gettext(
            "Your account doesn't have the right to do this. Whoever manages the users can give it to you."
        ),
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return show_in_admin(
        request,
        errors.csrf_failure(request, reason),
        gettext("This form was not taken"),
        gettext(
            "It was too old, or not ours, and nothing was changed. "
            "Go back, reload the page and send it again."
        ),
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return show_in_admin(
        request,
        errors.not_found(request, exception),
        gettext("Not found"),
        gettext("Nothing is at this URL of the admin."),
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """The response for an uncaught exception; what was sent to the admin without a database is kept in it."""
    response = errors.server_error(request)
    is_page = response.headers["Content-Type"].startswith("text/html")
    if response.status_code == 503 and is_page and request.path.startswith(reverse("admin:index")):
        # The page is right without the form, too: it is not worth another error.
        with suppress(Exception), override("en"):
            problem = errors.error_from_database(sys.exc_info()[1])
            if problem and (fields := sent_fields(request)):
                context = {"title": "Not saved", "message": problem.message, "fields": fields}
                context["token"] = request.POST.get("csrfmiddlewaretoken", "")
                response.content = render_to_string("admin/send_again.html", context).encode()
    return response


def sent_fields(request: HttpRequest) -> list[tuple[str, str]]:
    """The fields of a form that may be shown again; empty where there are secrets or files."""
    names = {*request.POST, *request.FILES} - {"csrfmiddlewaretoken"}
    if request.FILES or any(word in name for name in names for word in ("password", "token")):
        return []
    return [(name, value) for name, values in request.POST.lists() for value in values]


def show_in_admin(request: HttpRequest, response: HttpResponse, title: str, message: str) -> HttpResponse:
    """The same response with a page of the admin, where it is a page and the request was for the admin."""
    is_page = response.headers["Content-Type"].startswith("text/html")
    if is_page and request.path.startswith(reverse("admin:index")) and hasattr(request, "user"):
        context = {**admin.site.each_context(request), "title": title, "message": message}
        response.content = render_to_string("admin/problem.html", context, request).encode()
    return response
