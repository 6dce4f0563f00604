"""
Hints for unknown parameters: synonyms from other APIs, and misspellings.

A hint is the name of the parameter with the same meaning, or, where there is none, a sentence about the
alternative.
"""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from rooms.api.operators import FILTERS, OPERATORS, PREFIX
from rooms.columns import COLUMNS

MIN_SIMILARITY = 0.75
"""The difflib ratio from which on a name counts as a misspelling of another."""

PAGES = 'pages are linked: follow rel="next" of the Link header, which has after=<cursor>'
DESCENDING = "a - before the field's name sorts the other way round, as in order=-price"
NO_TEXT = "rooms have no text to search; filters pick them, as in filter_price__lt=66"
BY_SUFFIX = "the format is chosen by the header Accept or a suffix: /rooms.json, .ndjson, .csv, .geojson"
NEAR_LON_LAT = "near=lon,lat"

SYNONYMS = {
    "near": ("location", "latlng", "lonlat"),
    "within": ("radius", "distance", "max_distance"),
    "bbox": ("bounds", "bounding_box"),
    "order": ("sort", "sort_by", "order_by", "ordering"),
    "limit": ("per_page", "page_size", "max_results", "top", "rows", "take"),
    "fields": ("select", "columns", "include_fields", "only"),
    "after": ("cursor", "page_token", "starting_after"),
    "before": ("ending_before",),
    "count": ("total", "with_count", "include_count"),
    PAGES: ("page", "page_number", "offset", "skip", "start"),
    DESCENDING: ("direction", "dir", "desc", "asc", "sort_order", "sort_dir"),
    NO_TEXT: ("q", "query", "search", "text", "keyword"),
    BY_SUFFIX: ("format", "output"),
    NEAR_LON_LAT: ("lat", "lng", "lon", "long"),
}
"""Names that other APIs use, by the parameter of this API with that meaning, or by a sentence."""

OPERATOR_SYNONYMS = {
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


def invert(table: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The keys by their synonyms, which lose their underscores."""
    return {synonym.replace("_", ""): key for key, synonyms in table.items() for synonym in synonyms}


PARAMETER_BY_SYNONYM = invert(SYNONYMS)
OPERATOR_BY_SYNONYM = {key: key for key in OPERATORS} | invert(OPERATOR_SYNONYMS)
FIELD_NAMES = re.compile(f"(?:{'|'.join(COLUMNS)})s?", re.IGNORECASE)


def split_name(name: str) -> list[str]:
    """`max` and `price` of `max_price`, `maxPrice`, `max-price`, `maxprice` or `filter[max_price]`."""
    parted = FIELD_NAMES.sub(r"_\g<0>_", name)
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", parted)]
    return words[1:] if words[:1] == ["filter"] else words


def hint_for(name: str, parameters: Collection[str]) -> str:
    """The hint for an unknown name, empty where nothing is similar; `parameters` does not include filters."""
    words = split_name(name)
    joined = "".join(words)
    if joined in PARAMETER_BY_SYNONYM:
        return PARAMETER_BY_SYNONYM[joined]
    if joined in parameters:
        return joined
    return guess_filter(words) or closest_match(name, parameters)


def guess_filter(words: list[str]) -> str:
    """
    The filter of a field, named first or last, with an operator; `eq` where there is no operator.

    Only the field may be misspelled: operators are so short that the closest one may mean the opposite.
    """
    for word, rest in ((words[0], words[1:]), (words[-1], words[:-1])) if words else ():
        field = AXES.get(word) or closest_match(word, COLUMNS)
        if field:
            operator = OPERATOR_BY_SYNONYM.get("".join(rest)) if rest else "eq"
            name = f"{PREFIX}{field}__{operator}"
            takes = [key for key, operator in OPERATORS.items() if operator.suits(COLUMNS[field])]
            return name if name in FILTERS else f"{field} takes {', '.join(takes)}"
    return ""


def closest_match(word: str, known: Collection[str]) -> str:
    return next(iter(get_close_matches(word, known, 1, MIN_SIMILARITY)), "")


def point_from_axes(given: Mapping[str, str]) -> str:
    """`lon,lat`, the format of `near`, from the two parameters that other APIs use; else empty."""
    axes = {AXES[name.lower()]: text for name, text in given.items() if name.lower() in AXES}
    return f"{axes['longitude']},{axes['latitude']}" if len(axes) == 2 else ""
