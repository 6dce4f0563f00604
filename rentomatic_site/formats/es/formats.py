"""As in `en`: 21 nov. 2026, 14:05 CET. What people type is read by Django's formats for Spanish."""

DATE_FORMAT = SHORT_DATE_FORMAT = "j M Y"
DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "j M Y, H:i T"
