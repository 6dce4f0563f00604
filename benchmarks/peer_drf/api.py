"""Serializer, filters and views, as the framework's tutorial and django-filter's guide write them."""

import csv
import io
from itertools import islice

from django.db.models.expressions import RawSQL
from django.http import StreamingHttpResponse
from django_filters import rest_framework as filters
from rest_framework import pagination, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from .models import Room

EXPORT_BATCH = 1000  # rooms in memory at a time


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["code", "size", "price", "latitude", "longitude"]


class RoomFilter(filters.FilterSet):
    class Meta:
        model = Room
        fields = {
            "code": ["exact"],
            "size": ["exact", "lt", "gt"],
            "price": ["exact", "lt", "gt"],
            "latitude": ["lt", "gt"],
            "longitude": ["lt", "gt"],
        }


class RoomViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    filterset_class = RoomFilter
    ordering_fields = ["id", "size", "price"]
    lookup_field = "code"
    lookup_value_converter = "uuid"

    @action(detail=False, url_path="export")
    def export(self, request):
        """Every room as CSV, streamed: the whole list at once would not fit a million rooms into memory."""
        rooms = self.filter_queryset(self.get_queryset())
        return StreamingHttpResponse(self.lines(rooms), content_type="text/csv")

    @action(detail=False, url_path="nearest")
    def nearest(self, request):
        place = {name: float(request.query_params[name]) for name in ("longitude", "latitude")}
        distance = RawSQL(
            "asin(sqrt(sin(radians(latitude - %s) / 2) ^ 2 + cos(radians(latitude)) * cos(radians(%s))"
            " * sin(radians(longitude - %s) / 2) ^ 2))",
            [place["latitude"], place["latitude"], place["longitude"]],
        )
        rooms = self.filter_queryset(self.get_queryset()).order_by(distance, "id")
        return Response(self.get_serializer(rooms[:100], many=True).data)

    def lines(self, rooms):
        text = io.StringIO()
        table = csv.DictWriter(text, RoomSerializer.Meta.fields)
        table.writeheader()
        rows = rooms.iterator(chunk_size=EXPORT_BATCH)
        while batch := list(islice(rows, EXPORT_BATCH)):
            table.writerows(self.get_serializer(batch, many=True).data)
            yield text.getvalue()
            text.seek(0)
            text.truncate()


class ByCursor(pagination.CursorPagination):
    ordering = "id"


class CountlessRoomViewSet(RoomViewSet):
    """The same with the framework's own remedy for large tables: a cursor, and no count."""

    pagination_class = ByCursor
