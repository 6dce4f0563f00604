"""People with and without a second factor, and clients that log in as they do."""

import time

import pytest
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts import second_factor
from rooms.tests.admin.conftest import boss, editor, viewer  # noqa: F401 - fixtures
from rooms.tests.admin.test_throttle import clock  # noqa: F401 - a fixture
from rooms.tests.conftest import chromium, open_window  # noqa: F401 - fixtures

LOGIN = "/admin/login/"
CODE = "/admin/login/code/"
ACCOUNT = "/admin/account/"
SET_UP = "/admin/account/second-factor/"
KEY = "3132333435363738393031323334353637383930"


def code(key=KEY, steps=0):
    """The app's code, so many steps of 30 seconds from now."""
    totp = TOTP(bytes.fromhex(key))
    totp.time = time.time() + 30 * steps
    return f"{totp.token():06}"


def wrong_code(key=KEY):
    """Six digits that are no code of the app about now."""
    near = {code(key, steps) for steps in range(-4, 5)}
    return next(digits for digits in ("000000", "111111", "222222") if digits not in near)


def give_second_factor(user, key=KEY):
    """The user's recovery codes."""
    TOTPDevice.objects.create(user=user, name="app", key=key)
    return second_factor.make_recovery_codes(user)


def give_password(client, user, next_page=None, **headers):
    form = {"username": user.username, "password": PASSWORDS[user.username]}
    return client.post(LOGIN, form | ({"next": next_page} if next_page else {}), **headers)


PASSWORDS = {"boss": "boss-of-rooms", "ed": "ed-the-editor", "vera": "vera-the-viewer"}


def log_in(user, token=None, **headers):
    """A client that is logged in as a person does it."""
    client = Client(**headers)
    give_password(client, user)
    if token:
        client.post(CODE, {"token": token})
    assert client.get(ACCOUNT).status_code == 200
    return client


def is_logged_in(client):
    return client.get("/admin/").status_code == 200


@pytest.fixture
def codes(boss):  # noqa: F811 - the fixture
    """The recovery codes of the boss, who has a second factor."""
    return give_second_factor(boss)


@pytest.fixture
def now():
    return timezone.now()
