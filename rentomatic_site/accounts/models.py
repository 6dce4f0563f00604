"""What the login stores beside Django's users and django-otp's devices."""

from hashlib import sha256

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models


class Session(AbstractBaseSession):
    """
    A session with whose it is, so that people see and end their own.

    The key has no constraint: Django's session store takes a violated one for a key that is in use, and tries
    another one for ever.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, db_constraint=False, related_name="sessions"
    )
    address = models.CharField(max_length=45, blank=True, help_text="The IP address; of IPv6 the network.")
    browser = models.CharField(max_length=300, blank=True, help_text="The header User-Agent.")
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "accounts_session"
        default_permissions = ()

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        from rentomatic_site.accounts.sessions import SessionStore

        return SessionStore

    @property
    def handle(self) -> str:
        """What names the session on a page: the key would give it away."""
        return sha256(f"handle {self.session_key}".encode()).hexdigest()[:16]


class RecoveryCode(models.Model):
    """A code that replaces the second factor once; only its digest is stored."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, help_text="SHA-256, as hexadecimal digits.")

    class Meta:
        db_table = "accounts_recovery_code"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="accounts_recovery_code_once")]

    def __str__(self) -> str:
        return f"a recovery code of {self.user}"
