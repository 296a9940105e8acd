"""What people do with inboxes, and what an inbox does with a request."""

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
from ringback.models.errors import ConfigurationError, ProblemCode
from ringback.models.event import Event
from ringback.models.ids import Prefix
from ringback.models.inbox import Inbox, InboxRequest
from ringback.models.security.inbox_addresses import _TOKEN
from ringback.models.security.secret_box import SecretBox
from ringback.models.security.signing import SIGNATURE_HEADER, check_secret, verify
from ringback.models.services.validation import Problems, not_found, parse_id
from ringback.models.webhook import Webhook

logger = structlog.get_logger("ringback.inbox")

MAX_NAME = 200
MAX_RESPONSES = 100
MAX_RESPONSE_BODY = 65_536
MAX_DELAY_MS = 60_000
MAX_CONTENT_TYPE = 200
EVENT_ID_HEADER = "ps-webhook_event-id"
ATTEMPT_HEADER = "ringback-attempt"
#: What a column for numbers of attempts holds.
_ATTEMPT_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class InboxResponse:
    """What an inbox answers: after `delay_ms` milliseconds, this."""

    status_code: int = 200
    body: str = ""
    content_type: str = "text/plain"
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived; `url` is path and query, headers in their order."""

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
        """Create an inbox; raises InputRejected."""
        problems = Problems()
        name = problems.line("name", name, longest=MAX_NAME, required=False)
        responses = _checked_responses(problems, responses)
        fault = check_secret(signing_secret) if signing_secret is not None else None
        if fault is not None:
            problems.add("signing_secret", fault)
        problems.refuse_if_any()
        async with in_transaction() as db:
            return await Inbox.create(
                token=randomness.token_urlsafe(16),
                name=name,
                responses=[asdict(response) for response in responses],
                signing_secret=self._secrets.seal(signing_secret) if signing_secret is not None else None,
                created_at=await clock.now(db),
                using_db=db,
            )

    async def clear(self, inbox_id: str) -> int:
        """Forget the requests of an inbox, whose responses begin anew; returns how many there were."""
        key = parse_id(Prefix.INBOX, inbox_id)
        async with in_transaction() as db:
            if not await Inbox.filter(id=key).using_db(db).update(request_count=0):
                raise not_found("inbox", inbox_id)
            return await InboxRequest.filter(inbox_id=key).using_db(db).delete()

    async def delete(self, inbox_id: str) -> None:
        """Delete an inbox with its requests; its address answers 404 from now on."""
        key = parse_id(Prefix.INBOX, inbox_id)
        async with in_transaction() as db:
            if not await Inbox.filter(id=key).using_db(db).delete():
                raise not_found("inbox", inbox_id)

    async def receive(self, token: str, request: Received) -> InboxResponse | None:
        """Keep a request and tell what to answer; None when there is no such inbox."""
        async with in_transaction() as db:
            # Counted first: from here on the inbox's requests come one after the other, as their numbers say.
            counted = {"request_count": F("request_count") + 1, "received": F("received") + 1}
            if not _TOKEN.fullmatch(token) or not await Inbox.filter(token=token).using_db(db).update(**counted):
                return None
            inbox = await Inbox.get(token=token, using_db=db)
            response = InboxResponse(**inbox.responses[min(inbox.request_count, len(inbox.responses)) - 1])
            event = await self._event(request)
            await InboxRequest.create(
                inbox_id=inbox.id,
                number=inbox.received,
                received_at=await clock.now(db),
                method=request.method[:32],
                url=request.url,
                headers=[[name, value] for name, value in request.headers],
                body=request.body,
                remote_address=request.remote_address,
                response_status_code=response.status_code,
                signature=await self._check_signature(inbox, event, request),
                event_id=event.id if event else None,
                attempt_number=_attempt_number(request) if event else None,
                using_db=db,
            )
        notifier.notify(Topic.RECEIVED)
        return response

    async def received_after(self, inbox_id: UUID, number: int, limit: int) -> list[InboxRequest] | None:
        """The requests of an inbox after one of them, in the order of their commits; None when the inbox is gone."""
        found = await InboxRequest.filter(inbox_id=inbox_id, number__gt=number).order_by("number").limit(limit)
        return found or ([] if await Inbox.exists(id=inbox_id) else None)

    async def _event(self, request: Received) -> Event | None:
        """Our event that the request's header names, if it is one."""
        named = _header(request, EVENT_ID_HEADER)
        try:
            key: UUID | None = ids.decode(Prefix.EVENT, named) if named else None
        except ValueError:
            return None
        return await Event.get_or_none(id=key) if key else None

    async def _check_signature(self, inbox: Inbox, event: Event | None, request: Received) -> SignatureCheck:
        """By the inbox's own secret, else by the secret of the webhook whose event it is."""
        sealed = inbox.signing_secret
        if sealed is None and event is not None:
            sealed = (await Webhook.get(id=event.webhook_id)).signing_secret
        if sealed is None:
            is_signed = _header(request, SIGNATURE_HEADER) is not None
            return SignatureCheck.NOT_CHECKED if is_signed else SignatureCheck.ABSENT
        try:
            secret = self._secrets.open(sealed)
        except ConfigurationError as error:
            # The operator's mistake must not cost the request.
            logger.warning("cannot check a signature", action="receive", reason=str(error))
            return SignatureCheck.NOT_CHECKED
        return verify(dict(request.headers), request.body, secret)


def _header(request: Received, wanted: str) -> str | None:
    return next((value for name, value in request.headers if name.lower() == wanted), None)


def _attempt_number(request: Received) -> int | None:
    named = _header(request, ATTEMPT_HEADER)
    return int(named) if named and _ATTEMPT_NUMBER.fullmatch(named) else None


def _checked_responses(problems: Problems, responses: Sequence[InboxResponse]) -> list[InboxResponse]:
    """The responses, tidied up."""
    checked = []
    if not responses:
        problems.add("responses", "must have at least one entry")
    elif len(responses) > MAX_RESPONSES:
        problems.add("responses", f"has {len(responses)} entries; {MAX_RESPONSES} are allowed", ProblemCode.TOO_LARGE)
    for index, response in enumerate(responses[:MAX_RESPONSES]):
        field = f"responses[{index}]"
        if not 200 <= response.status_code <= 599:
            problems.add(f"{field}.status_code", "must be from 200 to 599")
        if not 0 <= response.delay_ms <= MAX_DELAY_MS:
            problems.add(f"{field}.delay_ms", f"must be from 0 to {MAX_DELAY_MS:,} milliseconds")
        problems.text(f"{field}.body", response.body, longest=MAX_RESPONSE_BODY)
        content_type = problems.media_type(f"{field}.content_type", response.content_type, longest=MAX_CONTENT_TYPE)
        checked.append(replace(response, content_type=content_type or ""))
    return checked
