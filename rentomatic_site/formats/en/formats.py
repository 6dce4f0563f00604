"""Dates and times in the one form of all pages, with the time zone: 21 Nov 2026, 14:05 CET."""

DATE_FORMAT = SHORT_DATE_FORMAT = "j M Y"
DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "j M Y, H:i T"
