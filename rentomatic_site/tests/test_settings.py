"""What the environment says, what is refused at the start, and that .env.example tells all of it."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from rentomatic_site.testing.plugin import PROJECT, run_manage

SECRET = "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOP"
PRODUCTION = {
    "PATH": os.environ["PATH"],
    "ENV_FILE": os.devnull,
    "SECRET_KEY": SECRET,
    "ALLOWED_HOSTS": "rooms.example.com",
    "DATABASE_URL": "postgres://rooms:p%40ss@db.example.com:6432/rooms?sslmode=require",
}
CASTS = {"env_str", "env_int", "env_bool", "env_list"}


def settings(env: dict[str, str | None], *names: str) -> dict:
    """The settings of these names, as a new process with this environment sees them."""
    script = (
        "import json, sys; from rentomatic_site import settings;"
        "print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}, default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *names],
        cwd=PROJECT,
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def startup_error(env: dict[str, str | None]) -> str:
    """The line that manage.py prints when it does not start."""
    done = run_manage("check", env=env)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("variables", "fragments"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            ["OTEL_EXPORTER_OTLP_ENDPOINT is no URL", "http://"],
        ),
        ({"METRICS_BIND": "9100"}, ["METRICS_BIND is not of the form HOST:PORT: '9100'", "Example:"]),
        ({"METRICS_BIND": "0.0.0.0:8000"}, ["METRICS_BIND has a port of WEB_BIND", "Example:"]),
        ({"SECRET_KEY": None}, ["SECRET_KEY is not set", "./deploy/rentomatic setup"]),
        ({"SECRET_KEY": ""}, ["SECRET_KEY is not set"]),
        ({"SECRET_KEY": "short"}, ["SECRET_KEY is too weak", "50 random characters"]),
        ({"SECRET_KEY": "abc" * 30}, ["SECRET_KEY is too weak"]),
        ({"SECRET_KEY": "development-only-" * 4}, ["SECRET_KEY is too weak"]),
        ({"SECRET_KEY": "django-insecure-" + SECRET}, ["SECRET_KEY is too weak"]),
        ({"SECRET_KEY_FILE": "/no/such"}, ["SECRET_KEY_FILE", "No such file", "/no/such", "Next:"]),
        ({"SECRET_KEY_FILE": "/"}, ["SECRET_KEY_FILE", "directory"]),
        ({"ALLOWED_HOSTS": None}, ["ALLOWED_HOSTS is not set", "ALLOWED_HOSTS=rooms.example.com"]),
        ({"ALLOWED_HOSTS": " , "}, ["ALLOWED_HOSTS is not set"]),
        ({"ALLOWED_HOSTS": "*"}, ["ALLOWED_HOSTS is * (every host)"]),
        ({"DATABASE_URL": None}, ["POSTGRES_HOSTNAME is not set, and neither is DATABASE_URL", "Example:"]),
        ({"DATABASE_URL": "sqlite:///db"}, ["DATABASE_URL is not of the form postgres://"]),
        ({"DATABASE_URL": "postgres://u:hidden@h:port/db"}, ["DATABASE_URL is not of the form", "%40 for @"]),
        ({"DATABASE_URL": "postgres://u:hidden@h"}, ["DATABASE_URL is not of the form"]),
        ({"DATABASE_POOLER_URL": "pooler:6432"}, ["DATABASE_POOLER_URL: it is not of the form", "Example:"]),
        ({"DATABASE_POOLER_URL": "postgres://u:hidden@h:p"}, ["DATABASE_POOLER_URL: it is not of the form"]),
        (
            {"DATABASE_POOLER_URL": "postgres://pooler:6432", "PREPARED_STATEMENTS": "on"},
            ["PREPARED_STATEMENTS is on", "Next: take PREPARED_STATEMENTS out"],
        ),
        ({"DEBUG": "maybe"}, ["DEBUG is neither on nor off: 'maybe'", "DEBUG=on"]),
        ({"STATEMENT_TIMEOUT": "5s"}, ["STATEMENT_TIMEOUT is not a whole number: '5s'", "=5000"]),
        ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT is neither text nor json: 'xml'"]),
        (
            {"SCENARIO": "foo"},
            ["SCENARIO=foo is set, but scenarios are for development", "SCENARIOS_ALLOWED"],
        ),
        ({"SCENARIO": "../etc"}, ["SCENARIO is no scenario's name"]),
        ({"SECOND_FACTOR": "on"}, ["SECOND_FACTOR is none of optional, privileged, staff: 'on'", "Example:"]),
        ({"EMAIL_URL": "mail.example.com"}, ["EMAIL_URL is not of the form smtp+tls://", "%40 for @"]),
        ({"EMAIL_URL": "smtp://u:hidden@h:port"}, ["EMAIL_URL is not of the form"]),
        ({"EMAIL_URL": "smtp+tls://"}, ["EMAIL_URL is not of the form"]),
        ({"EMAIL_URL": "smtp://u:hidden@h"}, ["SITE_ADDRESS is not set", "=https://rooms.example.com"]),
        ({"EMAIL_URL": "smtp://h", "SITE_ADDRESS": "rooms"}, ["SITE_ADDRESS is no URL: 'rooms'"]),
    ],
    ids=lambda value: next(iter(value.items())) if isinstance(value, dict) else "",
)
def test_what_is_missing_or_weak_stops_the_start_with_one_line(variables, fragments):
    output = startup_error(PRODUCTION | variables)
    assert [fragment for fragment in fragments if fragment not in output] == []
    assert "hidden" not in output


def test_production_passes_the_deployment_check():
    done = run_manage("check", "--deploy", "--fail-level", "WARNING", env=PRODUCTION)
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (2 silenced).\n"), done
    assert settings(PRODUCTION, "SILENCED_SYSTEM_CHECKS") == {
        "SILENCED_SYSTEM_CHECKS": ["security.W005", "security.W021"]
    }


def test_a_pooler_gets_no_options_and_replicas_and_commands_keep_theirs():
    variables = {
        "DATABASE_POOLER_URL": "postgres://pooler:6432",
        "DATABASE_REPLICA_URLS": "postgres://replica:5432",
        "STATEMENT_TIMEOUT": "7000",
    }
    found = settings(PRODUCTION | variables, "POOLED", "DATABASES", "PREPARED_STATEMENTS", "LIMITS")
    pooled, databases = found["POOLED"], found["DATABASES"]
    place = ("HOST", "PORT", "USER", "PASSWORD", "NAME")
    assert [pooled[name] for name in place] == ["pooler", 6432, "rooms", "p@ss", "rooms"]
    assert databases["default"]["HOST"] == "db.example.com"
    assert found["LIMITS"]["statement_timeout"] == 7000
    assert "options" not in pooled["OPTIONS"]
    assert pooled["OPTIONS"]["sslmode"] == "require"
    for alias in ("default", "replica1"):
        assert "-c statement_timeout=7000 -c lock_timeout=2000" in databases[alias]["OPTIONS"]["options"]
    assert found["PREPARED_STATEMENTS"] is False


def test_hsts_says_nothing_about_other_hosts_unless_told_to():
    names = ["SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD"]
    assert list(settings(PRODUCTION, *names).values()) == [31536000, False, False]
    asked = PRODUCTION | {"HSTS_INCLUDE_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"}
    assert list(settings(asked, *names).values()) == [31536000, True, True]


@pytest.mark.parametrize(
    ("variables", "fragments"),
    [
        (
            {"MAP_TILES_URL": "tiles"},
            ["rentomatic_site.E001", "MAP_TILES_URL is no URL", "HINT: MAP_TILES_URL="],
        ),
        ({"MAP_TILES_URL": "javascript:x"}, ["rentomatic_site.E001"]),
        (
            {"MAP_PMTILES": "../streets.pmtiles"},
            ["rentomatic_site.E002", "HINT: MAP_PMTILES=streets.pmtiles"],
        ),
        (
            {"STATEMENT_TIMEOUT": "15000", "REQUEST_TIMEOUT": "15"},
            ["rentomatic_site.W001", "HINT: STATEMENT_TIMEOUT=5000"],
        ),
        (
            {"SECOND_FACTOR": "optional"},
            ["rentomatic_site.W002", "SECOND_FACTOR is optional", "HINT: SECOND_FACTOR=privileged"],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_system_check_names_the_variable_with_a_hint(variables, fragments):
    done = run_manage("check", "--fail-level", "WARNING", env=PRODUCTION | variables)
    assert done.returncode == 1
    assert [fragment for fragment in fragments if fragment not in done.stderr] == []


def test_debug_is_off_when_nothing_is_said():
    names = ["DEBUG", "HTTPS", "SESSION_COOKIE_SECURE", "SCENARIOS_ALLOWED", "LOG_FORMAT", "SECOND_FACTOR"]
    found = settings(PRODUCTION, *names)
    assert found == {
        "DEBUG": False,
        "HTTPS": True,
        "SESSION_COOKIE_SECURE": True,
        "SCENARIOS_ALLOWED": False,
        "LOG_FORMAT": "json",
        "SECOND_FACTOR": "privileged",
    }


def test_accounts_of_development_need_no_second_factor():
    assert settings({"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DEBUG": "on"}, "SECOND_FACTOR") == {
        "SECOND_FACTOR": "optional"
    }
    done = run_manage("check", env={"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DEBUG": "on"})
    assert "no issues" in done.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp+tls://ann:p%40ss@mail.example.com", ["mail.example.com", 587, "ann", "p@ss", True, False]),
        ("smtp+ssl://mail.example.com", ["mail.example.com", 465, "", "", False, True]),
        ("smtp://mail.example.com:25", ["mail.example.com", 25, "", "", False, False]),
    ],
)
def test_an_email_server_is_one_url(url, expected):
    names = [
        "EMAIL_HOST",
        "EMAIL_PORT",
        "EMAIL_HOST_USER",
        "EMAIL_HOST_PASSWORD",
        "EMAIL_USE_TLS",
        "EMAIL_USE_SSL",
    ]
    env = PRODUCTION | {"EMAIL_URL": url, "SITE_ADDRESS": "https://rooms.example.com:8443"}
    assert list(settings(env, *names).values()) == expected
    assert settings(env, "DEFAULT_FROM_EMAIL") == {
        "DEFAULT_FROM_EMAIL": "Rent-o-matic <no-reply@rooms.example.com>"
    }


def test_a_database_url_wins_and_keeps_its_options():
    env = PRODUCTION | {"POSTGRES_HOSTNAME": "other", "POSTGRES_DB": "maintenance"}
    found = settings(env, "POSTGRES", "APPLICATION_DB", "DATABASES")
    assert found["POSTGRES"] == {
        "host": "db.example.com",
        "port": 6432,
        "user": "rooms",
        "password": "p@ss",
        "dbname": "maintenance",
        "sslmode": "require",
        "connect_timeout": 2,
    }
    assert found["APPLICATION_DB"] == "rooms"
    database = found["DATABASES"]["default"]
    assert (database["NAME"], database["PASSWORD"]) == ("rooms", "p@ss")
    assert database["OPTIONS"]["sslmode"] == "require"


def test_the_books_variables_and_a_role_for_the_web():
    env = PRODUCTION | {
        "DATABASE_URL": None,
        "POSTGRES_HOSTNAME": "db",
        "POSTGRES_PASSWORD": "admin's",
        "APPLICATION_USER": "web",
        "APPLICATION_PASSWORD": "web's",
    }
    found = settings(env, "POSTGRES", "DATABASES")
    assert (found["POSTGRES"]["user"], found["POSTGRES"]["password"]) == ("postgres", "admin's")
    assert found["POSTGRES"]["dbname"] == "postgres"
    database = found["DATABASES"]["default"]
    assert (database["USER"], database["PASSWORD"], database["NAME"]) == ("web", "web's", "application")


def test_of_several_hosts_the_primary_is_used_and_each_replica_by_itself():
    several = {"DATABASE_URL": None, "POSTGRES_HOSTNAME": "db,replica1,replica2"}
    urls = {"DATABASE_REPLICA_URLS": "postgres://db:5432,postgres://replica1:5432"}
    found = settings(PRODUCTION | several | urls, "POSTGRES", "DATABASES")
    assert found["POSTGRES"]["host"] == "db,replica1,replica2"
    assert found["POSTGRES"]["target_session_attrs"] == "primary"
    databases = found["DATABASES"]
    assert databases["default"]["OPTIONS"]["target_session_attrs"] == "primary"
    assert [databases[name]["HOST"] for name in ("replica1", "replica2")] == ["db", "replica1"]
    assert "target_session_attrs" not in databases["replica1"]["OPTIONS"]
    one = settings(PRODUCTION | several | {"POSTGRES_HOSTNAME": "db"}, "POSTGRES")
    assert "target_session_attrs" not in one["POSTGRES"]


def test_a_scenarios_database_replaces_the_applications():
    found = settings(
        PRODUCTION | {"SCENARIO": "book_rooms", "SCENARIOS_ALLOWED": "on"}, "DATABASES", "APPLICATION_DB"
    )
    assert found["DATABASES"]["default"]["NAME"] == "scenario_book_rooms"
    assert found["APPLICATION_DB"] == "rooms"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_from_a_file_loses_its_line_end_and_nothing_else(tmp_path, end):
    secret = tmp_path / "secret"
    secret.write_bytes(f" ${SECRET} ".encode() + end.encode())
    env = PRODUCTION | {"SECRET_KEY": None, "SECRET_KEY_FILE": str(secret)}
    assert settings(env, "SECRET_KEY") == {"SECRET_KEY": f" ${SECRET} "}


def test_a_value_with_a_dollar_is_no_reference():
    env = PRODUCTION | {"DATABASE_URL": None, "POSTGRES_HOSTNAME": "db", "POSTGRES_PASSWORD": "$PATH"}
    assert settings(env, "POSTGRES")["POSTGRES"]["password"] == "$PATH"


def test_the_real_environment_wins_over_the_file(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s" + SECRET)
    env_file = tmp_path / ".env"
    env_file.write_text(
        f"ALLOWED_HOSTS=from.file\nLOG_LEVEL=ERROR\nSECRET_KEY_FILE={secret}\nAPPLICATION_NAME='in quotes'\n"
    )
    names = ("ALLOWED_HOSTS", "SECRET_KEY", "LOGGING", "DATABASES")
    found = settings(PRODUCTION | {"ENV_FILE": str(env_file)}, *names)
    assert found["ALLOWED_HOSTS"] == ["rooms.example.com"]
    assert found["SECRET_KEY"] == SECRET
    assert found["LOGGING"]["root"]["level"] == "ERROR"
    assert found["DATABASES"]["default"]["OPTIONS"]["application_name"] == "in quotes"


def test_an_env_file_in_the_project_is_read(tmp_path):
    """A copy of the project's own code, since nobody's .env is touched by tests."""
    used = ["__init__.py", "settings.py", "env.py", "logs.py", "embedded/__init__.py", "embedded/server.py"]
    used += ["replication/__init__.py", "replication/addresses.py"]
    used += ["pooling/__init__.py", "pooling/address.py"]
    for name in [*used, "scenarios/__init__.py", "scenarios/ancestors.py"]:
        copy = tmp_path / "rentomatic_site" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((PROJECT / "rentomatic_site" / name).read_text())
    (tmp_path / ".env").write_text((PROJECT / ".env.example").read_text())
    script = "from rentomatic_site import settings; print(settings.DEBUG, settings.EMBEDDED_POSTGRES)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"True {tmp_path}/.rentomatic/pg18\n"


def test_only_the_settings_read_the_environment():
    reader = re.compile(r"os\.environ|os\.getenv")
    exceptions = {
        "manage.py",  # names the settings
        "rentomatic_site/wsgi.py",
        "rentomatic_site/settings.py",
        "rentomatic_site/env.py",
        "rentomatic_site/embedded/server.py",  # hands it on to the server
        "rentomatic_site/scenarios/launch.py",  # and to a command on a scenario
        "rentomatic_site/scenarios/old_code.py",  # and to the code before pending migrations
        "rentomatic_site/scenarios/isolation.py",  # leads what a scenario starts to its database
    }
    files = [
        p for folder in ("rentomatic_site", "rooms", "scenarios") for p in (PROJECT / folder).rglob("*.py")
    ]
    readers = {str(p.relative_to(PROJECT)) for p in files if reader.search(p.read_text())}
    assert {name for name in readers if not re.search("/(tests|testing)/", name)} <= exceptions


def read_by_settings() -> dict[str, object]:
    """Each variable that settings.py reads and its default, where that is a constant."""
    found: dict[str, object] = {"ENV_FILE": ".env"}
    for node in ast.walk(ast.parse((PROJECT / "rentomatic_site" / "settings.py").read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CASTS:
            name, *default = node.args
            if isinstance(name, ast.Constant):
                constant = default and isinstance(default[0], ast.Constant)
                found.setdefault(name.value, default[0].value if constant else None)
    return found


def example_defaults() -> dict[str, str]:
    lines = (PROJECT / ".env.example").read_text().splitlines()
    matches = (re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line) for line in lines)
    return {match[1]: match[2] for match in matches if match}


def used_by_compose() -> set[str]:
    compose = PROJECT / "compose.yml"
    return set(re.findall(r"\$\{([A-Z0-9_]+)", compose.read_text())) if compose.exists() else set()


def test_the_example_names_every_variable_and_no_other():
    assert set(example_defaults()) - used_by_compose() == set(read_by_settings()) - used_by_compose()


def test_the_example_tells_the_true_defaults():
    examples = example_defaults()
    on_off = {True: "on", False: "off"}
    wrong = {
        name: (examples[name], default)
        for name, default in read_by_settings().items()
        if default is not None and name != "DEBUG" and examples.get(name) != on_off.get(default, str(default))
        # Examples of values, where the default is to have none.
        if default != "" and name not in {"DATABASE_URL"}
    }
    assert wrong == {}


def test_every_variable_of_the_example_has_its_line_of_explanation():
    lines = (PROJECT / ".env.example").read_text().splitlines()
    unexplained = []
    for above, line in zip(["", *lines], lines, strict=False):
        match = re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=.*", line)
        # A group of variables may share the line above the first of them.
        if match and not (above.startswith(("# ", "#" + match[1].split("_")[0])) or "=" in above):
            unexplained.append(match[1])
    assert unexplained == []


@pytest.mark.parametrize(
    ("url", "sources"),
    [
        (None, ["'self'", "data:"]),
        ("https://tiles.example.com/{z}/{x}/{y}.png", ["'self'", "data:", "https://tiles.example.com"]),
        (
            "https://{s}.tiles.example.com:8443/{z}.png",
            ["'self'", "data:", "https://*.tiles.example.com:8443"],
        ),
    ],
)
def test_pages_load_foreign_images_only_from_the_tile_server(url, sources):
    policy = settings(PRODUCTION | {"MAP_TILES_URL": url}, "CONTENT_SECURITY_POLICY")
    assert policy["CONTENT_SECURITY_POLICY"]["DIRECTIVES"]["img-src"] == sources
