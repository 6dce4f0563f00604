"""
The second factor: codes by time (TOTP, RFC 6238) of django-otp, and recovery codes.

django-otp keeps the key of the codes, refuses a code that was used, follows the clock of the phone, and makes
those wait who send wrong ones: 1, 2, 4, 8… seconds, whatever address or session they come from.
"""

import re
import secrets
from base64 import b32encode
from datetime import datetime
from hashlib import sha256
from typing import Any

import django_otp
import segno
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_otp.plugins.otp_totp.models import TOTPDevice

from rentomatic_site.accounts.audit import record
from rentomatic_site.accounts.models import RecoveryCode
from rentomatic_site.accounts.sessions import end_sessions
from rentomatic_site.middleware import client_address

RECOVERY_CODES = 10
RECOVERY_CODE = re.compile(r"[a-z2-7]{16}")
"""80 random bits in base32: too many to guess, so that a quick digest protects them."""

PRIVILEGED = (
    "rooms.delete_room",
    *(f"auth.{verb}_{model}" for model in ("user", "group") for verb in ("add", "change", "delete")),
)


def is_required(user: Any) -> bool:
    """Whether the user has to log in with a second factor; loads the permissions, as each page does."""
    if settings.SECOND_FACTOR == "privileged":
        return any(user.has_perm(permission) for permission in PRIVILEGED)
    return bool(settings.SECOND_FACTOR == "staff")


def device_of(user: Any) -> TOTPDevice | None:
    """The user's authenticator app; one query."""
    return TOTPDevice.objects.filter(user_id=user.pk, confirmed=True).first()


def normalize(text: str) -> str:
    """A code as it is compared; "" where it can be neither of the app nor a recovery code."""
    code = re.sub(r"[\s-]", "", text).lower()
    return code if re.fullmatch(r"[0-9]{6}", code) or RECOVERY_CODE.fullmatch(code) else ""


def wait_until(device: TOTPDevice) -> datetime | None:
    """When the next code of the app is accepted, after wrong ones; None: now."""
    allowed, reason = device.verify_is_allowed()
    return None if allowed else reason["locked_until"]


class Backend:
    """
    Checks a code as Django's other backends check a password, so that a wrong one is counted with the wrong
    passwords of the same name and address (logins.py), and once.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str = "", token: str | None = None, **kwargs: Any
    ) -> User | None:
        if token is None:
            return None
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            return None
        # The row is locked: of two requests with the same code one is refused.
        with transaction.atomic():
            device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=True).first()
            if device is None:
                return None
            if RECOVERY_CODE.fullmatch(token):
                deleted, _ = RecoveryCode.objects.filter(user=user, digest=digest(token)).delete()
                if not deleted:
                    return None
                device.throttle_reset()
                record(user, "Recovery code used", address=client_address(request) if request else "")
            elif not device.verify_token(token):
                return None
        user.otp_device = device  # type: ignore[attr-defined]  # as django-otp names it
        return user

    def get_user(self, user_id: int) -> None:
        """No session is of this backend."""


def digest(code: str) -> str:
    return sha256(code.encode()).hexdigest()


def make_recovery_codes(user: User) -> list[str]:
    """New codes, in groups of four; the former ones end."""
    codes = [b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES)]
    with transaction.atomic():
        RecoveryCode.objects.filter(user=user).delete()
        RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=digest(code)) for code in codes)
    return [" ".join(re.findall("....", code)) for code in codes]


def set_up(request: HttpRequest, key: str, token: str, address: str) -> list[str] | None:
    """
    Make the app with this key the user's second factor, if `token` is one of its codes: the recovery codes.

    The other sessions end, which had been opened by the password alone.
    """
    user: Any = request.user
    with transaction.atomic():
        # One of two requests at once makes it.
        User.objects.select_for_update().get(pk=user.pk)
        if device_of(user):
            return None
        device = TOTPDevice(user_id=user.pk, name="app", key=key)
        if not device.verify_token(token):
            transaction.set_rollback(True)
            return None
        codes = make_recovery_codes(user)
        end_sessions(user, keep=request.session.session_key)
        record(user, "Second factor set up", address=address)
    request.session.cycle_key()
    django_otp.login(request, device)
    return codes


def remove(
    user: User, *, by: User | None = None, how: str = "", address: str = "", keep: str | None = None
) -> bool:
    """
    Remove the second factor with its recovery codes, and end the user's sessions but `keep`.

    False where there was none.
    """
    with transaction.atomic():
        removed, _ = TOTPDevice.objects.filter(user=user).delete()
        RecoveryCode.objects.filter(user=user).delete()
        if removed:
            end_sessions(user, keep=keep)
            record(user, f"Second factor removed{how}", by=by, address=address)
    return bool(removed)


def app_key(key: str) -> str:
    """The key as it is typed into an app: base32, in groups of four."""
    return " ".join(re.findall("....?", b32encode(bytes.fromhex(key)).decode()))


def qr_code(user: Any, key: str) -> str:
    """The key as a QR code for an app: SVG without styles, 4 modules of white around it."""
    url = TOTPDevice(user=user, key=key).config_url
    code = segno.make(url, micro=False, error="m")
    return SafeString(code.svg_inline(omitsize=True, border=4, light="#fff", svgclass=None, lineclass=None))
