"""`dbshell` and `postgres shell`: psql on the configured server."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.db.backends.postgresql import client

from rentomatic_site import postgres
from rentomatic_site.embedded import server as embedded_server


class DatabaseClient(client.DatabaseClient):
    """Start the embedded server, and run the wheel's psql where it is installed."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        postgres.ready()
        arguments, env = super().settings_to_cmd_args_env(settings_dict, parameters)
        with suppress(embedded_server.Error):  # in production it is the one on the path
            arguments[0] = embedded_server.binary("psql")
        return arguments, env
