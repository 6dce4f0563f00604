"""HTTPS=acme in .env: which files Compose reads, and the folders that certbot writes to."""

import pytest

from deploy.operations import https
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report


@pytest.fixture
def project(tmp_path):
    """A folder as `setup` leaves it, with more variables in .env."""

    def make(**variables: str) -> Project:
        (tmp_path / "deploy").mkdir()
        lines = {"COMPOSE_PROJECT_NAME": "site", "PROJECT_FOLDER": str(tmp_path), **variables}
        (tmp_path / ".env").write_text("".join(f"{name}={text}\n" for name, text in lines.items()))
        return Project(tmp_path)

    return make


def test_acme_adds_the_overlay_after_the_other_files_and_its_end_takes_it_out(project):
    site = project(HTTPS="acme", SITE_HOST="rooms.example.com", COMPOSE_FILE="compose.yml:own.yml")
    https.choose(site, Report("apply"))
    assert site.setting("COMPOSE_FILE") == "compose.yml:own.yml:deploy/compose.acme.yml"
    assert (site.deploy / "letsencrypt").stat().st_mode & 0o777 == 0o700
    https.choose(site, Report("apply"))
    assert site.setting("COMPOSE_FILE") == "compose.yml:own.yml:deploy/compose.acme.yml"
    site.record("HTTPS", None)
    https.choose(site, Report("apply"))
    assert site.setting("COMPOSE_FILE") == "compose.yml:own.yml"


def test_the_overlay_alone_leaves_no_variable_behind(project):
    site = project(HTTPS="acme", SITE_HOST="rooms.example.com")
    https.choose(site, Report("apply"))
    site.record("HTTPS", None)
    https.choose(site, Report("apply"))
    assert "COMPOSE_FILE" not in site.variables


def test_a_dry_run_writes_nothing(project):
    site = project(HTTPS="acme", SITE_HOST="rooms.example.com")
    https.choose(site, Report("apply"), dry=True)
    assert "COMPOSE_FILE" not in site.variables
    assert not (site.deploy / "letsencrypt").exists()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({"HTTPS": "on"}, "HTTPS=on in .env is not known"), ({"HTTPS": "acme"}, "a host without a domain")],
)
def test_what_cannot_be_is_refused_with_the_next_step(project, variables, reason):
    with pytest.raises(Failure, match=reason) as refused:
        https.choose(project(**variables), Report("apply"))
    assert "HTTPS" in refused.value.next_step or ".env" in refused.value.next_step
