"""The stack of test_compose.py under load while replicas, versions and data come and go."""

import json
import os
import re
import subprocess
import time

import pytest

from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose


# --- Replicas come and go


def test_scaling_to_three_and_to_one_fails_no_request_and_every_replica_serves(stack):
    with stack.load() as clients:
        clients.wait_for(100)
        stack.up("--no-recreate", "--scale", "web=3")
        addresses = {
            network["IPAddress"]
            for web in stack.containers("web")
            for name, network in web["NetworkSettings"]["Networks"].items()
            if name.endswith("front")
        }
        assert len(addresses) == 3
        rig.wait_until(
            lambda: addresses <= {line["upstream"].removesuffix(":8000") for line in stack.lines()},
            "an answer of each replica",
            30,
        )
        stack.up("--no-recreate", "--scale", "web=1")
        clients.wait_for(200, 60)
        stack.up("--no-recreate")
        clients.wait_for(200, 60)
    assert set(clients.statuses()) == {200}


def test_a_crashed_replica_is_hidden_and_comes_back(stack):
    crash = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
    with stack.load() as clients:
        clients.wait_for(50)
        stack.inside("web", "python", "-c", crash, check=False)
        clients.wait_for(200, 60)
        rig.wait_until(
            lambda: [web["State"]["Health"]["Status"] for web in stack.containers("web")] == ["healthy"] * 2,
            "both replicas healthy again",
            60,
        )
    # An answer that was half sent cannot be taken back.
    assert set(clients.statuses()) <= {200, "IncompleteRead"}
    assert clients.statuses()["IncompleteRead"] <= 4


def test_a_restarted_database_costs_only_503_and_is_forgotten_within_a_second(stack):
    with stack.load() as clients:
        clients.wait_for(50)
        stack.compose("restart", "db")
        stack.up("--no-recreate")  # waits until the database is healthy
        healthy = time.monotonic() - clients.began
        clients.wait_for(300, 60)
    assert set(clients.statuses()) <= {200, 503}
    assert [s for began, _, s in clients.answers if began > healthy + 1 and s != 200] == []


# --- Releases


def test_a_rollout_brings_a_new_version_without_a_failed_request(stack):
    old = {web["Id"] for web in stack.containers("web")}
    with stack.load() as clients:
        clients.wait_for(50)
        said = stack.run("./deploy/rollout").stdout
        clients.wait_for(100, 60)
    assert "Done: 2 replicas of the new version" in said
    assert set(clients.statuses()) == {200}
    new = {web["Id"] for web in stack.containers("web")}
    assert len(new) == 2
    assert not new & old


def test_a_rollout_of_a_version_that_does_not_start_leaves_the_old_one(stack):
    old = {web["Id"] for web in stack.containers("web")}
    wsgi = stack.folder / "rentomatic_site" / "wsgi.py"
    source = wsgi.read_text()
    wsgi.write_text('raise RuntimeError("broken on purpose")\n')
    with stack.load() as clients:
        done = stack.run("./deploy/rollout", check=False)
    wsgi.write_text(source)
    assert done.returncode == 1
    assert "broken on purpose" in done.stderr
    assert "the old one goes on serving" in done.stderr
    assert {web["Id"] for web in stack.containers("web")} == old
    assert set(clients.statuses()) == {200}


def test_a_failing_migration_leaves_the_old_version_and_the_data(stack):
    before = stack.sql("SELECT count(*) FROM django_migrations")
    migration = stack.folder / "rooms" / "migrations" / "9999_broken.py"
    last = max(path.stem for path in migration.parent.glob("0*.py"))
    migration.write_text(
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('rooms', '{last}')]\n"
        "    operations = [migrations.RunSQL('ALTER TABLE room DROP COLUMN price; SELECT 1/0')]\n"
    )
    done = stack.run("./deploy/rollout", check=False)
    migration.unlink()
    stack.compose("build", "web", "migrate")
    assert done.returncode == 1
    assert "division by zero" in done.stdout + done.stderr
    assert "the migration failed (above); the old version goes on serving" in done.stderr
    assert stack.sql("SELECT count(*) FROM django_migrations") == before
    assert stack.get("/rooms").status == 200


# --- Data


