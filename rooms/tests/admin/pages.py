"""What a test reads on a page."""

import re
from html import unescape


def page_text(response):
    """The page's text as a person reads it, without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))
