"""Which URLs are inboxes of this server: compared as normalised URLs, never as text."""

import re
from functools import lru_cache

from yarl import URL

from ringback.models.inbox import Inbox

PATH = "/inbox/"


#: What a token looks like; nothing else is looked for, since Tortoise refuses to compare a column with longer texts.
_TOKEN = re.compile(r"[0-9A-Za-z_-]{1,64}")


class InboxAddresses:
    """Which addresses are inboxes of this server, by its public URL."""

    def __init__(self, public_url: str) -> None:
        self._base = URL(public_url)
        #: Asked for each attempt; whether there is such an inbox is another question.
        self.token = lru_cache(4_096)(self._token)

    def url(self, token: str) -> str:
        """The absolute address of an inbox."""
        return str(self._base).rstrip("/") + PATH + token

    def _token(self, url: URL) -> str | None:
        """The token in an inbox address of this server, compared as normalised URLs; None for every other address."""
        here = self._base
        if (url.scheme, url.host, url.port) != (here.scheme, here.host, here.port) or url.user or url.password:
            return None
        prefix = here.path.rstrip("/") + PATH
        token = url.path.removeprefix(prefix)
        return token if url.path.startswith(prefix) and _TOKEN.fullmatch(token) else None

    def is_here(self, host: str) -> bool:
        """Whether a host, as it stands in a URL, is this server's."""
        return host.lower().strip("[]") == self._base.host

    async def is_own(self, url: str | URL) -> bool:
        """Whether the address is an existing inbox of this server."""
        try:
            token = self.token(URL(url) if isinstance(url, str) else url)
        except ValueError:
            return False
        return token is not None and await Inbox.exists(token=token)
