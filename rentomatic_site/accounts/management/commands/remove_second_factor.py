from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from rentomatic_site.accounts import second_factor


class Command(BaseCommand):
    help = (
        "Remove a user's second factor with its recovery codes, for an administrator who has lost the phone. "
        "The user's sessions end; the password stays. It is written to the history of the account. Where the "
        "second factor is required, the next login sets up another one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", help="The name that the user logs in with.")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        try:
            user = User.objects.get_by_natural_key(username)
        except User.DoesNotExist:
            raise CommandError(
                f"No user is named {username!r}. Next: look at the names in the admin under "
                "Users, or ./manage.py createsuperuser"
            ) from None
        if second_factor.remove(user, how=" by ./manage.py remove_second_factor"):
            self.stdout.write(
                f"The second factor of {username} is removed, and the user's sessions have ended."
            )
        else:
            self.stdout.write(f"{username} has no second factor; nothing was changed.")
