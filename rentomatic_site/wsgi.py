"""The WSGI application that gunicorn serves: `gunicorn rentomatic_site.wsgi`."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, reset_queries
from django.urls import reverse

from rentomatic_site.pooling import connecting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")

django_application = get_wsgi_application()
if settings.POOLED:
    connecting.use()
# Load every view, also the admin's, before gunicorn forks: its workers share the memory.
reverse("admin:index")
# What Django does for every request and this site does not need: 8 % of what it takes outside the database.
# Queries are recorded with DEBUG only, and the cache, in the memory of the process, has no connection. Old
# connections are closed at the end of each request, and checked before the next uses them.
if not settings.DEBUG:
    request_started.disconnect(reset_queries)
request_started.disconnect(close_old_connections)
request_finished.disconnect(close_caches)


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """
    Django's application, with a Content-Type that has no parameter but `boundary`.

    Django decodes the query string with the charset of the Content-Type, before any middleware: `charset=hex`
    would end the request without a response. All requests are read as UTF-8.
    """
    media_type, *parameters = environ.get("CONTENT_TYPE", "").split(";")
    if parameters:
        boundary = [text for text in parameters if text.strip().lower().startswith("boundary=")]
        environ["CONTENT_TYPE"] = ";".join([media_type, *boundary])
    return django_application(environ, start_response)
