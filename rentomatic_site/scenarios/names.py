"""The names of the scenarios' databases (databases.py says what each is)."""

import json
import re
import secrets
from hashlib import sha256

from django.conf import settings

from rentomatic_site.scenarios.isolation import TARGET_PREFIX

ALIAS = re.compile(r"[a-z][a-z0-9_]{0,53}")
"""Matches a value of SCENARIO."""

BUILDING_NAME = re.compile(r"scenario_([a-z0-9_]+)_([0-9a-f]{6})[0-9a-f]{6}")
"""Matches what `building_name` returns."""

TEST_NAME = re.compile(r"scenario_([a-z0-9_]+)_([0-9a-f]{4})([0-9a-f]{3})[0-9a-f]{5}")
"""Matches what `test_name` returns, with its arguments."""


def target_name(scenario: str) -> str:
    """The name that `settings.DATABASES` has under SCENARIO=NAME."""
    return f"{TARGET_PREFIX}{scenario}"


def alias_of(name: str) -> str:
    """The value of SCENARIO under which `settings.DATABASES` has the database of that name."""
    return name.removeprefix(TARGET_PREFIX)


def template_name(scenario: str, fingerprint: str) -> str:
    """The name contains a hash of the owner and the checkout: each checkout has its own templates."""
    return f"tpl_{scenario}_{digest(scenario, fingerprint, settings.POSTGRES['user'])}"


def building_name(scenario: str, token: str = "") -> str:
    """A unique name for a database that is being built; SCENARIO can name it like a target."""
    token = token or secrets.token_hex(3)
    return target_name(f"{scenario or 'migrated'}_{token}{digest(scenario, token)[:6]}")


def spare_name(template: str, scenario: str) -> str:
    """
    The name of the copy of a template that is made in advance. It is that of a database that is being built,
    as the copy has no metadata until it is used: nobody waits for it who could write them (`begin_spare`).
    """
    return building_name(scenario, digest(template)[:6])


def test_name(scenario: str, process: str, number: str) -> str:
    """
    The name of a test's clone: `process` are four hexadecimal digits of the process of pytest that makes it
    (clones.py), `number` are three that count its clones. Five of a hash tell it from other names.
    """
    token = process + number
    return target_name(f"{scenario}_{token}{digest('test', scenario, token)[:5]}")


def substitute_name(target: str) -> str:
    """The name that replaces `target` where another developer or checkout has a database of that name."""
    return f"{target}_{digest(target)[:4]}"


def failed_name(target: str) -> str:
    """The name of the database of a failed load where `target` holds the complete one of an earlier load."""
    return f"{target}_failed"


def digest(*parts: str) -> str:
    """Twelve hexadecimal digits of a hash of the parts, the owner and the checkout."""
    return sha256(json.dumps([*identity(), *parts]).encode()).hexdigest()[:12]


def identity() -> tuple[str, str]:
    """Metadata's `owner` and `checkout` for databases that this process creates."""
    return settings.SCENARIOS_OWNER, str(settings.BASE_DIR)
