from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

GROUPS = {
    "Room editors": ["view_room", "add_room", "change_room", "import_room", "export_room"],
    "Room viewers": ["view_room", "export_room"],
}


def add_groups(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create both groups. The permission to delete rooms is granted to users, not to a group."""
    database = schema_editor.connection.alias
    # Django creates permissions after the last migration; the groups need them now.
    rooms = apps.get_app_config("rooms")
    rooms.models_module = True
    create_permissions(rooms, verbosity=0, using=database, apps=apps)
    rooms.models_module = None
    for name, codenames in GROUPS.items():
        group, _ = apps.get_model("auth", "Group").objects.using(database).get_or_create(name=name)
        permissions = apps.get_model("auth", "Permission").objects.using(database)
        group.permissions.add(
            *permissions.filter(content_type__app_label="rooms", codename__in=codenames)
        )


class Migration(migrations.Migration):
    dependencies = [
        ("rooms", "0001_room"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="room",
            options={
                "permissions": [("import_room", "Can import rooms"), ("export_room", "Can export rooms")]
            },
        ),
        # The reverse migration keeps the groups: users may be in them.
        migrations.RunPython(add_groups, migrations.RunPython.noop),
    ]
