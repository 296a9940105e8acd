"""Secrets at rest: signing secrets are encrypted with the operator's key (Fernet), tokens are only hashed.

The key is RINGBACK_SECRET_KEY, stretched to Fernet's 32 bytes with SHA-256, or one made once and kept in the data
directory, readable by its owner alone.
"""

import base64
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from ringback.models.errors import ConfigurationError


class SecretBox:
    """Encrypts and decrypts with one key."""

    def __init__(self, key: str) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))

    def seal(self, secret: str) -> str:
        """The encrypted form."""
        return self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret; raises ConfigurationError when it was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ConfigurationError(
                "a signing secret in the database was encrypted with another key: "
                "set RINGBACK_SECRET_KEY to the key it was encrypted with"
            ) from error


def kept_secret(path: Path, make: str | None = None) -> str:
    """The secret kept in a file that only its owner can read; made at the first call."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        secret = make or secrets.token_urlsafe(32)
        file.write(secret + "\n")
    return secret


def token_hash(token: str) -> str:
    """What is kept of a bearer token. Tokens are random and long, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
