"""The record of what happened to accounts: the history of the user in the admin, and the log."""

import logging

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet

logger = logging.getLogger("rentomatic_site.accounts")


def record(account: User, what: str, *, by: User | None = None, address: str = "") -> None:
    """
    Record what happened to an account. `by` is who did it, by default its owner; `address` the IP address of
    the request, empty for a command.
    """
    doer = by or account
    LogEntry.objects.create(
        user_id=doer.pk,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(account.pk),
        object_repr=account.get_username()[:200],
        action_flag=CHANGE,
        change_message=f"{what}, from {address}." if address else f"{what}.",
    )
    logger.info(
        "account %s: %s, by %s from %s",
        account.get_username(),
        what,
        doer.get_username(),
        address or "the command line",
    )


def entries_of(account: User) -> QuerySet[LogEntry]:
    """What happened to the account, newest first."""
    entries = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(User), object_id=str(account.pk)
    )
    return entries.select_related("user").order_by("-pk")
