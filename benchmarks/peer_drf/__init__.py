"""The peer from Django REST framework: model, serializer, filter set, view set, router."""
