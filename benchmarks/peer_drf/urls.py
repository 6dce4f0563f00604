from django.urls import include, path
from rest_framework.routers import SimpleRouter

from .api import CountlessRoomViewSet, RoomViewSet

router = SimpleRouter(use_regex_path=False)
router.register("rooms", RoomViewSet, basename="room")
router.register("rooms-by-cursor", CountlessRoomViewSet, basename="room-by-cursor")

urlpatterns = [path("", include(router.urls))]
