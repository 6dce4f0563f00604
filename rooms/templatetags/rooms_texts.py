"""Texts of the admin: what is recorded, in the reader's language, and the languages themselves."""

from django import template
from django.conf import settings

from rooms.admin import recorded

register = template.Library()
register.filter("entry_text", recorded.show_entry)
register.filter("title_text", recorded.show_title)
register.filter("rule_text", recorded.show_rule)


@register.simple_tag
def languages() -> list[tuple[str, str]]:
    """The codes of the admin's languages, each with its own name."""
    return settings.LANGUAGES
