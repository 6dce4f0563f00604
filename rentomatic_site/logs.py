"""Logging: its configuration, the id of the request in every record, and the formats."""

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from django.db import connections
from pythonjsonlogger.json import JsonFormatter as PlainJsonFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current thread handles; set by `middleware.request_ids`."""


database_process: ContextVar[int | None] = ContextVar("database_process", default=None)
"""The process id of the PostgreSQL backend that the current thread is connected to, or was last."""


def remember_database_process(connection: Any, **kwargs: Any) -> None:
    """Receiver of `connection_created`: once for each connection, and nothing for a request."""
    if connections[connection.alias] is connection:  # not the probes', which have one of their own
        database_process.set(connection.connection.info.backend_pid)


class RequestId(logging.Filter):
    """
    Adds the request's id to every record, so that one search finds all lines of a request, and the process
    of its database connection, by which PostgreSQL's own lines are found.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get() or None
        if getattr(record, "request_id", None) and database_process.get():
            record.database_process = database_process.get()
        return True


class Timestamp(logging.Formatter):
    """The time in UTC with its offset, as nginx writes it: `2026-11-20T16:00:00.000+00:00`."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JsonFormatter(Timestamp, PlainJsonFormatter):
    """JSON, one object per line."""


class TextFormatter(Timestamp):
    """Formats a record as `2026-11-20T16:00:00.000+00:00 INFO    rooms: message [request id]`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        request = getattr(record, "request_id", None)
        return f"{line} [{request}]" if request else line


def configuration(formatter: str, level: str) -> dict[str, Any]:
    """The setting LOGGING: one stream, the console, as `text` for people or `json` for machines."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {
                "()": "rentomatic_site.logs.TextFormatter",
                "format": "{asctime} {levelname:7} {name}: {message}",
                "style": "{",
            },
            "json": {
                "()": "rentomatic_site.logs.JsonFormatter",
                "format": "{asctime}{levelname}{name}{message}",
                "style": "{",
                "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            },
        },
        "filters": {"request_id": {"()": "rentomatic_site.logs.RequestId"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": formatter, "filters": ["request_id"]}
        },
        "root": {"handlers": ["console"], "level": level},
        # Django's own configuration sends these elsewhere (mail, DEBUG only): to the root like the rest.
        "loggers": {
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
            "axes": {"level": "WARNING"},  # failed logins, not each good one in four lines
        },
    }
