"""The rooms as pages for people: what a template needs, from the same text that programs get."""

import json

from django.template.loader import render_to_string

from rooms.filters import FIELDS, FILTERS
from rooms.formats import FORMATS
from rooms.repository import Page
from rooms.search import PARAMETERS, Search


def room_list(search: Search, page: Page, links: dict[str, str]) -> str:
    return render_to_string(
        "rooms/room_list.html",
        {
            "rooms": json.loads(page.text),
            "search": search,
            "links": links,
            "fields": FIELDS,
            "filters": FILTERS,
            "parameters": PARAMETERS,
            "formats": FORMATS,
        },
    )


def room_detail(text: str) -> str:
    return render_to_string("rooms/room_detail.html", {"room": json.loads(text)})