def test_a_backup_restores_and_what_was_there_stays(stack):
    stack.sql(
        "INSERT INTO room(code, size, price, longitude, latitude) "
        "VALUES ('f853578c-fc0f-4e65-81b8-566c5dffa35a', 215, 39, -0.09998975, 51.75436293)"
    )
    file = stack.run("./deploy/backup").stdout.split(" (")[0]
    assert (stack.folder / file).stat().st_mode & 0o777 == 0o600
    stack.sql("DELETE FROM room")
    said = stack.run("./deploy/restore", file).stdout
    assert stack.sql("SELECT count(*) FROM room") == "1"
    (kept,) = re.findall(r"is the database (\w+);", said)
    assert (
        stack.inside("db", "psql", "-U", "postgres", "-d", kept, "-Atc", "SELECT count(*) FROM room").stdout
        == "0\n"
    )
    stack.up("--no-recreate")
    assert stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status == 200


def test_a_damaged_backup_is_refused_and_changes_nothing(stack):
    file = next((stack.folder / "deploy/backups").glob("*.dump"))
    file.write_bytes(file.read_bytes()[:-10])
    done = stack.run("./deploy/restore", str(file), check=False)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert stack.sql("SELECT count(*) FROM room") == "1"


def test_down_and_up_keep_the_data(stack):
    stack.compose("down")
    stack.up()
    assert stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status == 200


# --- What may be wrong at a start


def test_a_wrong_password_fails_at_once_and_says_so(stack):
    secret = stack.folder / "deploy" / "secrets" / "postgres_password"
    right = secret.read_text()
    secret.write_text("wrong")
    began = time.monotonic()
    done = stack.compose("run", "--rm", "-T", "migrate", check=False)
    secret.write_text(right)
    assert done.returncode == 2
    assert time.monotonic() - began < 15
    assert "password" in done.stderr
    assert "wrong" not in done.stderr.replace("wrong password", "")
    assert stack.get("/rooms").status == 200


def test_an_absent_database_ends_the_wait_with_its_cause(stack):
    command = ["./manage.py", "wait_for_db", "--timeout", "3"]
    done = stack.compose(
        "run", "--rm", "-T", "--no-deps", "-e", "POSTGRES_HOSTNAME=nowhere", "migrate", *command, check=False
    )
    assert done.returncode == 1
    assert "nowhere:5432" in done.stderr


def test_a_slow_database_is_waited_for(stack):
    stack.compose("pause", "db")
    try:
        waiting = subprocess.Popen(
            ["docker", "compose", "run", "--rm", "-T", "--no-deps", "migrate"],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        time.sleep(4)
        assert waiting.poll() is None
    finally:
        stack.compose("unpause", "db")
    output = waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 0, output


# --- Elsewhere


def test_a_managed_database_by_its_address(stack):
    """The stack's own database plays the managed one, reached through its address only."""
    password = (stack.folder / "deploy/secrets/application_password").read_text()
    secret = stack.folder / "deploy" / "secrets" / "database_url"
    secret.write_text(f"postgres://application:{password}@db:5432/application")
    secret.chmod(0o600)
    owner = (stack.folder / "deploy/secrets/secret_key").stat()
    os.chown(secret, owner.st_uid, owner.st_gid)
    files = ["-f", "compose.yml", "-f", "deploy/compose.managed.yml"]
    services = json.loads(stack.compose(*files, "config", "--format", "json").stdout)["services"]
    assert sorted(services) == ["migrate", "nginx", "web"]
    done = stack.compose(*files, "run", "--rm", "-T", "migrate")
    assert "No migrations to apply" in done.stdout
    done = stack.compose(*files, "run", "--rm", "-T", "web", "./manage.py", "rooms", "--format", "csv")
    assert "f853578c-fc0f-4e65-81b8-566c5dffa35a" in done.stdout


def test_down_with_volumes_is_what_deletes_the_data(stack):
    project = stack.containers("db")[0]["Config"]["Labels"]["com.docker.compose.project"]
    volumes = ["docker", "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    stack.compose("down")
    assert stack.run(*volumes).stdout.split() == [f"{project}_database"]
    stack.compose("down", "--volumes")
    assert stack.run(*volumes).stdout == ""
    left = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    assert stack.run(*left).stdout == ""
