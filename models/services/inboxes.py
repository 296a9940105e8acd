"""Create, clear and delete inboxes, and receive requests for them."""

import re
import secrets as randomness
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from uuid import UUID

import structlog
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from ringback.models import ids
from ringback.models.database import clock
from ringback.models.database.notifications import Topic, notifier
from ringback.models.enums import SignatureCheck
from ringback.models.errors import ConfigurationError
from ringback.models.event import Event
from ringback.models.ids import Prefix
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.security.inbox_addresses import TOKEN_PATTERN
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import SIGNATURE_HEADER, check_secret, verify
from ringback.models.services.validation import Problems, not_found, parse_id
from ringback.models.templates.charset import charset_fault
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


class Inboxes:
    """The inboxes of a database."""

    def __init__(self, secrets: SecretBox) -> None:
        self._secrets = secrets

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
            if not await Inbox.filter(id=key).using_db(db).update(request_count=0):
                raise not_found("inbox", inbox_id)
            return await InboxRequest.filter(inbox_id=key).using_db(db).delete()

    async def delete(self, inbox_id: str) -> None:
        """Delete an inbox with its requests. Its address then answers 404."""
        key = parse_id(Prefix.INBOX, inbox_id)
        async with in_transaction() as db:
            if not await Inbox.filter(id=key).using_db(db).delete():
                raise not_found("inbox", inbox_id)

    async def receive(self, token: str, request: Received) -> InboxResponse | None:
        """Store a request and return the response to send. None if there is no inbox with this token."""
        if not TOKEN_PATTERN.fullmatch(token):
            return None
        async with in_transaction() as db:
            # Count first: the update locks the inbox, so that its requests are numbered in the order of their commits.
            counters = {"request_count": F("request_count") + 1, "received": F("received") + 1}
            if not await Inbox.filter(token=token).using_db(db).update(**counters):
                return None
            inbox = await Inbox.get(token=token, using_db=db)
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
                using_db=db,
            )
        notifier.notify(Topic.RECEIVED)
        return response

    async def received_after(self, inbox_id: UUID, number: int, limit: int) -> list[InboxRequest] | None:
        """Return the requests of an inbox after request `number`, in order. None if the inbox was deleted."""
        later = InboxRequest.filter(inbox_id=inbox_id, number__gt=number)
        requests = await later.order_by("number").limit(limit)
        if not requests and not await Inbox.exists(id=inbox_id):
            return None
        return requests

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
    fault = charset_fault(content_type or "")
    if fault is not None:
        problems.add(f"{field}.content_type", f"{field}.contentType {fault}.")
    return replace(response, content_type=content_type or "")
