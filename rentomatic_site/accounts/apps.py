from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "rentomatic_site.accounts"
    default_auto_field = "django.db.models.BigAutoField"
