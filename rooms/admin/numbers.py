"""
Numbers as the reader's language writes them, and as people type them.

"1.000" is a thousand in German and one in English, and "1,000" the other way round. A person who types it
means what their language means; where that leaves a doubt, the number is refused, never guessed.
"""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.formats import get_format, number_format
from django.utils.translation import gettext

from rooms.columns import WHOLE_NUMBER, Column

SPACES = re.compile("[ \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}]")
LIKE_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}[.,][0-9]{3}", re.ASCII)
"""A number that some languages read as thousands, and others as a fraction."""


def grouped(value: float) -> str:
    """A number with its thousands apart."""
    number = value if isinstance(value, float) else int(value)  # a Count is a text with its unit
    return number_format(number, use_l10n=True, force_grouping=True)


def decimal_separator() -> str:
    return str(get_format("DECIMAL_SEPARATOR"))


def show_column(column: Column, value: Any) -> str:
    """A room's value without its unit."""
    if value is None:
        return gettext("unknown")
    return grouped(value) if column.type is WHOLE_NUMBER else column.display(value)


def plain_number(text: str) -> str:
    """
    A number that was typed, with a point for its decimals and without separators of thousands; what is no
    number comes back as it is, for the field to refuse. ValidationError where it can be read in two ways.
    """
    point, separator = decimal_separator(), str(get_format("THOUSAND_SEPARATOR"))
    text = text.strip()
    if SPACES.fullmatch(separator):
        text, separator = SPACES.sub(" ", text), " "
    group = re.escape(separator)
    if re.fullmatch(
        rf"[-+]?[1-9][0-9]{{0,2}}({group}[0-9]{{3}})+({re.escape(point)}[0-9]+)?", text, re.ASCII
    ):
        text = text.replace(separator, "")
    elif LIKE_THOUSANDS.fullmatch(text):
        whole = re.sub("[.,]", "", text)
        raise ValidationError(
            gettext(
                "“%(text)s” can be read in two ways. Write %(whole)s without a separator if that is meant."
            )
            % {"text": text, "whole": whole}
        )
    return text.replace(point, ".") if text.count(point) == 1 and (point == "." or "." not in text) else text


class LocalNumber:
    """A field of a form for a number that is typed as the language writes it."""

    def to_python(self: Any, value: Any) -> Any:
        return super().to_python(plain_number(value) if isinstance(value, str) else value)  # type: ignore[misc]


class WholeNumberField(LocalNumber, forms.IntegerField):
    pass


class AmountField(LocalNumber, forms.DecimalField):
    pass
