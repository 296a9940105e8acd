"""Secrets at rest: signing secrets are encrypted with the operator's key (Fernet), bearer tokens are hashed.

The key is derived with SHA-256 from RINGBACK_SECRET_KEY, or from a random secret in the data directory that only its
owner can read.
"""

import base64
import contextlib
import hashlib
import os
import secrets
from functools import lru_cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from ringback.models.errors import ConfigurationError
from ringback.models.private_files import make_private
from ringback.models.settings import Settings

#: Name of the file in the data directory that holds the random secret.
KEY_FILE = "secret.key"


class SecretBox:
    """Encryption of secrets with one key."""

    def __init__(self, key: str) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
        #: Decrypt a secret. Raises ConfigurationError if it was encrypted with another key. Cached, because each
        #: attempt needs the secret of its webhook, and thousands of webhooks may be in use.
        self.open = lru_cache(16_384)(self._open)

    def seal(self, secret: str) -> str:
        """Encrypt a secret."""
        return self._fernet.encrypt(secret.encode()).decode()

    def _open(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ConfigurationError(
                "A signing secret in the database was encrypted with another key. "
                "Set RINGBACK_SECRET_KEY to the key it was encrypted with."
            ) from error


def load_secret_box(settings: Settings) -> SecretBox:
    """Return a box with the operator's key, or with the secret in the data directory, which is created if missing."""
    if settings.secret_key is not None:
        return SecretBox(settings.secret_key.get_secret_value())
    return SecretBox(load_or_create_secret(settings.data_dir / KEY_FILE))


def load_or_create_secret(path: Path, initial: str | None = None) -> str:
    """Return the secret in a file. If the file is missing, create it with `initial` or a random secret.

    Only the owner can read the file, and of several processes that create it at once one succeeds. Raises
    ConfigurationError if the file cannot be read or created, or is empty.
    """
    try:
        if not path.exists():
            _create_file(path, initial or secrets.token_urlsafe(32))
        make_private(path)
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"Cannot read or create the secret in {path} ({error}). Make the file readable, or remove it."
        ) from error
    if not secret:
        raise ConfigurationError(f"{path} is empty. Restore it, or remove it so that a new secret is created.")
    return secret


def hash_token(token: str) -> str:
    """Return the stored form of a bearer token. One round of SHA-256 is enough, because tokens are long and random."""
    return hashlib.sha256(token.encode()).hexdigest()


def _create_file(path: Path, secret: str) -> None:
    """Write the file under another name first, so that no other process reads an incomplete secret."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(draft, path)
    finally:
        draft.unlink()
