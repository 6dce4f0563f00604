from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created


class SiteConfig(AppConfig):
    name = "rentomatic_site"

    def ready(self) -> None:
        from rentomatic_site import checks, logs, postgres, sqlcommenter  # noqa: F401 - checks registers them

        if not settings.POOLED:  # which changes from one transaction to the next
            connection_created.connect(logs.remember_database_process)
        if settings.SQL_COMMENTS:
            connection_created.connect(sqlcommenter.connected)
        if settings.TRACES_ENDPOINT:
            from rentomatic_site import tracing

            connection_created.connect(tracing.connected)
        if settings.METRICS_BIND:
            from rentomatic_site.metrics import requests

            requests.connect()
        # Where the application's database is also the maintenance database, commands have to open it.
        if settings.SCENARIO and settings.POSTGRES["dbname"] != settings.APPLICATION_DB:
            postgres.close_to_this_process(settings.APPLICATION_DB)
