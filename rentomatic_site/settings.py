"""
The decisions of the site. Environment variables are read here and nowhere else (env.py has the readers);
`.env.example` describes every one, and the real environment wins over the file `.env`.

What is missing or unsafe stops the start with a line that names the variable and the next step. What can be
judged later is a system check (checks.py).
"""

import os
import platform
import re
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from rentomatic_site import logs
from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.env import env, env_bool, env_int, env_list, env_str, read_env_file
from rentomatic_site.pooling.address import pooled
from rentomatic_site.replication.addresses import replica_databases
from rentomatic_site.scenarios.ancestors import scenario_of_ancestors

BASE_DIR = Path(__file__).resolve().parent.parent

read_env_file(Path(os.environ.get("ENV_FILE") or BASE_DIR / ".env"))

# --- The site and its hosts

DEBUG = env_bool("DEBUG", False)

SECRET_KEY = env_str("SECRET_KEY", "development-only-" * 4 if DEBUG else "")
is_weak = len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 5 or SECRET_KEY.startswith("django-insecure-")
if is_weak or (SECRET_KEY.startswith("development-only-") and not DEBUG):
    raise ImproperlyConfigured(
        f"SECRET_KEY is {'too weak (50 random characters at least)' if SECRET_KEY else 'not set'}. "
        "For production run ./deploy/rentomatic setup; for development set DEBUG=on, "
        "as `cp .env.example .env` does."
    )

SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS")

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEBUG else "")
if not ALLOWED_HOSTS or ("*" in ALLOWED_HOSTS and not DEBUG):
    raise ImproperlyConfigured(
        f"ALLOWED_HOSTS is {'* (every host)' if ALLOWED_HOSTS else 'not set'}. "
        "Name the hosts that the site answers to: ALLOWED_HOSTS=rooms.example.com"
    )
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")

HTTPS = env_bool("HTTPS", not DEBUG)
"""Whether clients use TLS; off only for development and for trials on loopback."""

ROOT_URLCONF = "rentomatic_site.urls"
WSGI_APPLICATION = "rentomatic_site.wsgi.application"

INSTALLED_APPS = [
    "rooms",  # before the admin, some of whose templates it extends
    "rentomatic_site.accounts",  # which does so too
    "rentomatic_site.admin_config.AdminConfig",  # django.contrib.admin, loaded when it is needed
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "corsheaders",
    "axes",
    "csp",
    "import_export",
    "rentomatic_site",
    "rentomatic_site.embedded",
    "rentomatic_site.scenarios",
]

MIDDLEWARE = [
    "rentomatic_site.middleware.request_ids",
    "rentomatic_site.probes.middleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "rentomatic_site.middleware.CrossOrigin",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "rentomatic_site.middleware.PagePolicy",
    "django.middleware.common.CommonMiddleware",
    "rentomatic_site.middleware.refuse_nul",
    "rentomatic_site.middleware.public_pages",
    # Only the admin gets this far.
    "rentomatic_site.middleware.admin_language",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "rentomatic_site.accounts.sessions.note_browser",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "axes.middleware.AxesMiddleware",
    "rentomatic_site.logins.remember_browsers",
    "rentomatic_site.logins.mark_staff",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

LANGUAGE_CODE = "en"
"""Of everything but the admin: programs read the API's errors, and pages are cached for everybody."""
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("es", "Español")]
"""Of the admin, each by its own name; middleware.admin_language chooses."""
USE_I18N = True
FORMAT_MODULE_PATH = "rentomatic_site.formats"
USE_TZ = True
TIME_ZONE = env_str("TIME_ZONE", "UTC")
"""Of times and of "today" in the admin; the API's times have their offset."""

UNDO_DAYS = env_int("UNDO_DAYS", 365)
"""How long undo reaches back, once `prune_jobs` has run; 0: for ever."""

STATEMENT_TIMEOUT = env_int("STATEMENT_TIMEOUT", 5000)
"""Milliseconds that a request's statement may take."""

# --- The database: DATABASE_URL, else POSTGRES_*, else (with DEBUG) the embedded PostgreSQL

SCENARIO = env_str("SCENARIO") or scenario_of_ancestors()
if SCENARIO and not re.fullmatch(r"[a-z][a-z0-9_]{0,53}", SCENARIO):
    raise ImproperlyConfigured(
        f"SCENARIO is no scenario's name: {SCENARIO!r}. Next: ./manage.py load_scenario"
    )
SCENARIOS_ALLOWED = env_bool("SCENARIOS_ALLOWED", DEBUG)
if SCENARIO and not SCENARIOS_ALLOWED:
    raise ImproperlyConfigured(
        f"SCENARIO={SCENARIO} is set, but scenarios are for development. Unset it or, to serve a throw-away "
        "database on purpose, set SCENARIOS_ALLOWED=on."
    )
