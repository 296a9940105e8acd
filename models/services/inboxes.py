"""Create, clear and delete inboxes, and receive requests for them."""

import re
import secrets as randomness
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self
from uuid import UUID

import structlog
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from ringback.models import ids
from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.database.sql import fetch, lock_row
from ringback.models.enums import SignatureCheck
from ringback.models.errors import ConfigurationError, RingbackError
from ringback.models.event import Event
from ringback.models.fair_slots import wait_in_line
from ringback.models.ids import Prefix
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.security.inbox_addresses import TOKEN_PATTERN
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import SIGNATURE_HEADER, check_secret, verify
from ringback.models.services.validation import Problems, not_found, parse_id
from ringback.models.settings import Settings
from ringback.models.templates.charset import find_charset_problem
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.inbox")

MAX_NAME_CHARS = 200
MAX_RESPONSES = 100
MAX_RESPONSE_BODY_CHARS = 65_536
MAX_DELAY_MS = 60_000
MAX_CONTENT_TYPE_CHARS = 200
#: Length of the column `method`.
_MAX_METHOD_CHARS = 32
EVENT_ID_HEADER = "ps-webhook_event-id"
ATTEMPT_HEADER = "ringback-attempt"
#: Attempt numbers that the column can store.
_ATTEMPT_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
#: Bytes that a stored request takes besides its URL, headers and body: the row and its entries in indexes.
ROW_BYTES = 512
#: The oldest requests are measured in batches that grow: SQLite reads all pages of a body to find the size behind it.
_REMOVAL_BATCHES = (8, 64, 512)
#: Part of the total quota that a process may store before it adds up the inboxes again.
_TOTAL_CHECK_SHARE = 0.01
#: Batches that are removed at once for the total quota. The next check goes on.
_MAX_TOTAL_BATCHES = 20
#: Bytes of all inboxes. Reads each inbox, but none of their requests.
_STORED_IN_ALL = "SELECT CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) AS total FROM ringback_inbox"
#: The requests that a subscription may miss: numbers of the latest request and of the latest before a clearing, and of
#: the first stored one after the last that was read. One look-up each in the indexes of inboxes and their requests.
_NEXT_STORED = """
SELECT received, received - request_count AS cleared, (
    SELECT min(number) FROM ringback_inbox_request WHERE inbox_id = inbox.id AND number > $2
) AS next FROM ringback_inbox inbox WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class InboxLimits:
    """The limits on what inboxes store and accept, from the settings RINGBACK_INBOX_MAX_…."""

    requests: int = 10_000
    bytes: int = 67_108_864
    total_bytes: int = 536_870_912
    requests_per_second: int = 500

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings give."""
        return cls(
            requests=settings.inbox_max_requests,
            bytes=settings.inbox_max_bytes,
            total_bytes=settings.inbox_max_total_bytes,
            requests_per_second=settings.inbox_max_requests_per_second,
        )


class RequestTooLarge(RingbackError):
    """A request that is larger than a quota, so that no removal makes room for it. The message names the setting."""


class RequestsRemoved(RingbackError):
    """A quota has removed requests of an inbox that the reader had not read yet."""


@dataclass(frozen=True, slots=True)
class InboxResponse:
    """The response of an inbox, sent after `delay_ms` milliseconds."""

    status_code: int = 200
    body: str = ""
    content_type: str = "text/plain"
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived. `url` is path and query; `headers` keep their order."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    remote_address: str | None

    @property
    def size(self) -> int:
        """Bytes that count towards the quotas."""
        header_chars = sum(len(name) + len(value) for name, value in self.headers)
        return ROW_BYTES + len(self.url) + header_chars + len(self.body)


