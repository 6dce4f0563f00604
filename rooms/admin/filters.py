"""All the filters of the list, and their query parameters."""

from django.contrib import admin

from rooms.admin.list_filters import CHOICE_FILTERS, RANGE_FILTERS
from rooms.admin.place_filters import PLACE_FILTERS

FILTERS: tuple[type[admin.ListFilter], ...] = (*RANGE_FILTERS, *CHOICE_FILTERS, *PLACE_FILTERS)

PARAMETERS = (
    {name for row in RANGE_FILTERS for name in row.names}
    | {str(row.parameter_name) for row in CHOICE_FILTERS}
    | {name for row in PLACE_FILTERS for name in row.names}
)
"""The query parameters of the list's filters."""
