"""The forms of logging in and of one's own account."""

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core import signing
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from rentomatic_site.accounts import second_factor

KEY_SALT = "key of an authenticator app"
KEY_AGE = 1800
"""Seconds between the page with the QR code and the first code."""


class LoginForm(AdminAuthenticationForm):
    """Refuses a username that is longer than any account's; the table of failed attempts cannot store it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        longest = User._meta.get_field("username").max_length
        self.fields["username"].validators.append(MaxLengthValidator(longest or 0))


class TokenField(forms.CharField):
    """A code of the app or a recovery code, as it is compared; spaces and hyphens are ignored."""

    def __init__(self, *, recovery: bool = True, **kwargs: Any) -> None:
        self.recovery = recovery
        attributes = {"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false", "size": 22}
        if not recovery:
            attributes["inputmode"] = "numeric"
        widget = forms.TextInput(attributes)
        super().__init__(max_length=40, widget=widget, **kwargs)

    def clean(self, value: Any) -> str:
        code = second_factor.normalize(super().clean(value))
        if len(code) == 6 or (code and self.recovery):
            return code
        raise forms.ValidationError(
            gettext("A code of the app has 6 digits, a recovery code 16 letters and digits.")
            if self.recovery
            else gettext("A code of the app has 6 digits.")
        )


class CodeForm(forms.Form):
    """Asks for a code of the second factor; a wrong one counts as a wrong password."""

    token = TokenField(label=_("Code"))

    def __init__(self, request: HttpRequest, user: User, data: Any = None) -> None:
        super().__init__(data)
        self.request, self.user = request, user
        self.verified: Any = None

    def clean(self) -> dict[str, Any]:
        token = self.cleaned_data.get("token")
        if token:
            self.verified = authenticate(self.request, username=self.user.get_username(), token=token)
            if self.verified is None:
                raise forms.ValidationError(
                    gettext(
                        "This code is wrong, or was used before. Wait for the next one; "
                        "if that is wrong too, the clock of the phone may be."
                    )
                )
        return self.cleaned_data


class SetUpForm(forms.Form):
    """The first code of an app, for the key that the page showed, and the password of whoever sits there."""

    key = forms.CharField(widget=forms.HiddenInput)
    token = TokenField(label=_("Code"), recovery=False)
    password = forms.CharField(
        label=_("Your password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, request: HttpRequest, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self.request = request

    def clean_key(self) -> str:
        """The key that this page showed to this user."""
        key = read_key(self.request.user, self.cleaned_data["key"])
        if not key:
            raise forms.ValidationError(gettext("This page is too old. Scan the new code below."))
        return key

    def clean_password(self) -> str:
        username = self.request.user.get_username()
        password: str = self.cleaned_data["password"]
        if authenticate(self.request, username=username, password=password) is None:
            raise forms.ValidationError(gettext("This is not your password."))
        return password


def sign_key(user: Any, key: str) -> str:
    return signing.dumps([user.pk, key], salt=KEY_SALT)


def read_key(user: Any, signed: str) -> str:
    """The key of `sign_key`; "" where it is not that user's, or too old."""
    try:
        owner, key = signing.loads(signed, salt=KEY_SALT, max_age=KEY_AGE)
    except signing.BadSignature:
        return ""
    return str(key) if owner == user.pk else ""
