"""
What an unknown parameter was meant for: the names that people bring along from other APIs, and misspellings.

A hint is the name of the parameter that does here what was asked for; where none does, it is a sentence
about what there is instead.
"""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from rooms.api.operators import FILTERS, OPERATORS, PREFIX
from rooms.columns import COLUMNS

SIMILAR = 0.75
"""difflib's ratio from which on a word is taken for a misspelling of another."""

PAGES = 'pages are linked: follow rel="next" of the Link header, which carries after=<cursor>'
DESCENDING = "a - before the field's name sorts the other way round, as in order=-price"
NO_TEXT = "rooms have no text to search; filters pick them, as in filter_price__lt=66"
ALL_FIELDS = "every room comes with all of its fields"
BY_SUFFIX = "the format is chosen by the header Accept or a suffix: /rooms.json, .ndjson, .csv, .geojson"
PLACE = "near=lon,lat"

SYNONYMS = {
    "near": ("location", "latlng", "lonlat"),
    "within": ("radius", "distance", "max_distance"),
    "bbox": ("bounds", "bounding_box"),
    "order": ("sort", "sort_by", "order_by", "ordering"),
    "limit": ("per_page", "page_size", "max_results", "top", "rows", "take"),
    "after": ("cursor", "page_token"),
    "count": ("total", "with_count", "include_count"),
    PAGES: ("page", "page_number", "offset", "skip", "start"),
    DESCENDING: ("direction", "dir", "desc", "asc", "sort_order", "sort_dir"),
    NO_TEXT: ("q", "query", "search", "text", "keyword"),
    ALL_FIELDS: ("fields", "select", "columns"),
    BY_SUFFIX: ("format", "output"),
    PLACE: ("lat", "lng", "lon", "long"),
}
"""What does here (or a sentence where nothing does) what these names ask for elsewhere."""

OPERATOR_WORDS = {
    "eq": ("is", "equals", "equal", "exact"),
    "ne": ("not", "neq", "not_equal"),
    "lt": ("below", "under", "less", "less_than"),
    "lte": ("max", "maximum", "to", "le", "at_most"),
    "gt": ("above", "over", "more", "more_than", "greater", "greater_than"),
    "gte": ("min", "minimum", "from", "ge", "at_least"),
    "in": ("any", "one_of"),
    "isnull": ("null", "unknown"),
}

AXES = {"lat": "latitude", "lng": "longitude", "lon": "longitude", "long": "longitude"}


def reversed_table(table: Mapping[str, Collection[str]]) -> dict[str, str]:
    """By each word, without its underscores, what it stands for."""
    return {word.replace("_", ""): meaning for meaning, words in table.items() for word in words}


MEANINGS = reversed_table(SYNONYMS)
OPERATOR_OF = {key: key for key in OPERATORS} | reversed_table(OPERATOR_WORDS)
FIELD_NAMES = re.compile(f"(?:{'|'.join(COLUMNS)})s?", re.IGNORECASE)


def words_of(name: str) -> list[str]:
    """`max` and `price` of `max_price`, `maxPrice`, `max-price`, `maxprice` or `filter[max_price]`."""
    parted = FIELD_NAMES.sub(r"_\g<0>_", name)
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", parted)]
    return words[1:] if words[:1] == ["filter"] else words


def hint_for(name: str, parameters: Collection[str]) -> str:
    """The hint for an unknown name, empty where nothing resembles it; `parameters` has no filters in it."""
    words = words_of(name)
    joined = "".join(words)
    if joined in MEANINGS:
        return MEANINGS[joined]
    if joined in parameters:
        return joined
    return filter_meant(words) or closest(name, parameters)


def filter_meant(words: list[str]) -> str:
    """
    The filter of a field, named first or last, and words for an operator; eq where there are none.

    Only the field may be misspelled: operators are so short that the nearest one may mean the opposite.
    """
    for word, rest in ((words[0], words[1:]), (words[-1], words[:-1])) if words else ():
        field = AXES.get(word) or closest(word, COLUMNS)
        if field:
            operator = OPERATOR_OF.get("".join(rest)) if rest else "eq"
            name = f"{PREFIX}{field}__{operator}"
            takes = [key for key, operator in OPERATORS.items() if operator.suits(COLUMNS[field])]
            return name if name in FILTERS else f"{field} takes {', '.join(takes)}"
    return ""


def closest(word: str, known: Collection[str]) -> str:
    return next(iter(get_close_matches(word, known, 1, SIMILAR)), "")


def place_of(given: Mapping[str, str]) -> str:
    """`lon,lat`, as `near` takes it, out of the two parameters that other APIs have; else empty."""
    axes = {AXES[name.lower()]: text for name, text in given.items() if name.lower() in AXES}
    return f"{axes['longitude']},{axes['latitude']}" if len(axes) == 2 else ""
