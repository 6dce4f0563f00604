"""Django's `migrate`, safe to run several times at once and without the requests' time limit."""

from contextlib import closing
from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from rentomatic_site import postgres


class Command(migrate.Command):
    help = migrate.Command.help + " Of several at once one works, and the others wait for it."

    def handle(self, *args: Any, **options: Any) -> None:
        # The lock is in the database that is migrated, on a session of the role that migrates: no other
        # database or role is needed.
        with closing(connections[options["database"]].copy()) as holder, holder.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            postgres.take_lock(cursor, "rentomatic migrate", self.waiting)
            with postgres.long_statements():
                super().handle(*args, **options)

    def waiting(self) -> None:
        self.stdout.write("Another migrate is at work; waiting for it …")
