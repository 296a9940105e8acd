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

import structlog
from cryptography.fernet import Fernet, InvalidToken

from ringback.models.errors import ConfigurationError
from ringback.models.private_files import make_private
from ringback.models.settings import Settings
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.start")

#: Name of the file in the data directory that holds the random secret.
KEY_FILE = "secret.key"
#: Shorter keys can be guessed by anyone who has a copy of the database.
MIN_KEY_CHARACTERS = 16


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

    def can_open(self, sealed: str) -> bool:
        """Return whether a secret was encrypted with the key of this box."""
        try:
            self.open(sealed)
        except ConfigurationError:
            return False
        return True

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


async def open_secret_box(settings: Settings) -> SecretBox:
    """Return the box of `load_secret_box` once it has decrypted a stored signing secret. The database must be open.

    Raises ConfigurationError if the key is missing or another one than that of the stored secrets.
    """
    newest = await Webhook.filter(deleted_at=None).order_by("-id").first()
    path = settings.data_dir.absolute() / KEY_FILE
    if newest is not None and settings.secret_key is None and not path.exists():
        raise ConfigurationError(
            f"The database has encrypted signing secrets, but RINGBACK_SECRET_KEY is not set and {path} does not "
            "exist. Set RINGBACK_SECRET_KEY to the key they were encrypted with, or restore the file."
        )
    box = load_secret_box(settings)
    if newest is not None and not box.can_open(newest.signing_secret):
        raise ConfigurationError(_describe_wrong_key(settings, path))
    if settings.secret_key is not None and len(settings.secret_key) < MIN_KEY_CHARACTERS:
        logger.warning(
            f"RINGBACK_SECRET_KEY has fewer than {MIN_KEY_CHARACTERS} characters and can be guessed. "
            "Use a longer one for a new database: the key of an existing one cannot be changed.",
            action="start",
        )
    return box


def _describe_wrong_key(settings: Settings, path: Path) -> str:
    if settings.secret_key is None:
        return (
            f"The signing secrets in the database were encrypted with another key than the one in {path}. "
            "Set RINGBACK_SECRET_KEY to the key they were encrypted with, or restore the file."
        )
    return (
        "The signing secrets in the database were encrypted with another key than RINGBACK_SECRET_KEY. "
        f"Set it to the key they were encrypted with, or unset it if that key is in {path}."
    )


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