SCENARIOS_DIR = (BASE_DIR / env_str("SCENARIOS_DIR", "scenarios")).resolve()
"""The folder of the scenarios' files."""
SCENARIOS_OWNER = env_str("SCENARIOS_OWNER", f"{embedded_server.user_name(os.geteuid())}@{platform.node()}")
"""The owner of the scenarios that this checkout creates, for a server that several developers use."""
SCENARIOS_SEEDING = "rooms.seeding"
"""The module with the words that scenarios import: all that the engine knows of the models (domain.py)."""
if SCENARIO:
    MIDDLEWARE.insert(0, "rentomatic_site.scenarios.banner.middleware")

EMBEDDED_POSTGRES: Path | None = None
"""The folder of the embedded cluster, where the environment names no server."""

POSTGRES: dict[str, Any]
"""psycopg2's parameters for the server's maintenance database, as a role that may create databases."""

if env_str("DATABASE_URL"):
    try:
        url = env.db_url_config(env_str("DATABASE_URL"))
    except ValueError:  # such as a port that is no number; the value itself may hold a password
        url = {}
    if url.get("ENGINE") != "django.db.backends.postgresql" or not url["NAME"]:
        raise ImproperlyConfigured(
            "DATABASE_URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE. "
            "Next: write it so, with %40 for @, %2F for / and %23 for # within the password."
        )
    POSTGRES = {
        "host": url["HOST"],
        "port": url["PORT"] or 5432,
        "user": url["USER"],
        "password": url["PASSWORD"],
        "dbname": env_str("POSTGRES_DB", "postgres"),
        **url.get("OPTIONS", {}),
    }
    APPLICATION_DB = url["NAME"]
elif env_str("POSTGRES_HOSTNAME"):
    POSTGRES = {
        "host": env_str("POSTGRES_HOSTNAME"),
        "port": env_int("POSTGRES_PORT", 5432),
        "user": env_str("POSTGRES_USER", "postgres"),
        "password": env_str("POSTGRES_PASSWORD"),
        "dbname": env_str("POSTGRES_DB", "postgres"),
    }
    if "," in POSTGRES["host"]:  # a primary and its replicas: libpq tries one after the other
        POSTGRES["target_session_attrs"] = "primary"
    APPLICATION_DB = env_str("APPLICATION_DB", "application")
elif DEBUG:
    EMBEDDED_POSTGRES = (BASE_DIR / env_str("EMBEDDED_POSTGRES_DIR", ".rentomatic/pg18")).resolve()
    POSTGRES = {
        "host": embedded_server.socket_folder(EMBEDDED_POSTGRES),
        "port": 5432,
        "user": "postgres",
        "password": "",
        "dbname": "postgres",
    }
    APPLICATION_DB = env_str("APPLICATION_DB", "application")
else:
    raise ImproperlyConfigured(
        "POSTGRES_HOSTNAME is not set, and neither is DATABASE_URL. "
        "Example: DATABASE_URL=postgres://user:password@db.example.com:5432/application"
    )
POSTGRES.setdefault("connect_timeout", 2)

APPLICATION_USER = env_str("APPLICATION_USER")
"""The login role of the web processes, made by `init_postgres`; empty: the one in POSTGRES."""
APPLICATION_PASSWORD = env_str("APPLICATION_PASSWORD")

LIMITS = {
    "statement_timeout": STATEMENT_TIMEOUT,
    "lock_timeout": 2000,
    "idle_in_transaction_session_timeout": 10000,
    "client_connection_check_interval": 500,
}
"""
PostgreSQL's settings of a request's connection, in milliseconds: requests fail rather than wait for long, and
the statement of a killed worker is cancelled.
"""

DATABASES = {
    "default": {
        "ENGINE": "rentomatic_site.embedded.backend",
        "HOST": POSTGRES["host"],
        "PORT": POSTGRES["port"],
        "USER": APPLICATION_USER or POSTGRES["user"],
        "PASSWORD": APPLICATION_PASSWORD if APPLICATION_USER else POSTGRES["password"],
        "NAME": f"scenario_{SCENARIO}" if SCENARIO else APPLICATION_DB,
        # A connection is kept for a minute; the health check is a look at its socket (backend/base.py).
        "CONN_MAX_AGE": env_int("CONN_MAX_AGE", 60),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **{
                key: value
                for key, value in POSTGRES.items()
                if key not in {"host", "port", "user", "password", "dbname"}
            },
            "application_name": env_str("APPLICATION_NAME", "rentomatic"),
            "options": " ".join(
                [POSTGRES.get("options", ""), *(f"-c {name}={value}" for name, value in LIMITS.items())]
            ),
            # Seconds; tcp_user_timeout in milliseconds: a lost peer is detected within 15 s.
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": 15000,
        },
    }
}
# --- Replicas, which anonymous reads go to

