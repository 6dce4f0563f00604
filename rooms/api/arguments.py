"""The parameters of a search as command-line arguments: `price__lt=66`, or a query string, or a URL."""

from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api.operators import FILTERS, PREFIX


def query_from_arguments(arguments: list[str]) -> QueryDict:
    """
    The query string that the arguments stand for. Of a URL only the part after `?` counts; a filter's name
    may lack `filter_`. The parameters are not checked.
    """
    given = QueryDict("&".join(argument.rpartition("?")[2] for argument in arguments))
    parameters = [(name, text) for name, texts in given.lists() for text in texts]
    return QueryDict(
        urlencode([(PREFIX + name if PREFIX + name in FILTERS else name, text) for name, text in parameters])
    )
