"""
Encryption of backups: AES-256 by openssl, and a MAC over the manifest, which has the SHA-256 of each part.

So nobody without the key reads a backup, changes one, or makes one (encrypt, then authenticate).
"""

import hashlib
import hmac
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from deploy.operations import process
from deploy.operations.project import Project
from deploy.operations.report import Failure

CIPHER = ["openssl", "enc", "-aes-256-ctr", "-pbkdf2"]
NAME = "backup_key"
FORMER = "backup_key_former"


@dataclass(frozen=True)
class Key:
    """The text of deploy/secrets/backup_key: the passphrase of openssl, and what the MAC's key comes from."""

    text: str

    @property
    def id(self) -> str:
        """By it a backup is known as this key's; tells nothing of it."""
        return self.sign(b"id")[:16]

    def derived(self, purpose: str) -> bytes:
        """Another key, for one purpose, which tells nothing of this one."""
        return hmac.digest(self.text.encode(), f"rentomatic {purpose}".encode(), "sha256")

    def sign(self, message: bytes) -> str:
        own = self.derived("manifest")
        return hmac.new(own, message, hashlib.sha256).hexdigest()

    def signed(self, message: bytes, signature: str) -> bool:
        return hmac.compare_digest(self.sign(message).encode(), signature.encode())


def keys(project: Project) -> list[Key]:
    """The site's keys: the present one, then former ones, newest first; none where it does not encrypt."""
    found = []
    for name in (NAME, FORMER):
        try:
            found += project.secret(name).split()
        except FileNotFoundError:
            continue
    return [Key(text) for text in found]


@contextmanager
def writing(file: IO[bytes], key: Key | None) -> Iterator[IO[bytes]]:
    """What is written to the file that this yields is in `file` at the end; with a key encrypted."""
    if key is None:
        yield file
        return
    with openssl(key, "-e", stdin=subprocess.PIPE, stdout=file) as child:
        assert child.stdin is not None
        yield child.stdin
        child.stdin.close()
        if child.wait():
            raise OSError(0, "openssl could not write to it")


@contextmanager
def reading(file: IO[bytes], key: Key | None) -> Iterator[IO[bytes]]:
    """What `writing` was given, from the place in the file where it is; it need not be read to its end."""
    if key is None:
        yield file
        return
    with openssl(key, "-d", stdin=file, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield child.stdout


@contextmanager
def openssl(
    key: Key, direction: str, stdin: IO[bytes] | int, stdout: IO[bytes] | int
) -> Iterator["subprocess.Popen[bytes]"]:
    """It gets the key by a pipe: no process has it in its list, no file on the way."""
    there, here = os.pipe()
    try:
        os.write(here, f"{key.text}\n".encode())
        os.close(here)
        with process.held():
            child = subprocess.Popen(
                [*CIPHER, direction, "-pass", f"fd:{there}"],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                pass_fds=[there],
                start_new_session=True,
            )
    except FileNotFoundError:
        raise Failure(
            "openssl is missing, and deploy/secrets/backup_key asks for encryption", "apt install openssl"
        ) from None
    finally:
        os.close(there)
    try:
        yield child
    finally:
        with process.held():
            for pipe in (child.stdin, child.stdout):
                if pipe is not None and not pipe.closed:
                    try:
                        pipe.close()
                    except OSError:  # it has ended before it took all
                        continue
            child.wait()
