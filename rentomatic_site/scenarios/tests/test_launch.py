"""A loaded scenario is opened: the application on it, psql, a command; and pytest collects the files."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

from rentomatic_site.scenarios import launch
from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.plugin import PROJECT

TWO = "from rooms.seeding import room\ndef run():\n    room(price=30)\n    room(price=60)\n"
ONE = "from rooms.seeding import room\ndef run():\n    room(price=90)\n"
STAFF = "from rooms.seeding import staff_user\ndef run():\n    staff_user('boss', superuser=True)\n"


@contextmanager
def served(workshop: Workshop, name: str) -> Iterator[str]:
    """The url of the scenario's site, which is served until the block ends."""
    process = workshop.start("load_scenario", name, "--serve", "0")
    assert process.stdout
    url = ""
    for line in process.stdout:
        if line.startswith("Rooms: "):
            url = line.removeprefix("Rooms: ").strip().removesuffix("/rooms")
        if line.startswith("Ctrl-C"):
            break
    try:
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_several_scenarios_are_served_at_once_each_with_its_name(workshop: Workshop) -> None:
    workshop.write("t_two", TWO)
    workshop.write("t_one", ONE)
    with served(workshop, "t_two") as two, served(workshop, "t_one") as one:
        for url, name, prices in ((two, "t_two", [30, 60]), (one, "t_one", [90])):
            with urlopen(f"{url}/rooms") as response:  # noqa: S310 - on loopback
                assert response.headers["X-Scenario"] == name
                assert [room["price"] for room in json.load(response)] == prices
            with urlopen(Request(f"{url}/rooms", headers={"Accept": "text/html"})) as response:  # noqa: S310 - on loopback
                page = response.read().decode()
            assert f"Scenario <strong>{name}</strong>" in page
            banner = re.search(r'href="(/static/scenarios/banner[^"]*)"', page)
            assert banner
            with urlopen(url + banner[1]) as response:  # noqa: S310 - on loopback
                assert (
                    re.search(r'class="scenario-banner (scenario-\d)"', page)[1] in response.read().decode()
                )


def test_staff_log_in_to_two_scenarios_side_by_side_and_see_which_is_which(workshop: Workshop) -> None:
    workshop.write("t_boss", STAFF)
    workshop.write("t_chief", STAFF)
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    password = r"Staff: boss, password (\S+)"
    passwords = {
        name: re.search(password, workshop.manage("load_scenario", name).stdout)[1]
        for name in ("t_boss", "t_chief")
    }
    with served(workshop, "t_boss") as boss, served(workshop, "t_chief") as chief:
        urls = {"t_boss": boss, "t_chief": chief}
        for name, url in urls.items():
            form = browser.open(f"{url}/admin/login/").read().decode()
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)[1]
            fields = {"username": "boss", "password": passwords[name], "csrfmiddlewaretoken": token}
            browser.open(f"{url}/admin/login/?next=/admin/", urlencode(fields).encode())
        for name, url in urls.items():
            page = browser.open(f"{url}/admin/").read().decode()
            assert "Log out" in page
            assert f"Scenario <strong>{name}</strong>" in page


def test_a_page_on_the_applications_own_database_has_no_banner(workshop: Workshop) -> None:
    from django.template.loader import render_to_string

    page = render_to_string("rooms/base.html")
    assert "scenario-banner" not in page


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(workshop: Workshop) -> None:
    workshop.write("t_two", TWO)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = workshop.load("t_two", "--serve", str(port))
    assert done.returncode == 1
    assert f"Port {port} cannot be had (Address already in use). Next: --serve 0" in done.stderr
    assert workshop.databases() == {}


def test_run_runs_any_command_on_the_scenario(workshop: Workshop) -> None:
    workshop.write("t_two", TWO)
    done = workshop.manage("load_scenario", "t_two", "--run", "rooms", "price__lt=50", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split(",")[2] == "30"
    failed = workshop.manage("load_scenario", "t_two", "--run", "rooms", "prize__lt=50")
    assert failed.returncode == 1
    assert "--run needs a command" in workshop.load("t_two", "--run").stderr


def test_changed_templates_of_every_app_are_reloaded() -> None:
    apps = [
        path for package in ("rooms", "rentomatic_site") for path in (PROJECT / package).rglob("templates")
    ]
    assert set(launch.project_templates()) == {template for app in apps for template in app.rglob("*.html")}


def test_shell_opens_psql_on_the_scenario(workshop: Workshop) -> None:
    workshop.write("t_two", TWO)
    done = workshop.run_manage(
        "load_scenario",
        "t_two",
        "--shell",
        stdin="SELECT 'in ' || current_database(), sum(price) FROM room;\n",
        env=workshop.variables,
    )
    assert re.search(r"in scenario_t_two +\| +90", done.stdout)


# --- pytest collects the files


def run_pytest(workshop: Workshop, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"),
            *("-c", str(PROJECT / "pytest.ini"), "--rootdir", str(PROJECT)),
            *(str(workshop.folder), *arguments),
        ],
        cwd=PROJECT,
        env=workshop.site_env | {"SCENARIOS_DIR": str(workshop.folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pytest_collects_each_expectation_of_each_file(workshop: Workshop) -> None:
    workshop.write("t_good", "EXPECT = {'': 2, 'filter_price__lt=60': 1}\n" + TWO)
    workshop.write("_shared", "raise AssertionError('only for being imported')\n")
    done = run_pytest(workshop)
    assert done.returncode == 0, done.stdout
    for name in ("loads", "all → 2 rooms", "filter_price__lt=60 → 1 room"):
        assert f"t_good.py::{name} PASSED" in done.stdout
    # What passed is gone, but for the template that makes the next time quick.
    assert [metadata.kind for metadata in workshop.databases().values()] == ["template"]


def test_what_fails_under_pytest_stays_and_the_report_says_how_to_open_it(workshop: Workshop) -> None:
    workshop.write("t_unmet", "EXPECT = {'': 2, 'filter_price__lt=60': 7}\n" + TWO)
    workshop.write("t_raises", ONE + "    1 / 0\n")
    done = run_pytest(workshop)
    assert done.returncode == 1
    assert "t_unmet.py::all → 2 rooms PASSED" in done.stdout
    assert "✗ filter_price__lt=60 → 7 rooms: found 1 room" in done.stdout
    assert "SCENARIO=pytest_t_unmet ./manage.py dbshell" in done.stdout
    assert "t_raises.py::loads FAILED" in done.stdout
    assert 't_raises.py", line 4, in run\n    1 / 0' in done.stdout
    assert workshop.prices("pytest_t_unmet") == [30, 60]
    assert workshop.prices("pytest_t_raises") == [90]


# --- Where there is less


def test_scenarios_need_nothing_that_only_tests_have(workshop: Workshop) -> None:
    workshop.write("t_two", "EXPECT = {'': 2}\n" + TWO)
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['pytest', 'pytest_django', 'factory', 'playwright']));"
        "from django.core.management import execute_from_command_line;"
        "execute_from_command_line(['manage.py', 'load_scenario', 't_two'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=workshop.site_env
        | {"SCENARIOS_DIR": str(workshop.folder), "DJANGO_SETTINGS_MODULE": "rentomatic_site.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "✓ all → 2 rooms" in done.stdout
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "!scenarios" in ignored


def test_a_scenario_whose_expectation_fails_is_served(workshop: Workshop) -> None:
    workshop.write("t_two", "EXPECT = {'': 3}\n" + TWO)
    with served(workshop, "t_two") as url, urlopen(f"{url}/rooms") as response:  # noqa: S310 - on loopback
        assert len(json.load(response)) == 2
