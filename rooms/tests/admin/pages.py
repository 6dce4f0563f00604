"""Reading pages in tests, and requests that meet the work of others."""

import re
from html import unescape
from threading import Thread

from django.db import connection

from rentomatic_site import postgres
from rentomatic_site.testing import rig


def page_text(response):
    """The text of a response without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", response.content.decode())))


def while_prices_change(other, send):
    """The response to a request that waits for a room's lock until `other` has committed a price of 60."""
    name = connection.settings_dict["NAME"]
    responses = []

    def request():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 0")
        responses.append(send())
        connection.close()

    other.execute("BEGIN; UPDATE room SET price = 60")
    thread = Thread(target=request)
    thread.start()
    with postgres.session(name) as third:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        rig.wait_until(
            lambda: third.execute(waiting, [name]) or third.fetchone()[0],
            "a request that waits for the room",
        )
    other.execute("COMMIT")
    thread.join()
    return responses[0]
