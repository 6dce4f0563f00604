from django.db import migrations

# Each change of a room writes a line of history, found by the room: without this index by reading them all.
ADD = "CREATE INDEX room_history ON django_admin_log (object_id, action_time)"
DROP = "DROP INDEX room_history"


class Migration(migrations.Migration):
    dependencies = [("rooms", "0002_groups"), ("admin", "0003_logentry_add_action_flag_choices")]

    operations = [migrations.RunSQL(ADD, DROP)]