class Inboxes:
    """The inboxes of a database, within limits."""

    def __init__(self, secrets: SecretBox, limits: InboxLimits | None = None) -> None:
        self.limits = limits or InboxLimits()
        self._secrets = secrets
        #: Bytes that this process may store before it adds up the inboxes again.
        self._bytes_until_check = 0

    async def create(
        self, name: str | None, responses: Sequence[InboxResponse], signing_secret: str | None = None
    ) -> Inbox:
        """Create an inbox. Raises InputRejected."""
        problems = Problems()
        name = problems.check_line("name", name, max_chars=MAX_NAME_CHARS, required=False)
        responses = _check_responses(problems, responses)
        fault = check_secret(signing_secret) if signing_secret is not None else None
        if fault is not None:
            problems.add("signing_secret", fault)
        problems.raise_if_any()
        sealed_secret = self._secrets.seal(signing_secret) if signing_secret is not None else None
        async with in_transaction() as db:
            return await Inbox.create(
                token=randomness.token_urlsafe(16),
                name=name,
                responses=[asdict(response) for response in responses],
                signing_secret=sealed_secret,
                created_at=await clock.now(db),
                using_db=db,
            )

    async def clear(self, inbox_id: str) -> int:
        """Delete the requests of an inbox and return their number. Its responses start again with the first."""
        key = parse_id(Prefix.INBOX, inbox_id)
        async with in_transaction() as db:
            if not await Inbox.filter(id=key).using_db(db).update(request_count=0, stored_bytes=0):
                raise not_found("inbox", inbox_id)
            return await InboxRequest.filter(inbox_id=key).using_db(db).delete()

    async def delete(self, inbox_id: str) -> None:
        """Delete an inbox with its requests. Its address then answers 404."""
        key = parse_id(Prefix.INBOX, inbox_id)
        async with in_transaction() as db:
            if not await Inbox.filter(id=key).using_db(db).delete():
                raise not_found("inbox", inbox_id)

    async def exists(self, token: str) -> bool:
        """Return whether there is an inbox with this token."""
        return TOKEN_PATTERN.fullmatch(token) is not None and await Inbox.exists(token=token)

    async def receive(self, token: str, request: Received) -> InboxResponse | None:
        """Store a request and return the response to send. None if there is no inbox with this token.

        Removes the oldest requests that exceed a quota. Raises RequestTooLarge if the request alone exceeds it.
        """
        if not TOKEN_PATTERN.fullmatch(token):
            return None
        self._check_size(request.size)
        with wait_in_line(self):  # the worker must not wait for all of these requests
            await self._make_room(request.size)
            response = await self._store(token, request)
        if response is not None:
            notifier.notify(Topic.RECEIVED)
        return response

    async def received_after(self, inbox_id: UUID, number: int, limit: int) -> list[InboxRequest] | None:
        """Return the requests of an inbox after request `number`, in order. None if the inbox was deleted.

        Raises RequestsRemoved if the next request was removed by a quota. Clearing an inbox is no gap.
        """
        later = InboxRequest.filter(inbox_id=inbox_id, number__gt=number)
        requests = await later.order_by("number").limit(limit)
        if requests and requests[0].number == number + 1:
            return requests
        states = await fetch(Inbox._meta.db, _NEXT_STORED, inbox_id, number)
        if not states:
            return None
        received, cleared, next_number = states[0]["received"], states[0]["cleared"], states[0]["next"]
        first_missing = max(number, cleared) + 1
        last_missing = received if next_number is None else next_number - 1
        if first_missing <= last_missing:
            raise RequestsRemoved(
                f"requests {first_missing:,} to {last_missing:,} of the inbox were removed by a quota "
                "(RINGBACK_INBOX_MAX_REQUESTS, RINGBACK_INBOX_MAX_BYTES or RINGBACK_INBOX_MAX_TOTAL_BYTES)"
            )
        return requests

    async def _store(self, token: str, request: Received) -> InboxResponse | None:
        size = request.size
        async with in_transaction() as db:
            # Count first: the update locks the inbox, so that its requests are numbered in the order of their commits.
            counters = {
                "request_count": F("request_count") + 1,
                "received": F("received") + 1,
                "stored_bytes": F("stored_bytes") + size,
            }
            if not await Inbox.filter(token=token).using_db(db).update(**counters):
                return None
            inbox = await Inbox.get(token=token, using_db=db)
            await self._remove_excess(db, inbox, size)
            response = _response_to_latest(inbox)
            event = await _find_event(request)
            signature = await self._check_signature(inbox, event, request)
            event_id, attempt_number = None, None
            if event is not None:
                event_id, attempt_number = event.id, _attempt_number(request)
            await InboxRequest.create(
                inbox_id=inbox.id,
                number=inbox.received,
                received_at=await clock.now(db),
                method=request.method[:_MAX_METHOD_CHARS],
                url=request.url,
                headers=[[name, value] for name, value in request.headers],
                body=request.body,
                remote_address=request.remote_address,
                response_status_code=response.status_code,
                signature=signature,
                event_id=event_id,
                attempt_number=attempt_number,
                size=size,
                using_db=db,
            )
        return response

    def _check_size(self, size: int) -> None:
        quotas = {"RINGBACK_INBOX_MAX_BYTES": self.limits.bytes}
        quotas["RINGBACK_INBOX_MAX_TOTAL_BYTES"] = self.limits.total_bytes
        for name, quota in quotas.items():
            if size > quota:
                raise RequestTooLarge(
                    f"The request takes {size:,} bytes; the inbox stores {quota:,}. The operator can raise {name}."
                )

    async def _remove_excess(self, db: BaseDBAsyncClient, inbox: Inbox, size: int) -> None:
        """Remove the requests that exceed the quotas of the inbox, which has counted a new one of `size` bytes."""
        excess_bytes = inbox.stored_bytes - self.limits.bytes
        last_excess_number = inbox.received - self.limits.requests
        if excess_bytes > 0 or last_excess_number > 0:
            await _remove_oldest(
                db, inbox, excess_bytes=excess_bytes, last_excess_number=last_excess_number, new_bytes=size
            )

    async def _make_room(self, size: int) -> None:
        """Remove the oldest requests of the largest inboxes if a request of `size` bytes would exceed the total quota.

        The inboxes are added up once for each hundredth of the quota that this process stores, so each other process
        can exceed the quota by as much.
        """
        self._bytes_until_check -= size
        if self._bytes_until_check >= 0:
            return
        share = int(self.limits.total_bytes * _TOTAL_CHECK_SHARE)
        self._bytes_until_check = share
        (sums,) = await fetch(Inbox._meta.db, _STORED_IN_ALL)
        excess = sums["total"] + size + share - self.limits.total_bytes
        if excess <= 0:
            return
        for _ in range(_MAX_TOTAL_BATCHES):
            freed_bytes = await _remove_from_largest_inbox(excess)
            excess -= freed_bytes
            if excess <= 0 or not freed_bytes:
                return

    async def _check_signature(self, inbox: Inbox, event: Event | None, request: Received) -> SignatureCheck:
        """Verify a request with the inbox's own secret, or else with the secret of the event's webhook."""
        sealed = inbox.signing_secret
        if sealed is None and event is not None:
            sealed = (await Webhook.get(id=event.webhook_id)).signing_secret
        if sealed is None:
            is_signed = _find_header(request, SIGNATURE_HEADER) is not None
            return SignatureCheck.NOT_CHECKED if is_signed else SignatureCheck.ABSENT
        try:
            secret = self._secrets.open(sealed)
        except ConfigurationError as error:
            # The request must be stored even if the operator has changed the secret key.
            logger.warning("cannot check a signature", action="receive", reason=str(error))
            return SignatureCheck.NOT_CHECKED
        return verify(dict(request.headers), request.body, secret)


