"""What a user of openapi-python-client writes; test_clients.py has it generate the package `generated`."""

import json
import re
import sys
from urllib.parse import parse_qs, urlsplit

from generated import Client
from generated.api.rooms import list_rooms, list_rooms_ndjson
from generated.models import ListRoomsFieldsItem, ListRoomsNdjsonOrderItem, ListRoomsOrderItem, Problem

BY_PRICE = [ListRoomsOrderItem.PRICE]
DEAREST = [ListRoomsOrderItem("-price"), ListRoomsOrderItem.SIZE]

client = Client(base_url=sys.argv[1])


def prices(**query):
    return [room.price for room in list_rooms.sync(client=client, **query)]


def cursor(response, relation):
    url = re.search(rf'<([^>]*)>; rel="{relation}"', response.headers["Link"])[1]
    query = parse_qs(urlsplit(url).query)
    return (query.get("after") or query["before"])[0]


first = list_rooms.sync_detailed(client=client, order=DEAREST, limit=2)
second = list_rooms.sync_detailed(client=client, order=DEAREST, limit=2, after=cursor(first, "next"))
again = list_rooms.sync_detailed(client=client, order=DEAREST, limit=2, before=cursor(second, "prev"))

refused = list_rooms.sync_detailed(client=client, limit=2000)
problem = refused.parsed
assert isinstance(problem, Problem)

lines = list_rooms_ndjson.sync_detailed(client=client, order=[ListRoomsNdjsonOrderItem.PRICE])

sys.stdout.write(
    json.dumps(
        {
            "list": prices(),
            "filtered": prices(filter_price_lt=60, order=BY_PRICE),
            "among": prices(filter_price_in=[39, 66], order=BY_PRICE),
            "box": prices(bbox=[-0.2, 51.7, 0.1, 51.8]),
            "near": prices(near=[0.3, 51.4], within=5000),
            "fields": [
                room.to_dict()
                for room in list_rooms.sync(client=client, fields=[ListRoomsFieldsItem.PRICE], limit=1)
            ],
            "pages": [[room.price for room in page.parsed] for page in (first, second, again)],
            "error": [refused.status_code, problem.detail, problem.errors[0].hint],
            "ndjson": [json.loads(line)["price"] for line in lines.content.splitlines()],
        }
    )
)
