"""GraphiQL at GET /graphql: the page that `web/` bundles. It loads nothing from other origins.

Inboxes share its origin, and their users choose the content and the type of the responses. So its policy does not name
the origin as a source, but the paths below which its files and the API are. At a host that a policy cannot name, the
origin is a source of all but scripts: those need the nonce of the page.
"""

import re
import secrets
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from yarl import URL

#: `make web` writes the page to graphql_api/static.
STATIC = Path(__file__).parent.parent / "static"
PREFIX = "/graphql/static"
#: The path of the API.
API = "/graphql"
HEADERS = {
    # A file that is opened by itself, or runs as a worker, loads nothing.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
#: A host that a source of a policy can name (Content Security Policy Level 3, 2.3.1): no IPv6 address, and no
#: name with an underscore.
_NAMEABLE_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?")
NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Ringback</title>
<h1>GraphiQL is not built</h1>
<p>This checkout has no GraphiQL page yet. Run</p>
<pre>make web</pre>
<p>and reload this page. The API itself is available at this address: <code>POST /graphql</code>.</p>
"""
NOT_FOUND = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Not found: Ringback</title>
<link rel="icon" type="image/svg+xml" href="/graphql/static/icon.svg">
<h1>Not found</h1>
<p>Nothing is at this address. The GraphQL API and GraphiQL are at <a href="/graphql">/graphql</a>.</p>
"""

# Each running response holds so many bytes of its file. Starlette's default of 64 KiB took 80 MB with 900 connections.
FileResponse.chunk_size = 16_384


def is_built() -> bool:
    """Return whether `make web` has built the GraphiQL page."""
    return (STATIC / "index.html").is_file()


class Pages:
    """The HTML pages. `public_url` is the setting, "" if there is none."""

    def __init__(self, public_url: str = "") -> None:
        self._public_host = URL(public_url).raw_authority

    def explorer(self, scope: Scope) -> Response:
        """Return the GraphiQL page, or build instructions if this checkout has none."""
        if not is_built():
            return HTMLResponse(NOT_BUILT, headers=self.headers(scope))
        nonce = secrets.token_urlsafe(16)
        page = (STATIC / "index.html").read_text("utf-8").replace("<script ", f'<script nonce="{nonce}" ')
        return HTMLResponse(page, headers=self.headers(scope, f"'nonce-{nonce}'"))

    def not_found(self, scope: Scope) -> Response:
        """Return the page for an address at which nothing is."""
        return HTMLResponse(NOT_FOUND, 404, headers=self.headers(scope))

    def headers(self, scope: Scope, script_source: str = "'none'") -> dict[str, str]:
        """Return the headers of a page. Other clients get JSON or plain text at the same address.

        `script_source` is the source of scripts where the policy cannot name the host.
        """
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        policy = _page_policy(host, self._public_host, script_source)
        return HEADERS | {"Content-Security-Policy": policy, "Vary": "Accept"}


def _page_policy(host: str, public_host: str, script_source: str) -> str:
    """Return the policy of a page that the browser asked for at `host`, or at `public_host` behind a proxy."""
    scripts, files, api = script_source, "'self'", "'self'"
    if _NAMEABLE_HOST.fullmatch(host):
        hosts = [name for name in sorted({host, public_host}) if _NAMEABLE_HOST.fullmatch(name)]
        scripts = files = " ".join([f"{name}{PREFIX}/" for name in hosts])
        # A source without a scheme covers no WebSockets in some browsers.
        api = " ".join([f"{scheme}{name}{API}" for name in hosts for scheme in ("", "ws://", "wss://")])
    return (
        f"default-src 'none'; script-src {scripts}; style-src {files} 'unsafe-inline'; font-src {files}; "
        f"img-src {files} data:; connect-src {api}; worker-src {files}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Assets(StaticFiles):
    """The page's scripts and styles. Files with a content hash in their name are cached forever."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC, check_dir=False)

    async def favicon(self, request: Request) -> Response:
        """Return the icon to browsers that ask for /favicon.ico, as they do for responses without HTML."""
        return await self.get_response("icon.svg", request.scope)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with the security headers of the page."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        if path.startswith(("chunk-", "codicon-")):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
