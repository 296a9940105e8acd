"""The check of the URL of a webhook before its data and DNS are known."""

from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.url_rules import (
    Endpoint,
    check_partial_url,
    check_url_template,
    find_endpoint,
    render_known_url,
)
from ringback.models.services.slow_checks import SlowChecks
from ringback.models.templates.known_text import UNKNOWN


class UrlCheck:
    """The check of URLs under one address policy. Inboxes of this server are exempt from the policy."""

    def __init__(self, policy: AddressPolicy, inboxes: InboxAddresses) -> None:
        self._policy = policy
        self._inboxes = inboxes
        self._renderings = SlowChecks()

    async def find_problems(self, url: str) -> list[str]:
        """Return the reasons to refuse a URL, which may contain Liquid; [] if there are none."""
        problems = check_url_template(url)
        if problems:
            return problems
        known_url = url
        if has_liquid(url):
            # Rendering takes up to 50 ms.
            known_url = await self._renderings.run(render_known_url, url)
            problems = check_partial_url(known_url)
        if problems:
            return problems
        endpoint = find_endpoint(known_url)
        refusal = self._find_refusal(endpoint)
        if refusal is None or await self._may_be_inbox(known_url, endpoint):
            return []
        return [await self._inboxes.describe_move(known_url) or refusal]

    def _find_refusal(self, endpoint: Endpoint) -> str | None:
        if endpoint.host is None:
            return self._policy.check_port(endpoint.port)
        return self._policy.check_host(endpoint.host, endpoint.port)

    async def _may_be_inbox(self, known_url: str, endpoint: Endpoint) -> bool:
        """Return whether a URL is an inbox of this server, or could render to one. Rendered URLs are checked again."""
        if UNKNOWN in known_url:
            return self._inboxes.may_be_here(endpoint.host, endpoint.port)
        return await self._inboxes.is_own(known_url)


def has_liquid(url: str) -> bool:
    """Return whether a URL contains Liquid."""
    return "{{" in url or "{%" in url
