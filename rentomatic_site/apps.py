from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "rentomatic_site"

    def ready(self) -> None:
        from rentomatic_site import checks  # noqa: F401 - registers them
