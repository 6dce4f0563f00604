"""What search engines read: robots.txt, and sitemaps with the page of every room."""

from collections.abc import Iterator

from django.http import HttpRequest

from rooms.counting import count_rows
from rooms.database import connection
from rooms.responses import site_url

MAX_URLS = 50_000
"""URLs of a sitemap at most (sitemaps.org)."""

SHARE = 20_000
"""Rooms that a sitemap should have on average: codes are random, not even."""

ROBOTS = """User-agent: *
Disallow: /admin/
# The pages of single rooms and the first list are for everybody; endless combinations of filters are not.
Disallow: /rooms?
Disallow: /rooms.
Sitemap: {base}/sitemap.xml
"""


def robots(request: HttpRequest) -> str:
    return ROBOTS.format(base=site_url(request))


def shards() -> list[str]:
    """The beginnings of codes that have a sitemap each: none, one or two hexadecimal digits."""
    total = count_rows(("FROM room", []))
    digits = next((digits for digits in range(2) if total <= SHARE * 16**digits), 2)
    return [f"{number:0{digits}x}" for number in range(16**digits)] if digits else [""]


def index(request: HttpRequest) -> str:
    base = site_url(request)
    entries = "".join(
        f"<sitemap><loc>{base}/sitemap-rooms{f'-{shard}' if shard else ''}.xml</loc></sitemap>"
        for shard in shards()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</sitemapindex>'
    )


def rooms(request: HttpRequest, shard: str) -> str:
    """The rooms whose code begins with the digits; one query, from the index on the code."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        f"{''.join(urls(site_url(request), shard))}</urlset>"
    )


def urls(base: str, shard: str) -> Iterator[str]:
    first = shard.ljust(32, "0")
    last = shard.ljust(32, "f")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT code, to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM room"
            " WHERE code BETWEEN %s::uuid AND %s::uuid ORDER BY code LIMIT %s",
            [first, last, MAX_URLS],
        )
        for code, day in cursor.fetchall():
            yield f"<url><loc>{base}/rooms/{code}</loc><lastmod>{day}</lastmod></url>"
