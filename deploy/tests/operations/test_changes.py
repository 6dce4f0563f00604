"""What `apply`, `rotate` and `rollback` decide, from files and servers without a container."""

import json
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from deploy.operations.apply import differences, environment
from deploy.operations.nginx import fill_in
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from deploy.operations.rollback import version_before
from deploy.operations.rotate import Rotation, still_needed
from rentomatic_site.testing.cluster import Cluster

NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "deploy" / "secrets").mkdir(parents=True)
    (tmp_path / ".env").write_text(
        f"COMPOSE_PROJECT_NAME=rentomatic-1\nPROJECT_FOLDER={tmp_path}\nIMAGE=site:2\n"
    )
    return Project(tmp_path)


# --- apply


def test_a_variable_that_differs_is_shown_with_both_values():
    runs = environment({"Config": {"Env": ["STATEMENT_TIMEOUT=5000", "TIME_ZONE", "PATH=/bin"]}})
    wanted = {"STATEMENT_TIMEOUT": "4000", "TIME_ZONE": "", "HSTS_SECONDS": "60"}
    assert differences(runs, wanted) == ['HSTS_SECONDS: "" → 60', "STATEMENT_TIMEOUT: 5000 → 4000"]


def test_names_of_ours_are_filled_in_and_those_of_nginx_stay():
    text = "limit ${NGINX_RATE}; return 301 $request_uri ${unknown};"
    assert fill_in(text, {"NGINX_RATE": "50r/s"}) == "limit 50r/s; return 301 $request_uri ${unknown};"


# --- The journal, and the version before


def test_the_version_before_is_that_of_the_last_change(project):
    with pytest.raises(Failure, match="no version served before"):
        version_before(project)
    project.note("rollout", image="site:1", before="")
    project.note("rollout", image="site:2", before="site:1")
    project.note("backup", file="x")
    assert version_before(project) == "site:1"


def test_a_line_of_the_journal_that_was_cut_off_is_left_out(project):
    project.note("rollout", image="site:1")
    with project.journal.open("a") as file:
        file.write('{"at": "2026\n')
    project.note("backup", file="x")
    assert [note["command"] for note in project.notes()] == ["rollout", "backup"]
    assert json.loads(project.journal.read_text().splitlines()[0])["image"] == "site:1"


def test_a_recorded_variable_replaces_the_old_one(project):
    project.record("IMAGE", "site:3")
    assert project.image == "site:3"
    assert project.environment.read_text().count("IMAGE=") == 1


# --- rotate


def test_a_former_key_is_kept_for_as_long_as_what_it_signed():
    ages = [NOW - timedelta(days=days) for days in (1, 14, 16)]
    assert still_needed(["new", "older", "oldest"], ages, NOW) == ["new", "older"]
    assert still_needed(["by hand"], [], NOW) == ["by hand"]
    assert still_needed([], ages, NOW) == []


class Server:
    """A server of the tests' own, as Rotation uses it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def execute(self, *statements: str) -> None:
        with self.cluster.session() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str) -> list[dict[str, str]]:
        with self.cluster.session() as cursor:
            cursor.execute(query)
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_the_role_of_a_rotation_is_the_sites_role_after_its_login(project, tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("rotation")) as cluster:
        server = Server(cluster)
        limit = "ALTER ROLE application SET statement_timeout = '7s'"
        server.execute(
            "CREATE ROLE application LOGIN", "CREATE DATABASE application OWNER application", limit
        )
        rotation = Rotation.__new__(Rotation)  # which needs no containers for this
        rotation.make_other_role(server, "application", "application_rotating", "new password")
        other = {"user": "application_rotating", "dbname": "application"}
        with cluster.session(**other) as cursor:
            cursor.execute("CREATE TABLE made (n int)")
            cursor.execute("SELECT session_user, current_user")
            assert cursor.fetchone() == ("application_rotating", "application")
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("7s",)
        with cluster.session(dbname="application") as cursor:
            cursor.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'made'")
            assert cursor.fetchone() == ("application",)
        server.execute("DROP ROLE application_rotating")  # it owns nothing
        with pytest.raises(psycopg2.OperationalError), cluster.session(**other):
            pass


def test_progress_is_on_stderr_where_stdout_is_json(capsys):
    report = Report("backup", as_json=True)
    report.step("Saving …")
    report.data["file"] = "x"
    report.finish(0)
    out, err = capsys.readouterr()
    assert err == "Saving …\n"
    result = json.loads(out)
    assert (result["ok"], result["file"], result["steps"]) == (True, "x", ["Saving …"])