REPLICA_MAX_LAG = env_int("REPLICA_MAX_LAG", 10)
"""Seconds that a replica may be behind the primary, or it is not read."""
REPLICA_MAX_LAG_BYTES = env_int("REPLICA_MAX_LAG_BYTES", 64_000_000)
"""Bytes of write-ahead log, likewise."""
if env_str("DATABASE_REPLICA_URLS") and not SCENARIO:
    try:
        DATABASES |= replica_databases(env_list("DATABASE_REPLICA_URLS"), DATABASES["default"])
    except ValueError as error:
        raise ImproperlyConfigured(
            f"DATABASE_REPLICA_URLS: {error}. "
            "Example: DATABASE_REPLICA_URLS=postgres://replica1:5432,postgres://replica2:5432"
        ) from None
    DATABASE_ROUTERS = ["rentomatic_site.replication.router.Router"]
    MIDDLEWARE.append("rentomatic_site.replication.written.remember_place")
REPLICAS = [alias for alias in DATABASES if alias != "default"]

# --- A pooler, which the web processes connect to; commands connect to the server itself

POOLED: dict[str, Any] | None = None
"""The entry of the web processes in DATABASES (pooling/), where there is a pooler."""
if env_str("DATABASE_POOLER_URL") and not SCENARIO:
    try:
        POOLED = pooled(env_str("DATABASE_POOLER_URL"), DATABASES["default"])
    except ValueError as error:
        raise ImproperlyConfigured(
            f"DATABASE_POOLER_URL: {error}. Example: DATABASE_POOLER_URL=postgres://pooler:6432"
        ) from None

PREPARED_STATEMENTS = env_bool("PREPARED_STATEMENTS", not POOLED)
"""Whether statements are prepared where the plan cannot depend on their values (rooms/api/prepared.py)."""
if PREPARED_STATEMENTS and POOLED:
    raise ImproperlyConfigured(
        "PREPARED_STATEMENTS is on, and DATABASE_POOLER_URL is set: the next transaction may be on another "
        "connection, which has not prepared them. Next: take PREPARED_STATEMENTS out"
    )
SQL_COMMENTS = env_bool("SQL_COMMENTS", not DEBUG)
"""Whether statements name their request in a comment (sqlcommenter.py)."""
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Static files: hashed and compressed by collectstatic, served by whitenoise

STATIC_URL = "/static/"
# Leaflet, for the admin's map, as django-leaflet ships it. Only its files: as an app it would need GDAL.
STATICFILES_DIRS = [Path(find_spec("leaflet").origin or "").parent / "static"]  # type: ignore[union-attr]  # it is installed
STATIC_ROOT = BASE_DIR / env_str("STATIC_ROOT", "staticfiles")
STORAGES = {
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    }
}
# Pages name no other files, and maps are for developers' tools: this is two thirds of collectstatic's time.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["gif", "jpg", "map", "png", "woff2"]
WHITENOISE_ALLOW_ALL_ORIGINS = False

# --- Security

SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # nginx overwrites it, so clients cannot set it
SECURE_HSTS_SECONDS = env_int("HSTS_SECONDS", 31536000) if HTTPS else 0
# Both apply to hosts that are not ours, as the site may have the operator's whole domain for a name: for a
# year, and in the browsers' preload list for longer. Only the operator can decide that, so the two checks of
# Django's checks for them are silenced.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env_bool("HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env_bool("HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
COOKIE_PREFIX = "__Host-" if HTTPS else ""
# Cookies do not depend on the port: without a suffix two scenarios that are served side by side share them.
COOKIE_SUFFIX = f"_{SCENARIO}" if SCENARIO else ""
SESSION_COOKIE_NAME = f"{COOKIE_PREFIX}sessionid{COOKIE_SUFFIX}"
KNOWN_BROWSER_COOKIE = f"{COOKIE_PREFIX}known{COOKIE_SUFFIX}"
STAFF_COOKIE = f"{COOKIE_PREFIX}staff{COOKIE_SUFFIX}"
WRITTEN_COOKIE = f"{COOKIE_PREFIX}written{COOKIE_SUFFIX}"
# The choice of a language is sent to the admin only, so that no other response can depend on it.
LANGUAGE_COOKIE_NAME = f"language{COOKIE_SUFFIX}"
LANGUAGE_COOKIE_PATH = "/admin/"
LANGUAGE_COOKIE_AGE = 365 * 86400  # seconds
LANGUAGE_COOKIE_SECURE = HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "rentomatic_site.errors.csrf_failure"
CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}csrftoken{COOKIE_SUFFIX}"
X_FRAME_OPTIONS = "DENY"
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "rentomatic_site.accounts.second_factor.Backend",
]
SESSION_ENGINE = "rentomatic_site.accounts.sessions"
SESSION_COOKIE_AGE = 10 * 3600  # seconds: a working day

