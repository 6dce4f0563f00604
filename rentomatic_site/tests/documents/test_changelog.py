"""CHANGELOG.md: versions with dates, newest first, each with what users notice."""

import re

from rentomatic_site.testing.documents import Document

CHANGELOG = Document("CHANGELOG.md")
HEADINGS = re.findall(r"^## (.*)$", CHANGELOG.text, re.MULTILINE)


def test_versions_have_dates_and_come_newest_first() -> None:
    released = [heading for heading in HEADINGS if heading != "Unreleased"]
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) – (\d{4}-\d\d-\d\d)", heading) for heading in released]
    assert None not in found, released
    versions = [(*map(int, match.groups()[:3]), match[4]) for match in found]
    assert versions == sorted(versions, reverse=True)
    assert HEADINGS[-len(released) :] == released
    assert "1.0.0 – 2026-11-21" in released


def test_every_version_says_what_users_notice() -> None:
    for heading in HEADINGS:
        assert "\n- " in CHANGELOG.section(f"## {heading}")
