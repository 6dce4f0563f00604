"""
What the history and the jobs record, in the reader's language.

The records are texts in English, such as "price 39 → 45 (by an import)": the SQL of a bulk change writes
them by the million, psql and every reader find the same, and those of years ago stay readable. Here their
parts are recognized and translated when they are shown; what is not recognized is shown as it is recorded.
"""

import re
from typing import Any

from django.contrib.admin.models import LogEntry
from django.utils.functional import lazy
from django.utils.translation import gettext, override
from django.utils.translation import gettext_noop as _

from rooms.admin.numbers import decimal_separator
from rooms.columns import COLUMNS
from rooms.counting import Count
from rooms.models import Room

NAME = "|".join(COLUMNS)
CHANGED = re.compile(rf"({NAME}) (\S+) → (\S+)")
VALUE = re.compile(rf"({NAME}) (\S+)")
ENDING = re.compile(r"(.*?) \(([^()]*)\)", re.DOTALL)
"""A message, and in parentheses how the change was made."""
RULE = re.compile(
    r"(?:(?P<way>by|to) )?(?P<amount>[-+]?[0-9.]+) (?P<unit>%|euros per day)"
    r"(?:, (?P<end>rounded to 5|ending in 9))?"
)
UNDONE = re.compile(r"undo of job ([0-9]+)")

PHRASES = {
    text: text
    for text in (
        _("restored"),
        _("added by an import"),
        _("by an import"),
        _("Add a room"),
        _("Delete rooms"),
        _("rounded to 5"),
        _("ending in 9"),
    )
}
"""Texts that are recorded as they are."""

WAYS = {
    "by %": _("by %(amount)s %%"),
    "by euros per day": _("by %(amount)s euros per day"),
    "to euros per day": _("to %(amount)s euros per day"),
    "%": _("%(amount)s %%"),
    "euros per day": _("%(amount)s euros per day"),
}

DELETED = re.compile(r"Delete ([0-9,]+) rooms?")
TITLES = {
    re.compile(r"Change a room: (?P<changes>.*)", re.DOTALL): _("Change a room: %(changes)s"),
    re.compile(r"Change prices (?P<rule>.*)"): _("Change prices %(rule)s"),
    re.compile(r"Import (?P<file>.*)", re.DOTALL): _("Import %(file)s"),
    re.compile(r"Undo job (?P<number>[0-9]+)"): _("Undo job %(number)s"),
    re.compile(r"Undo job (?P<number>[0-9]+): (?P<title>.*)", re.DOTALL): _("Undo job %(number)s: %(title)s"),
}


def english(value: Any) -> str:
    """The text of a value as it is recorded."""
    with override("en"):
        return str(value)


def column_label(name: str) -> str:
    """A column's name as the form has it."""
    return str(Room._meta.get_field(name).verbose_name)  # type: ignore[union-attr]  # no relation


lazy_label = lazy(column_label, str)


def show_value(value: Any) -> str:
    """A recorded value, or one of a room: digits in all languages."""
    return gettext("unknown") if value in (None, "", "unknown") else str(value)


def show_message(text: str) -> str:
    """The message of a log entry."""
    ending = ENDING.fullmatch(text)
    if ending:
        return f"{show_message(ending[1])} ({show_ending(ending[2])})"
    return ", ".join(map(show_part, text.split(", ")))


def show_part(text: str) -> str:
    if changed := CHANGED.fullmatch(text):
        return f"{column_label(changed[1])} {show_value(changed[2])} → {show_value(changed[3])}"
    if value := VALUE.fullmatch(text):
        return f"{column_label(value[1])} {show_value(value[2])}"
    return gettext(PHRASES[text]) if text in PHRASES else text


def show_ending(text: str) -> str:
    if undone := UNDONE.fullmatch(text):
        return gettext("undo of job %(number)s") % {"number": undone[1]}
    return show_part(show_rule(text))


def show_rule(text: str) -> str:
    """A bulk change of prices, as in "by +5 %" or "to 49 euros per day, ending in 9"."""
    rule = RULE.fullmatch(text)
    if not rule:
        return text
    way = WAYS.get(" ".join(part for part in (rule["way"], rule["unit"]) if part))
    if not way:
        return text
    shown = gettext(way) % {"amount": rule["amount"].replace(".", decimal_separator())}
    return f"{shown}, {show_part(rule['end'])}" if rule["end"] else shown


def show_title(text: str) -> str:
    """The title of a job."""
    if deleted := DELETED.fullmatch(text):
        return gettext("Delete %(rooms)s") % {"rooms": Count(int(deleted[1].replace(",", "")))}
    for pattern, template in TITLES.items():
        found = pattern.fullmatch(text)
        if found:
            show = {"changes": show_message, "rule": show_rule, "title": show_title}
            return gettext(template) % {
                name: show.get(name, str)(part) for name, part in found.groupdict().items()
            }
    return show_part(text)


def show_entry(entry: LogEntry) -> str:
    """What a log entry says was done to its room."""
    message = show_message(entry.change_message)
    if entry.is_deletion():
        return gettext("Deleted: %(values)s") % {"values": message}
    if not entry.is_addition():
        return message
    # Of a room that was added in the form, Django's message is JSON.
    return gettext("Added.") if entry.change_message.startswith("[") else f"{gettext('Added.')} {message}"
