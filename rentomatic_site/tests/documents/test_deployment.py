"""docs/deployment.md: every variable is explained, every service and command exists."""

import re

import pytest
import yaml

from rentomatic_site.testing.documents import PROJECT, Document

DEPLOYMENT = Document("docs/deployment.md")
COMPOSE = yaml.safe_load((PROJECT / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
SETTINGS = re.findall(r"^#?([A-Z][A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)


def names(heading: str, column: int) -> set[str]:
    """The variables that a column of a table names."""
    return set(re.findall(r"`([A-Z][A-Z0-9_]+)`", "".join(row[column] for row in DEPLOYMENT.rows(heading))))


def test_every_variable_of_compose_is_explained() -> None:
    names_of_overlays = ("acme", "ha", "hosts", "monitoring", "pitr", "pooler", "replicas", "web")
    overlays = [PROJECT / "deploy" / f"compose.{name}.yml" for name in names_of_overlays]
    files = [PROJECT / "compose.yml", *overlays]
    wanted = {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text())}
    wanted |= {
        name for service in SERVICES.values() for name, value in service["environment"].items() if not value
    }
    assert wanted - names("## Variables of compose.yml", 0) == set()


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_written_down(name: str) -> None:
    assert name in names("## Settings", 1)


def test_every_service_is_there() -> None:
    assert [row[0].strip("`") for row in DEPLOYMENT.rows("## Services")] == list(SERVICES)


def test_units_of_systemd_exist() -> None:
    named = set(re.findall(r"\brentomatic[\w-]*\.(?:service|socket)", DEPLOYMENT.text))
    assert named
    assert [name for name in named if not (PROJECT / "deploy/systemd" / name).exists()] == []
