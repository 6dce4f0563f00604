from time import sleep

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

BATCH = 2_000
"""Rooms that one statement looks at, and may lock: for 0.15 s if it rounds them all; a million take 75 s."""

UNROUNDED = """
(latitude <> round(latitude * 1e8) / 1e8 OR longitude <> round(longitude * 1e8) / 1e8
    OR latitude::text = '-0' OR longitude::text = '-0')
"""
NEXT = "SELECT max(id) FROM (SELECT id FROM room WHERE id > %s ORDER BY id LIMIT %s) AS batch"
# The trigger rounds. Locked rooms are skipped and tried again later, which prevents deadlocks.
ROUND = f"""
UPDATE room SET latitude = latitude, longitude = longitude WHERE id IN (
    SELECT id FROM room WHERE id > %s AND id <= %s AND {UNROUNDED} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
"""
LEFT = f"SELECT EXISTS (SELECT FROM room WHERE {UNROUNDED})"


def round_rooms(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Round the rooms from before the trigger, each batch in a transaction of its own."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(LEFT)
        while cursor.fetchone()[0]:
            cursor.execute("SELECT min(id) - 1 FROM room")
            (last,) = cursor.fetchone()
            while last is not None:
                cursor.execute(NEXT, [last, BATCH])
                (stop,) = cursor.fetchone()
                if stop is not None:
                    cursor.execute(ROUND, [last, stop])
                last = stop
            cursor.execute(LEFT)
            sleep(0.1)  # the remaining rooms are locked; an import may lock them for a minute


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("rooms", "0004_round_coordinates")]
    operations = [migrations.RunPython(round_rooms, migrations.RunPython.noop)]