async def _remove_from_largest_inbox(excess_bytes: int) -> int:
    """Remove the oldest requests of the inbox that stores most, so that a flooded inbox does not empty the others.

    Return the bytes that it stores less, 0 if nothing is left.
    """
    largest = await Inbox.filter(stored_bytes__gt=0).order_by("-stored_bytes").first().values_list("id", flat=True)
    async with in_transaction() as db:
        inbox = await lock_row(db, Inbox, id=largest)
        if inbox is None:
            return 0
        return await _remove_oldest(db, inbox, excess_bytes=excess_bytes)


async def _remove_oldest(
    db: BaseDBAsyncClient, inbox: Inbox, *, excess_bytes: int, last_excess_number: int = 0, new_bytes: int = 0
) -> int:
    """Remove the oldest requests of a locked inbox, until `excess_bytes` are gone and none has an excess number.

    `new_bytes` are counted already, and stored afterwards. Return the bytes by which the sum became smaller. At most
    three batches are removed, so that a request does not wait for many others; the next one goes on.
    """
    removed_bytes, is_empty = 0, False
    stored = InboxRequest.filter(inbox_id=inbox.id).using_db(db)
    for batch in _REMOVAL_BATCHES:
        oldest = await stored.order_by("number").limit(batch).values_list("number", "size")
        excess = []
        for number, size in oldest:
            if removed_bytes >= excess_bytes and number > last_excess_number:
                break
            removed_bytes += size
            excess.append(number)
        if excess:
            await stored.filter(number__lte=excess[-1]).delete()
        is_empty = len(excess) == len(oldest) < batch
        if len(excess) < batch:
            break
    # An empty inbox corrects the sum, which is too high once an operator has deleted requests by hand.
    freed_bytes = inbox.stored_bytes - new_bytes if is_empty else removed_bytes
    if freed_bytes:
        await Inbox.filter(id=inbox.id).using_db(db).update(stored_bytes=inbox.stored_bytes - freed_bytes)
    return freed_bytes


