from django.db import models


class Room(models.Model):
    """The table that rooms/migrations made."""

    code = models.UUIDField(unique=True)
    size = models.IntegerField(null=True)
    price = models.IntegerField()
    latitude = models.FloatField()
    longitude = models.FloatField()

    class Meta:
        managed = False
        db_table = "room"

    def __str__(self):
        return str(self.code)
