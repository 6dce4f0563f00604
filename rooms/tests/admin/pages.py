"""Reading pages in tests."""

import re
from html import unescape


def page_text(response):
    """The text of a response without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))