def _response_to_latest(inbox: Inbox) -> InboxResponse:
    """Return the response to the inbox's latest request. After the last response is reached, it repeats."""
    number = min(inbox.request_count, len(inbox.responses))
    return InboxResponse(**inbox.responses[number - 1])


async def _find_event(request: Received) -> Event | None:
    """Return the event of this database whose id a request carries, or None."""
    event_id = _find_header(request, EVENT_ID_HEADER)
    if not event_id:
        return None
    try:
        key = ids.decode(Prefix.EVENT, event_id)
    except ValueError:
        return None
    return await Event.get_or_none(id=key)


def _attempt_number(request: Received) -> int | None:
    number = _find_header(request, ATTEMPT_HEADER)
    return int(number) if number and _ATTEMPT_NUMBER.fullmatch(number) else None


def _find_header(request: Received, name: str) -> str | None:
    """Return the first value of a header. `name` is in lower case."""
    return next((value for key, value in request.headers if key.lower() == name), None)


def _check_responses(problems: Problems, responses: Sequence[InboxResponse]) -> list[InboxResponse]:
    """Check the responses and return them with their media types stripped."""
    if not responses:
        problems.add("responses", "responses is empty. Enter at least one response.")
    elif len(responses) > MAX_RESPONSES:
        problems.add_too_large("responses", len(responses), "entries", MAX_RESPONSES)
    return [
        _check_response(problems, f"responses[{index}]", response)
        for index, response in enumerate(responses[:MAX_RESPONSES])
    ]


def _check_response(problems: Problems, field: str, response: InboxResponse) -> InboxResponse:
    if not 200 <= response.status_code <= 599:
        problems.add(f"{field}.status_code", f"{field}.statusCode is {response.status_code}. Enter 200 to 599.")
    if not 0 <= response.delay_ms <= MAX_DELAY_MS:
        message = f"{field}.delayMs is {response.delay_ms}. Enter 0 to {MAX_DELAY_MS:,} milliseconds."
        problems.add(f"{field}.delay_ms", message)
    problems.check_text(f"{field}.body", response.body, max_chars=MAX_RESPONSE_BODY_CHARS)
    content_type = problems.check_media_type(
        f"{field}.content_type", response.content_type, max_chars=MAX_CONTENT_TYPE_CHARS
    )
    charset_problem = find_charset_problem(content_type or "", f"{field}.contentType")
    if charset_problem is not None:
        problems.add(f"{field}.content_type", charset_problem)
    return replace(response, content_type=content_type or "")
