"""The stack of test_compose.py while versions come and go."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.tests.stack import Stack
from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose

STAYS = "the old version goes on serving"


def replicas(stack: Stack) -> dict[str, str]:
    """The image of each replica, by the container's id."""
    return {web["Id"]: web["Config"]["Image"] for web in stack.containers("web")}


def migrations(stack: Stack) -> str:
    return stack.sql("SELECT string_agg(app || '.' || name, ' ' ORDER BY app, name) FROM django_migrations")


@contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """A file of the next version, for the time of the block."""
    before = path.read_text() if path.exists() else None
    path.write_text(text)
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)


def migration(stack: Stack, operations: str) -> tuple[Path, str]:
    """The next migration of the rooms: its path and its text."""
    folder = stack.folder / "rooms" / "migrations"
    last = max(path.stem for path in folder.glob("0*.py"))
    text = (
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('rooms', '{last}')]\n    operations = [{operations}]\n"
    )
    return folder / f"{int(last[:4]) + 1:04}_next.py", text


REVERSIBLE = (
    "migrations.RunSQL('ALTER TABLE room ADD COLUMN floor int', 'ALTER TABLE room DROP COLUMN floor')"
)


def test_a_rollout_brings_a_new_version_without_a_failed_request(stack):
    old = replicas(stack)
    path, text = migration(stack, REVERSIBLE)
    with stack.load() as clients:
        clients.wait_for(50)
        with changed(path, text):
            output = stack.run("./deploy/rentomatic", "rollout").stdout
        clients.wait_for(100, 60)
    new = replicas(stack)
    assert set(clients.statuses()) == {200}
    assert len(new) == 2
    assert not new.keys() & old.keys()
    assert set(new.values()) == {stack.setting("IMAGE")} != set(old.values())
    assert f"Done: 2 replicas of {stack.setting('IMAGE')}" in output
    assert f"rooms.{path.stem}" in migrations(stack)


def test_what_is_not_behind_the_schema_is_not_rolled_out(stack):
    """The migration of the test before is gone from the folder: this version is older than the schema."""
    serving = replicas(stack)
    path, text = migration(stack, REVERSIBLE)
    done = stack.run("./deploy/rentomatic", "rollout", check=False)
    assert done.returncode == 1
    assert f"the schema is newer than this version: rooms.{path.stem}" in done.stderr
    assert replicas(stack) == serving
    path.write_text(text)  # so that what follows is a version after it


def test_up_after_rollouts_changes_nothing_and_fails_no_request(stack):
    """One came to its end, one failed; Compose is to find nothing that differs from its files."""
    before = [one["Id"] for name in ("db", "web", "nginx") for one in stack.containers(name)]
    with stack.load() as clients:
        clients.wait_for(20)
        stack.up()
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert [one["Id"] for name in ("db", "web", "nginx") for one in stack.containers(name)] == before


BROKEN = {
    "the start": ("rentomatic_site/wsgi.py", '\nraise RuntimeError("on purpose")\n', "on purpose"),
    "URLs": ("rooms/urls.py", "\nimport nowhere\n", "No module named 'nowhere'"),
    "the list": (
        "rooms/api/queries.py",
        "\ndef page(*_):\n    raise RuntimeError\n",
        "/rooms?limit=1 is 500",
    ),
    "a template": ("rooms/templates/rooms/room_detail.html", "{% nonsense %}", "nonsense"),
    "the page": ("rooms/templates/rooms/room_list.html", "{% include 'nowhere.html' %}", "/rooms is 500"),
    "the login": (
        "rooms/templates/admin/base_site.html",
        "{% include 'nowhere.html' %}",
        "/admin/login/ is 500",
    ),
}
"""What is added to a module, or takes the place of a template; and what the rollout says of it."""


@pytest.mark.parametrize("part", BROKEN)
def test_a_version_that_responds_wrongly_gets_no_request_and_leaves_nothing(stack, part):
    name, text, reason = BROKEN[part]
    if name.endswith(".py"):
        text = (stack.folder / name).read_text() + text
    serving, known = replicas(stack), migrations(stack)
    images = stack.run("docker", "images", "--quiet", stack.setting("COMPOSE_PROJECT_NAME")).stdout
    path, operations = migration(stack, REVERSIBLE.replace("floor", "door"))
    with stack.load() as clients, changed(stack.folder / name, text), changed(path, operations):
        done = stack.run("./deploy/rentomatic", "rollout", check=False)
        clients.wait_for(20, 60)
    assert done.returncode == 1
    assert STAYS in done.stderr
    assert reason in done.stderr
    assert set(clients.statuses()) == {200}
    assert replicas(stack) == serving
    assert migrations(stack) == known
    assert stack.run("docker", "images", "--quiet", stack.setting("COMPOSE_PROJECT_NAME")).stdout == images


