import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

# While `rooms.job` is the key of a job, each room that any statement writes is noted with its former row.
RECORD = """
CREATE FUNCTION room_record_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job bigint := nullif(current_setting('rooms.job', true), '');
BEGIN
    IF job IS NULL THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO room_job_room (job_id, room_id, code, was, version, gone, before)
        SELECT job, id, code, NULL, version, false, NULL FROM changed;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO room_job_room (job_id, room_id, code, was, version, gone, before)
        SELECT job, id, changed.code, former.version, changed.version, false, to_jsonb(former) - '{id,updated_at}'::text[]
        FROM former JOIN changed USING (id) WHERE former.version <> changed.version
        ON CONFLICT (job_id, room_id) DO UPDATE SET code = excluded.code, version = excluded.version;
    ELSE
        INSERT INTO room_job_room (job_id, room_id, code, was, version, gone, before)
        SELECT job, id, code, version, version + 1, true, to_jsonb(former) - '{id,updated_at}'::text[] FROM former;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER room_job_insert AFTER INSERT ON room REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_record_job();
CREATE TRIGGER room_job_update AFTER UPDATE ON room REFERENCING OLD TABLE AS former NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_record_job();
CREATE TRIGGER room_job_delete AFTER DELETE ON room REFERENCING OLD TABLE AS former
    FOR EACH STATEMENT EXECUTE FUNCTION room_record_job();

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION room_record_job() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
DROP = """
DROP TRIGGER room_job_insert ON room;
DROP TRIGGER room_job_update ON room;
DROP TRIGGER room_job_delete ON room;
DROP FUNCTION room_record_job();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("rooms", "0009_bulk_change"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RenameModel("BulkChange", "Job"),
        migrations.AlterModelTable("Job", "room_job"),
        migrations.AddField(
            model_name='job',
            name='created_at',
            field=models.DateTimeField(auto_now_add=True, default=django.utils.timezone.now),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='job',
            name='title',
            field=models.CharField(default='Change of rooms', max_length=200),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='job',
            name='undoes',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='undone_by', to='rooms.job'),
        ),
        migrations.AlterField(
            model_name='job',
            name='operation',
            field=models.CharField(blank=True, help_text='What continues it in batches.', max_length=20),
        ),
        migrations.AlterField(
            model_name='job',
            name='parameters',
            field=models.JSONField(default=dict, help_text='Of the operation, such as the amount.'),
        ),
        migrations.AlterField(
            model_name='job',
            name='query',
            field=models.TextField(blank=True, help_text='The query string of the list.'),
        ),
        migrations.AlterField(
            model_name='job',
            name='seen_at',
            field=models.DateTimeField(help_text='When the preview was made.', null=True),
        ),
        migrations.AlterField(
            model_name='job',
            name='snapshot',
            field=models.TextField(blank=True, help_text='pg_current_snapshot() of the preview.'),
        ),
        migrations.AlterField(
            model_name='job',
            name='total',
            field=models.BigIntegerField(default=0, help_text='Rooms that the preview found to change.'),
        ),
        migrations.CreateModel(
            name='JobRoom',
            fields=[
                ('pk', models.CompositePrimaryKey('job_id', 'room_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('room_id', models.BigIntegerField()),
                ('code', models.UUIDField()),
                ('was', models.IntegerField(help_text='The version before; null where the job added the room.', null=True)),
                ('version', models.IntegerField(help_text='The version after; the next one where the job deleted the room.')),
                ('gone', models.BooleanField(help_text='Whether the job deleted the room.')),
                ('before', models.JSONField(help_text='The row before; null where the job added the room.', null=True)),
                ('job', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='rooms', to='rooms.job')),
            ],
            options={
                'db_table': 'room_job_room',
                'default_permissions': (),
                'indexes': [models.Index(fields=['room_id', 'version'], name='room_job_room_version')],
            },
        ),
        migrations.RunSQL(RECORD, DROP),
    ]
