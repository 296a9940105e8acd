"""Recognition of the URLs of this server's inboxes, which are compared as normalized URLs, never as text."""

import re

from yarl import URL

from ringback.models.inbox import Inbox

INBOX_PATH = "/inbox/"
#: The form of a token. Other texts are not looked up: Tortoise refuses to compare a column with a longer text.
TOKEN_PATTERN = re.compile(r"[0-9A-Za-z_-]{1,64}")


class InboxAddresses:
    """The addresses of this server's inboxes, below its public URL."""

    def __init__(self, public_url: str) -> None:
        self._base = URL(public_url)

    def url(self, token: str) -> str:
        """Return the absolute URL of an inbox."""
        return str(self._base).rstrip("/") + INBOX_PATH + token

    def may_be_here(self, host: str | None, port: int | None) -> bool:
        """Return whether a URL may lead to this server. Its host, as DNS is asked for it, and its port may be None."""
        return host in (None, self._base.raw_host) and port in (None, self._base.port)

    async def is_own(self, url: str) -> bool:
        """Return whether the URL is an existing inbox of this server."""
        try:
            token = self.token(URL(url))
        except ValueError:
            return False
        return token is not None and await Inbox.exists(token=token)

    async def describe_move(self, url: str) -> str | None:
        """Return what to do about the URL of an existing inbox under another address, or None for every other URL."""
        try:
            token = URL(url).path.rpartition(INBOX_PATH)[2]
        except ValueError:
            return None
        if not TOKEN_PATTERN.fullmatch(token) or not await Inbox.exists(token=token):
            return None
        return (
            "The URL is that of an inbox of this installation under another address; its inboxes are below "
            f"{self.url('')} now. Update the URL, or set RINGBACK_PUBLIC_URL or RINGBACK_PORT to its address."
        )

    def token(self, url: URL) -> str | None:
        """Return the token in the URL of an inbox of this server, which may not exist; None for every other URL."""
        base = self._base
        is_this_server = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
        prefix = base.path.rstrip("/") + INBOX_PATH
        if not is_this_server or url.user or url.password or not url.path.startswith(prefix):
            return None
        token = url.path.removeprefix(prefix)
        return token if TOKEN_PATTERN.fullmatch(token) else None
