from django.db import migrations

# A migration that fills a column which no code reads yet (rooms/online) changes no room: no version is
# incremented, so that no edit begun before is refused, and no mirror fetches a million rooms again.
# While `rooms.filling` is on, both triggers leave an update alone.
FILLING = "current_setting('rooms.filling', true) IS DISTINCT FROM 'on'"
TRIGGERS = """
CREATE OR REPLACE TRIGGER room_touch BEFORE UPDATE ON room FOR EACH ROW
    WHEN (OLD.* IS DISTINCT FROM NEW.*{and_filling}) EXECUTE FUNCTION room_touch();
CREATE OR REPLACE TRIGGER room_change_update AFTER UPDATE ON room REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT {when_filling}EXECUTE FUNCTION room_record_changes();
"""


class Migration(migrations.Migration):
    dependencies = [("rooms", "0015_batch_size")]
    operations = [
        migrations.RunSQL(
            TRIGGERS.format(and_filling=f" AND {FILLING}", when_filling=f"WHEN ({FILLING}) "),
            TRIGGERS.format(and_filling="", when_filling=""),
        )
    ]
