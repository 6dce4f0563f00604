"""The engine with another Django project: its own model, its own words, Django's own database backend."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from django.conf import settings

from rentomatic_site import postgres
from rentomatic_site.scenarios.tests.workshop import OWNER, Workshop
from rentomatic_site.testing.plugin import PROJECT

FILES = {
    "shop_settings.py": """
        from pathlib import Path

        BASE_DIR = Path(__file__).parent
        SECRET_KEY = "of-a-project-in-a-test"
        DEBUG, USE_TZ = True, True
        ALLOWED_HOSTS = ["localhost"]
        ROOT_URLCONF = "shop.urls"
        INSTALLED_APPS = [
            "django.contrib.contenttypes", "django.contrib.auth", "shop", "rentomatic_site.scenarios"
        ]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        POSTGRES = {postgres!r}
        APPLICATION_DB = "shop"
        EMBEDDED_POSTGRES = None
        DATABASES = {{
            "default": {{
                "ENGINE": "django.db.backends.postgresql",
                "HOST": POSTGRES["host"],
                "PORT": POSTGRES["port"],
                "USER": POSTGRES["user"],
                "PASSWORD": POSTGRES["password"],
                "NAME": APPLICATION_DB,
            }}
        }}
        SCENARIO = ""
        SCENARIOS_ALLOWED = True
        SCENARIOS_DIR = BASE_DIR / "scenarios"
        SCENARIOS_OWNER = {owner!r}
        SCENARIOS_SEEDING = "shop.seeding"
    """,
    "shop/__init__.py": "",
    "shop/urls.py": "urlpatterns = []",
    "shop/models.py": """
        from django.db import models

        class Article(models.Model):
            name = models.CharField(max_length=20)
            price = models.IntegerField()
    """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            operations = [
                migrations.CreateModel(
                    "Article",
                    [
                        ("id", models.BigAutoField(primary_key=True)),
                        ("name", models.CharField(max_length=20)),
                        ("price", models.IntegerField()),
                    ],
                )
            ]
    """,
    "shop/seeding.py": """
        import random
        from shop.models import Article

        chance = random.Random()

        def seed(value):
            chance.seed(value)

        def article(name):
            Article.objects.create(name=name, price=chance.randint(1, 10**9))
    """,
    "scenarios/t_shop.py": """
        '''Two articles.'''
        from shop.seeding import article

        def run():
            article("pen")
            article("ink")

        def check(client):
            from shop.models import Article
            assert Article.objects.count() == 2
    """,
    "test_articles.py": """
        import sys
        import pytest
        from shop.models import Article

        PRICES = set()

        @pytest.mark.scenario("t_shop")
        @pytest.mark.parametrize("number", range(3))
        def test_each_has_its_articles(number):
            assert Article.objects.count() == 2
            PRICES.add(Article.objects.get(name="pen").price)
            assert len(PRICES) == 1
            Article.objects.all().delete()
            assert "rooms" not in sys.modules

        @pytest.mark.scenario("t_shop")
        def test_fails():
            Article.objects.filter(name="ink").delete()
            assert False
    """,
    "pytest.ini": """
        [pytest]
        DJANGO_SETTINGS_MODULE = shop_settings
        addopts = -p no:django -p pytest_django.plugin -p rentomatic_site.scenarios.pytest_plugin
            -p no:schemathesis -p no:hypothesispytest -p no:faker
    """,
}


@pytest.fixture
def shop(workshop: Workshop, tmp_path: Path) -> Path:
    """A project of its own; its databases are the workshop's to drop."""
    folder = tmp_path / "shop_project"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = dedent(text).lstrip()
        if name == "shop_settings.py":
            text = text.format(postgres=settings.POSTGRES, owner=OWNER)
        path.write_text(text)
    return folder


def run(shop: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=shop,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{shop}:{PROJECT}",
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def shop_databases() -> list[str]:
    with postgres.session() as server:
        server.execute("SELECT datname FROM pg_database WHERE datname ~ '_t_shop|tpl__' ORDER BY datname")
        return [name for (name,) in server.fetchall()]


def test_the_engine_serves_the_models_of_any_project(shop: Path) -> None:
    before = set(shop_databases())
    try:
        done = run(shop, "pytest", "-v", "test_articles.py", "scenarios")
        assert "1 failed, 5 passed" in done.stdout, done.stdout + done.stderr
        assert "t_shop.py::check(client) PASSED" in done.stdout
        (alias,) = re.findall(r"SCENARIO=(\w+) \./manage\.py dbshell", done.stdout)
        with postgres.session(f"scenario_{alias}") as kept:
            kept.execute("SELECT name FROM shop_article")
            assert kept.fetchall() == [("pen",)]

        loaded = run(shop, "django", "load_scenario", "t_shop", "--json")
        assert '"rows": 2' in loaded.stdout, loaded.stderr
        assert '"how": "cloned"' in loaded.stdout
        assert "Two runs of t_shop" in run(shop, "django", "load_scenario", "t_shop", "--twice").stdout
        listed = run(shop, "django", "list_scenarios").stdout
        assert re.search(r"^t_shop +loaded +2 .* Two articles\.$", listed, re.MULTILINE)
    finally:
        run(shop, "django", "drop_scenario", "--all")
    assert set(shop_databases()) == before
