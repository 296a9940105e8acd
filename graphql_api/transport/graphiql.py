"""GraphiQL at GET /graphql: the page that `web/` bundles. It loads nothing from other origins."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

#: `make web` writes the page to graphql_api/static.
STATIC = Path(__file__).parent.parent / "static"
PREFIX = "/graphql/static"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
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
<link rel="icon" type="image/svg+xml" href="/favicon.ico">
<h1>Not found</h1>
<p>Nothing is at this address. The GraphQL API and GraphiQL are at <a href="/graphql">/graphql</a>.</p>
"""
#: Other clients get JSON or plain text at the same address.
PAGE_HEADERS = HEADERS | {"Vary": "Accept"}


def page_response() -> Response:
    """Return the GraphiQL page, or build instructions if this checkout has none."""
    index = STATIC / "index.html"
    if not index.is_file():
        return HTMLResponse(NOT_BUILT, headers=PAGE_HEADERS)
    return FileResponse(index, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)


def not_found_response() -> Response:
    """Return the page for an address at which nothing is."""
    return HTMLResponse(NOT_FOUND, 404, headers=PAGE_HEADERS)


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
