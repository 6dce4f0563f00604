"""The WSGI application that gunicorn serves: `gunicorn rentomatic_site.wsgi`."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.wsgi import get_wsgi_application
from django.urls import reverse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")

django_application = get_wsgi_application()
# Every view is loaded now, the admin's too: before gunicorn forks, in memory that its workers share.
reverse("admin:index")


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """
    Django, told of a Content-Type what forms need: the media type and the boundary of its parts.

    Django reads the query string in the charset that is named there, before any middleware: `charset=hex`
    would end the request without an answer. Everything here is UTF-8.
    """
    media_type, *parameters = environ.get("CONTENT_TYPE", "").split(";")
    boundary = [text for text in parameters if text.strip().lower().startswith("boundary=")]
    environ["CONTENT_TYPE"] = ";".join([media_type, *boundary])
    return django_application(environ, start_response)
