"""`{% scenario_banner %}`: which throw-away database a page is of; nothing on the application's own."""

from zlib import crc32

from django import template
from django.conf import settings

register = template.Library()

COLOURS = 8
"""Classes in banner.css: the strict content security policy forbids a style attribute."""


@register.inclusion_tag("scenarios/banner.html")
def scenario_banner() -> dict[str, str | int]:
    """The scenario's name and the number of its colour, which follows from the name."""
    return {"scenario": settings.SCENARIO, "colour": crc32(settings.SCENARIO.encode()) % COLOURS}
