"""`{% scenario_banner %}`: the name of the scenario; empty on the application's database."""

from zlib import crc32

from django import template
from django.conf import settings

register = template.Library()

COLOURS = 8
"""CSS classes in banner.css: the content security policy forbids style attributes."""


@register.inclusion_tag("scenarios/banner.html")
def scenario_banner() -> dict[str, str | int]:
    """The scenario's name and the number of its colour, a hash of the name."""
    return {"scenario": settings.SCENARIO, "colour": crc32(settings.SCENARIO.encode()) % COLOURS}
