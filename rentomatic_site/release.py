"""What /readyz says of the process: equal on hosts with the same release and the same secret key."""

import functools
import hashlib

from django.conf import settings
from django.utils.crypto import salted_hmac

PACKAGES = "rentomatic_site", "rooms"
SUFFIXES = {".py", ".html", ".css", ".js", ".mo"}


def identity() -> dict[str, str]:
    """`release`, a digest of the code, and `key`, one of the secret key from which nobody gets the key."""
    return {"release": release(), "key": key()}


@functools.cache
def release() -> str:
    """The paths and contents of the modules, templates, styles, scripts and translations of the packages."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((settings.BASE_DIR / package).rglob("*")):
            if path.suffix in SUFFIXES:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(settings.BASE_DIR)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def key() -> str:
    return salted_hmac("rentomatic_site.release", "key", algorithm="sha256").hexdigest()[:12]