def test_after_a_failed_rollout_up_and_scale_start_the_version_that_serves(stack):
    image = stack.setting("IMAGE")
    with stack.load() as clients, changed(stack.folder / "rooms" / "urls.py", "import nowhere\n"):
        stack.run("./deploy/rentomatic", "rollout", check=False)
        stack.up("--no-recreate", "--scale", "web=3")
        assert set(replicas(stack).values()) == {image}
        clients.wait_for(50, 60)
        stack.up()
        assert list(replicas(stack).values()) == [image] * 2
        clients.wait_for(50, 60)
    assert set(clients.statuses()) == {200}
    with changed(stack.folder / "rooms" / "urls.py", "import nowhere\n"):
        stack.compose("down")
        stack.up()
    assert list(replicas(stack).values()) == [image] * 2
    assert stack.get("/rooms").status == 200


@pytest.mark.parametrize("step", ["Building", "Migrating", "Starting"])
def test_ctrl_c_leaves_the_old_version_and_the_schema(stack, step):
    serving, known = replicas(stack), migrations(stack)
    path, text = migration(stack, REVERSIBLE.replace("floor", "door"))
    with stack.load() as clients, changed(path, text):
        rollout = subprocess.Popen(
            ["./deploy/rentomatic", "rollout"],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for line in rollout.stdout:
            if line.startswith(step):
                break
        time.sleep(1)  # into the step
        os.killpg(rollout.pid, signal.SIGINT)
        output = rollout.communicate(timeout=120)[1]
    assert rollout.returncode == 130
    assert step == "Building" or STAYS in output
    assert set(clients.statuses()) == {200}
    assert replicas(stack) == serving
    assert migrations(stack) == known


def test_what_a_killed_rollout_left_gets_no_request_and_is_removed_by_the_next(stack):
    serving = replicas(stack)
    with changed(stack.folder / "rooms/templates/rooms/room_list.html", "{% include 'nowhere.html' %}"):
        rollout = subprocess.Popen(
            ["./deploy/rentomatic", "rollout"], cwd=stack.folder, start_new_session=True
        )
        rig.wait_until(lambda: len(stack.containers("web")) == 4, "new replicas", 120)
        os.killpg(rollout.pid, signal.SIGKILL)
        rollout.wait()
    with stack.load() as clients:
        clients.wait_for(100, 60)
        pages = [stack.get(f"/rooms?limit={limit}", Accept="text/html").status for limit in range(1, 21)]
        stack.run("./deploy/rentomatic", "rollout")
    assert set(pages) == {200}
    assert set(clients.statuses()) == {200}
    assert len(replicas(stack)) == 2
    assert not replicas(stack).keys() & serving.keys()


def test_a_failing_migration_leaves_the_old_version_and_the_data(stack):
    known = migrations(stack)
    fine, text = migration(stack, REVERSIBLE.replace("floor", "door"))
    with changed(fine, text):
        broken = migration(stack, "migrations.RunSQL('ALTER TABLE room DROP COLUMN price; SELECT 1/0')")
        with changed(*broken):
            done = stack.run("./deploy/rentomatic", "rollout", "--accept", check=False)
    assert done.returncode == 1
    assert "division by zero" in done.stdout + done.stderr
    assert f"the migration failed (above); {STAYS}" in done.stderr
    assert migrations(stack) == known
    assert stack.get("/rooms").status == 200


def test_a_folder_that_others_may_not_read_is_released_all_the_same(stack):
    """As cloned by root with umask 077."""
    stack.run("chmod", "-R", "go=", "compose.yml", "manage.py", "rentomatic_site", "rooms", "scenarios")
    stack.run("chmod", "-R", "go=", "deploy/gunicorn.conf.py", "deploy/healthcheck.py")
    stack.run("./deploy/rentomatic", "rollout")
    stack.compose("restart", "nginx")
    rig.wait_until(lambda: stack.inside("nginx", "true", check=False).returncode == 0, "nginx", 60)
    stack.up()
    assert stack.get("/rooms").status == 200


def test_an_earlier_image_is_rolled_out_again(stack):
    earlier = stack.setting("IMAGE")
    stack.run("./deploy/rentomatic", "rollout")
    assert stack.setting("IMAGE") != earlier
    output = stack.run("./deploy/rentomatic", "rollout", earlier).stdout
    assert re.search(f"Done: 2 replicas of {earlier}", output)
    assert list(replicas(stack).values()) == [earlier] * 2
