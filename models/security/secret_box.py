"""Secrets at rest: signing secrets are encrypted with the operator's key (Fernet), tokens are only hashed.

The key is RINGBACK_SECRET_KEY, stretched to Fernet's 32 bytes with SHA-256, or one made once and kept in the data
directory, readable by its owner alone.
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
from ringback.models.settings import Settings

#: The file in the data directory that keeps the key.
KEY_FILE = "secret.key"


class SecretBox:
    """Encrypts and decrypts with one key."""

    def __init__(self, key: str) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
        #: Opens a secret; raises ConfigurationError when it was sealed with another key. Those of the webhooks at work,
        #: of which there may be thousands, are opened for each attempt.
        self.open = lru_cache(16_384)(self._open)

    def seal(self, secret: str) -> str:
        """The encrypted form."""
        return self._fernet.encrypt(secret.encode()).decode()

    def _open(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ConfigurationError(
                "a signing secret in the database was encrypted with another key: "
                "set RINGBACK_SECRET_KEY to the key it was encrypted with"
            ) from error


def load_secret_box(settings: Settings) -> SecretBox:
    """Encryption with the operator's key, or with one that is made once and kept in the data directory."""
    if settings.secret_key is not None:
        return SecretBox(settings.secret_key.get_secret_value())
    return SecretBox(load_or_create_secret(settings.data_dir / KEY_FILE))


def load_or_create_secret(path: Path, make: str | None = None) -> str:
    """The secret kept in a file that only its owner can read; made at the first call, by one process alone.

    Raises ConfigurationError when the file cannot be read or made, or is empty.
    """
    try:
        if not path.exists():
            _keep(path, make or secrets.token_urlsafe(32))
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot keep a secret in {path} ({error}): make it readable, or remove it") from error
    if not secret:
        raise ConfigurationError(f"{path} is empty: restore it, or remove it and a new secret is made")
    return secret


def _keep(path: Path, secret: str) -> None:
    """Write the whole file under another name first, so that no other process reads half of it."""
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


def hash_token(token: str) -> str:
    """What is kept of a bearer token. Tokens are random and long, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
