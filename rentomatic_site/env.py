"""
Typed readers of environment variables, for settings.py alone.

Each variable `NAME` can also be set as `NAME_FILE`, the path of a file that holds the value. A value that
cannot be read raises ImproperlyConfigured with the variable's name and the next step.
"""

import os
import re
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.FileAwareEnv()


def read_env_file(path: Path) -> None:
    """Add the file's variables to the environment, whose NAME overrides NAME and NAME_FILE of the file."""
    if path.exists() and not os.access(path, os.R_OK):
        raise ImproperlyConfigured(f"{path} cannot be read. Next: chown or chmod it, or set ENV_FILE.")
    real = set(os.environ)
    env.read_env(path)
    for name in set(os.environ) - real:
        if (name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE") in real:
            del os.environ[name]


def env_str(name: str, default: str = "") -> str:
    """
    The variable's value without the line end that editors add to secret files; an empty value counts as
    unset.

    The value is not interpreted: django-environ's casts would resolve a password `$ecret` as a variable.
    """
    try:
        return env.ENVIRON.get(name, "").strip("\r\n") or default
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ImproperlyConfigured(
            f"{name}_FILE names a file that cannot be read ({reason}): {os.environ[name + '_FILE']}. "
            f"Next: correct the path or its mode, or set {name} itself."
        ) from None


def env_int(name: str, default: int) -> int:
    """The variable as a whole number that is not negative."""
    value = env_str(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ImproperlyConfigured(f"{name} is not a whole number: {value!r}. Example: {name}={default}")
    return int(value)


def env_bool(name: str, default: bool) -> bool:
    """The variable as a yes or no: on, true, yes, 1 and off, false, no, 0."""
    value = env_str(name, "on" if default else "off").lower()
    if value in {"on", "true", "yes", "1"}:
        return True
    if value in {"off", "false", "no", "0"}:
        return False
    raise ImproperlyConfigured(f"{name} is neither on nor off: {value!r}. Example: {name}=on")


def env_list(name: str, default: str = "") -> list[str]:
    """The variable as a list, separated by commas."""
    items = [item.strip() for item in env_str(name, default).split(",")]
    return [item for item in items if item]