SECOND_FACTOR = env_str("SECOND_FACTOR", "optional" if DEBUG else "privileged")
"""Who has to log in with a second factor: nobody, those who may delete rooms or manage people, all staff."""
if SECOND_FACTOR not in {"optional", "privileged", "staff"}:
    raise ImproperlyConfigured(
        f"SECOND_FACTOR is none of optional, privileged, staff: {SECOND_FACTOR!r}. "
        "Example: SECOND_FACTOR=privileged"
    )
# The name of the account in people's authenticator apps.
OTP_TOTP_ISSUER = f"Rent-o-matic {ALLOWED_HOSTS[0].lstrip('.')}"

# After ten failed logins with one username from one IP address that pair is locked for ten minutes; logins.py
# has the delays before, the limit for an IP address, and the known browsers.
AXES_HANDLER = "rentomatic_site.logins.Throttle"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=10)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]
AXES_LOCKOUT_CALLABLE = "rentomatic_site.logins.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "rentomatic_site.middleware.client_address"
AXES_DISABLE_ACCESS_LOG = True  # the request log has every login
AXES_VERBOSE = False
# The log says whose logins fail, and from where; passwords and codes stay masked.
AXES_SENSITIVE_PARAMETERS = ["token"]

BEHIND_PROXY = env_bool("BEHIND_PROXY", HTTPS)

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- E-mail, of which there is one: the link to a new password

