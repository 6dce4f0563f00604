from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """Both orders by size are read from `room_size`, like its filters; rooms are written meanwhile."""

    atomic = False
    dependencies = [("rooms", "0005_round_rooms")]
    operations = [RemoveIndexConcurrently(model_name="room", name="room_size_order")]
