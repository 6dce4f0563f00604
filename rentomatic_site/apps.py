from django.apps import AppConfig
from django.conf import settings


class SiteConfig(AppConfig):
    name = "rentomatic_site"

    def ready(self) -> None:
        from rentomatic_site import checks, postgres  # noqa: F401 - checks registers them

        # Where the application's database is also the maintenance database, commands have to open it.
        if settings.SCENARIO and settings.POSTGRES["dbname"] != settings.APPLICATION_DB:
            postgres.close_to_this_process(settings.APPLICATION_DB)
