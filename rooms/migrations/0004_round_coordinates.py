from django.db import migrations

import rooms.models

# Every write is rounded, by the same algorithm as the API's filters use (rooms.columns.round_degrees). Values
# far out of range are left to the constraints, which name the column. Adding 0 turns -0 into 0.
# Triggers fire in the order of their names: this one before room_touch, which compares what is stored.
ROUND = """
CREATE OR REPLACE FUNCTION room_round() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF abs(NEW.latitude) <= 360 THEN
        NEW.latitude := round(NEW.latitude * 1e8) / 1e8 + 0;
    END IF;
    IF abs(NEW.longitude) <= 360 THEN
        NEW.longitude := round(NEW.longitude * 1e8) / 1e8 + 0;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER room_round BEFORE INSERT OR UPDATE OF latitude, longitude ON room
    FOR EACH ROW EXECUTE FUNCTION room_round();
"""
UNROUND = "DROP TRIGGER room_round ON room; DROP FUNCTION room_round();"


class Migration(migrations.Migration):
    dependencies = [("rooms", "0003_history_index")]

    operations = [
        # The columns stay as they are.
        migrations.AlterField(
            model_name="room",
            name="latitude",
            field=rooms.models.DegreesField(
                help_text="Degrees north of the equator (WGS 84), south is negative."
            ),
        ),
        migrations.AlterField(
            model_name="room",
            name="longitude",
            field=rooms.models.DegreesField(
                help_text="Degrees east of Greenwich (WGS 84), west is negative."
            ),
        ),
        migrations.RunSQL(ROUND, UNROUND),
    ]