SITE_ADDRESS = env_str("SITE_ADDRESS")
"""The URL that people use, for links in e-mails: a request's Host header may be an attacker's."""
EMAIL_URL = env_str("EMAIL_URL")
if EMAIL_URL:
    try:
        email = env.email_url_config(EMAIL_URL)
        if not email["EMAIL_HOST"] and "smtp" in email["EMAIL_BACKEND"]:
            raise ValueError
    except (ValueError, ImproperlyConfigured):  # the value itself may hold a password
        raise ImproperlyConfigured(
            "EMAIL_URL is not of the form smtp+tls://USER:PASSWORD@HOST:587. "
            "Next: write it so, with %40 for @ and %2F for / within user and password."
        ) from None
    site = urlsplit(SITE_ADDRESS)
    if not (site.scheme in {"http", "https"} and site.hostname):
        raise ImproperlyConfigured(
            f"SITE_ADDRESS is {f'no URL: {SITE_ADDRESS!r}' if SITE_ADDRESS else 'not set'}. It is needed for "
            "the links in e-mails, with EMAIL_URL. Example: SITE_ADDRESS=https://rooms.example.com"
        )
    EMAIL_BACKEND = email["EMAIL_BACKEND"]
    EMAIL_HOST = email["EMAIL_HOST"]
    EMAIL_PORT = email["EMAIL_PORT"] or (465 if email.get("EMAIL_USE_SSL") else 587)
    EMAIL_HOST_USER = email["EMAIL_HOST_USER"] or ""
    EMAIL_HOST_PASSWORD = email["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS = email.get("EMAIL_USE_TLS", False)
    EMAIL_USE_SSL = email.get("EMAIL_USE_SSL", False)
    EMAIL_FILE_PATH = email["EMAIL_FILE_PATH"]
    EMAIL_TIMEOUT = 10  # seconds
    DEFAULT_FROM_EMAIL = env_str("EMAIL_FROM", f"Rent-o-matic <no-reply@{site.hostname}>")
LOGIN_CONTACT = env_str("LOGIN_CONTACT")
"""Whom people ask who cannot log in, as text."""
PASSWORD_RESET_TIMEOUT = 3600  # seconds that the link in an e-mail is valid

# Maps: over a background of our own the tiles of a file, and those of a server, where they are configured.
MAP_FOLDER = BASE_DIR / "deploy" / "maps"
MAP_PMTILES = env_str("MAP_PMTILES")
MAP_TILES_URL = env_str("MAP_TILES_URL")
MAP_TILES_ATTRIBUTION = env_str("MAP_TILES_ATTRIBUTION", "© OpenStreetMap contributors")
map_tiles = urlsplit(MAP_TILES_URL.replace("{s}", "*"))

# What pages may load and do: our own files, nothing inline, nothing framed.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

if MAP_TILES_URL:
    CONTENT_SECURITY_POLICY["DIRECTIVES"]["img-src"].append(f"{map_tiles.scheme}://{map_tiles.netloc}")

IMPORT_EXPORT_IMPORT_PERMISSION_CODE = "import"
IMPORT_EXPORT_EXPORT_PERMISSION_CODE = "export"

# Any origin may read the API, without cookies; nothing else is shared with other origins.
CORS_ALLOW_ALL_ORIGINS = True
CORS_URLS_REGEX = r"^/(rooms|ogc|openapi\.json)"
CORS_ALLOW_METHODS = ["GET", "HEAD"]
CORS_ALLOW_HEADERS = [*default_headers, "if-none-match"]
CORS_EXPOSE_HEADERS = [
    "Link",
    "ETag",
    "X-Total-Count",
    "X-Total-Count-Precision",
    "Server-Timing",
    "Retry-After",
]

# --- The web processes (deploy/gunicorn.conf.py) and their probes

WEB_BIND = env_list("WEB_BIND", "127.0.0.1:8000")
WEB_WORKERS = env_int("WEB_WORKERS", 2)
WEB_THREADS = env_int("WEB_THREADS", 4)
if WEB_THREADS < 2:
    raise ImproperlyConfigured(
        "WEB_THREADS is less than 2: one slow reader of an export would hold the whole process. "
        "Example: WEB_THREADS=4"
    )
EXPORTS_AT_ONCE = WEB_THREADS // 2
"""Exports that one process streams at a time: each holds a thread for as long as its client reads."""
REQUEST_TIMEOUT = env_int("REQUEST_TIMEOUT", 15)
EXPORT_TIMEOUT = env_int("EXPORT_TIMEOUT", 600)
METRICS_BIND = env_str("METRICS_BIND")
"""Where /metrics is served, HOST:PORT; empty: nothing is counted."""
if METRICS_BIND:
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):[0-9]{1,5}", METRICS_BIND):
        raise ImproperlyConfigured(
            f"METRICS_BIND is not of the form HOST:PORT: {METRICS_BIND!r}. "
            "Example: METRICS_BIND=127.0.0.1:9100"
        )
    if METRICS_BIND.rpartition(":")[2] in {bind.rpartition(":")[2] for bind in WEB_BIND}:
        raise ImproperlyConfigured(
            f"METRICS_BIND has a port of WEB_BIND: {METRICS_BIND}. Metrics need a port of their own, which "
            "clients do not reach. Example: METRICS_BIND=127.0.0.1:9100"
        )
    # The outermost: whoever responds, the request is counted.
    MIDDLEWARE.insert(0, "rentomatic_site.metrics.requests.middleware")
METRICS_DIR = Path(env_str("METRICS_DIR", "/dev/shm/rentomatic-metrics"))  # noqa: S108 - its owner is checked
"""The folder of the counts, on a file system in memory; emptied at the start of gunicorn."""
TRACES_ENDPOINT = env_str("OTEL_EXPORTER_OTLP_ENDPOINT").rstrip("/")
"""The collector of traces, over HTTP; empty: there are none."""
if TRACES_ENDPOINT:
    collector = urlsplit(TRACES_ENDPOINT)
    if not (collector.scheme in {"http", "https"} and collector.hostname):
        raise ImproperlyConfigured(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is no URL: {TRACES_ENDPOINT!r}. "
            "Example: OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"
        )
    # Within request_ids, whose id is an attribute, and around all others.
    MIDDLEWARE.insert(
        MIDDLEWARE.index("rentomatic_site.middleware.request_ids") + 1, "rentomatic_site.tracing.middleware"
    )
TRACED_PER_MILLE = env_int("TRACED_PER_MILLE", 1000)
"""Of a thousand requests, those that are traced."""
DRAIN_FILE = env_str("DRAIN_FILE", "/dev/shm/rentomatic-draining")  # noqa: S108 - read for its existence only

# --- Logs: one stream, the console; text for people or JSON for machines

LOG_FORMAT = env_str("LOG_FORMAT", "text" if DEBUG else "json")
if LOG_FORMAT not in {"text", "json"}:
    raise ImproperlyConfigured(f"LOG_FORMAT is neither text nor json: {LOG_FORMAT!r}")
ACCESS_LOG = env_bool("ACCESS_LOG", True)
LOGGING = logs.configuration(LOG_FORMAT, env_str("LOG_LEVEL", "INFO").upper())
