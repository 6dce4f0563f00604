from django.db import migrations

# The activity is in the order of time, of everybody or of one person. Additions and deletions are rare among
# many changes, and are found by an index of their own, which no change writes.
INDEXES = {
    "room_activity": "(action_time, id)",
    "room_activity_user": "(user_id, action_time, id)",
    "room_activity_rare": "(action_flag, action_time, id) WHERE action_flag <> 2",
}


class Migration(migrations.Migration):
    # Concurrently: nobody waits while a long history is indexed. A build that was interrupted is dropped first.
    atomic = False

    dependencies = [("rooms", "0012_rate_index")]

    operations = [
        migrations.RunSQL(sql, reverse)
        for name, columns in INDEXES.items()
        for sql, reverse in (
            (f"DROP INDEX CONCURRENTLY IF EXISTS {name}", migrations.RunSQL.noop),
            (
                f"CREATE INDEX CONCURRENTLY {name} ON django_admin_log {columns}",
                f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
            ),
        )
    ]
