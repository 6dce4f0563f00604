from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import Cast


class Migration(migrations.Migration):
    """The order by the price of a square metre; rooms are written meanwhile."""

    atomic = False
    dependencies = [("rooms", "0011_saved_filter")]
    operations = [
        AddIndexConcurrently(
            model_name="room",
            index=models.Index(Cast("price", models.FloatField()) / F("size"), F("id"), name="room_rate"),
        )
    ]
