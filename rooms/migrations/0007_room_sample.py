import django.db.models.lookups
from django.db import migrations, models

# Without it the planner takes any part of the index for a third of the table, and reads it with processes
# whose start takes longer than the reading.
ADD_STATISTICS = "CREATE STATISTICS room_code_hash ON uuid_hash(code) FROM room; ANALYZE room"
DROP_STATISTICS = "DROP STATISTICS room_code_hash"

# The sample is read without the table only where VACUUM has seen its pages. By default it comes by when a
# fifth of the rooms has changed; a change of a tenth may have touched every page.
VACUUM_SOONER = """
ALTER TABLE room SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02)
"""
VACUUM_AS_USUAL = "ALTER TABLE room RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor)"


class Migration(migrations.Migration):
    dependencies = [("rooms", "0006_drop_size_order")]

    operations = [
        migrations.AddIndex(
            model_name="room",
            index=models.Index(
                models.Func(models.F("code"), function="uuid_hash", output_field=models.IntegerField()),
                condition=models.Q(
                    django.db.models.lookups.LessThan(
                        models.Func(
                            models.F("code"), function="uuid_hash", output_field=models.IntegerField()
                        ),
                        -1610612736,
                    )
                ),
                include=("id", "code", "size", "price", "latitude", "longitude", "updated_at"),
                name="room_sample",
            ),
        ),
        migrations.RunSQL(ADD_STATISTICS, DROP_STATISTICS),
        migrations.RunSQL(VACUUM_SOONER, VACUUM_AS_USUAL),
    ]
