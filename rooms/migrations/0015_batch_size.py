from django.db import migrations, models


class Migration(migrations.Migration):
    """Bulk changes whose batches were halved; a new column without a value rewrites no table."""

    dependencies = [("rooms", "0014_texts")]
    operations = [
        migrations.AddField(
            model_name="job",
            name="batch_size",
            field=models.IntegerField(null=True, help_text="Rooms of a batch, where the usual ones take too long."),
        )
    ]
