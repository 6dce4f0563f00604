"""The record of what happened to accounts: the history of the user in the admin, and the log."""

import logging
import re

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_noop as _

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


EVENTS = {
    text: text
    for text in (
        _("New recovery codes made"),
        _("New password asked for by e-mail"),
        _("Password set by the link of an e-mail"),
        _("Recovery code used"),
        _("Second factor set up"),
        _("Second factor removed"),
        _("Second factor removed by an administrator"),
        _("Second factor removed by ./manage.py remove_second_factor"),
        _("Password changed"),
    )
}
ENTRY = re.compile(r"(?P<what>.*?)(?:, from (?P<address>[0-9A-Fa-f:.]+))?\.")
ENDED = re.compile(r"([0-9]+) sessions? ended")


def show_message(entry: LogEntry) -> str:
    """What is recorded in English, in the reader's language; Django's own messages are translated by it."""
    found = ENTRY.fullmatch(entry.change_message)
    if not found:
        return entry.get_change_message()
    what = gettext(found["what"]) if found["what"] in EVENTS else found["what"]
    ended = ENDED.fullmatch(what)
    if ended:
        number = int(ended[1])
        what = ngettext("%(number)s session ended", "%(number)s sessions ended", number) % {"number": number}
    if not found["address"]:
        return f"{what}."
    return gettext("%(event)s, from %(address)s.") % {"event": what, "address": found["address"]}


def entries_of(account: User) -> QuerySet[LogEntry]:
    """What happened to the account, newest first."""
    entries = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(User), object_id=str(account.pk)
    )
    return entries.select_related("user").order_by("-pk")
