"""The handlers of 403 and 404: inside the admin a page of the admin, elsewhere those of the rooms."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext

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


def show_in_admin(request: HttpRequest, response: HttpResponse, title: str, message: str) -> HttpResponse:
    """The same response with a page of the admin, where it is a page and the request was for the admin."""
    is_page = response.headers["Content-Type"].startswith("text/html")
    if is_page and request.path.startswith(reverse("admin:index")) and hasattr(request, "user"):
        context = {**admin.site.each_context(request), "title": title, "message": message}
        response.content = render_to_string("admin/problem.html", context, request).encode()
    return response
