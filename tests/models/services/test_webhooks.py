"""Webhooks: what is kept of one, how changes meet, and what becomes of its waiting events."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ringback.jobs.http.request import FRAMING_HEADERS
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action
from ringback.models.errors import InputRejected, ProblemCode
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services.inboxes import Inboxes, InboxResponse
from ringback.models.services.webhooks import RESERVED_HEADERS, Webhooks, WebhookSpec
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.builders import BOX
from tests.support.lag import share_of_allowed

HERE = InboxAddresses("http://127.0.0.1:8000")
SPEC = WebhookSpec("lead", (Action.CREATED,), "https://hooks.example/")


@pytest.fixture
def webhooks() -> Webhooks:
    return Webhooks(AddressPolicy(), HERE, BOX)


def id_of(row: Webhook) -> str:
    return encode(Prefix.WEBHOOK, row.id)


async def problems(work: Any) -> list[tuple[str | None, ProblemCode]]:
    with pytest.raises(InputRejected) as refused:
        await work
    return [(p.field, p.code) for p in refused.value.problems]


async def test_the_secret_is_kept_encrypted(database: object, webhooks: Webhooks) -> None:
    made, secret = await webhooks.create(SPEC)
    stored = (await Webhook.filter(id=made.id).values())[0]
    assert secret.startswith("whsec_")
    assert BOX.open(stored["signing_secret"]) == secret
    assert secret not in str(stored)


async def test_actions_are_kept_once_and_in_order(database: object, webhooks: Webhooks) -> None:
    made, _ = await webhooks.create(replace(SPEC, actions=(Action.DELETED, Action.CREATED, Action.DELETED)))
    assert made.actions == ["CREATED", "DELETED"]


async def test_an_update_that_changes_nothing_writes_nothing(database: object, webhooks: Webhooks) -> None:
    made, _ = await webhooks.create(replace(SPEC, name="Leads", headers=(("X-Shop", "a"),)))
    same = {"name": " Leads ", "headers": (("X-Shop", "a"),), "url": SPEC.url, "actions": (Action.CREATED,)}
    for given in ({}, same):
        assert (await webhooks.update(id_of(made), given)).updated_at == made.updated_at
    changed = await webhooks.update(id_of(made), {**same, "name": None})
    assert (changed.name, changed.headers, changed.updated_at > made.updated_at) == (None, [["X-Shop", "a"]], True)


async def test_updates_of_different_fields_at_the_same_time_both_count(database: object, webhooks: Webhooks) -> None:
    made, _ = await webhooks.create(SPEC)
    await asyncio.gather(
        webhooks.update(id_of(made), {"name": "Leads"}),
        webhooks.update(id_of(made), {"timeout_seconds": 7.5}),
        webhooks.update(id_of(made), {"url": "https://other.example/"}),
    )
    stored = await Webhook.get(id=made.id)
    assert (stored.name, stored.timeout_seconds, stored.url) == ("Leads", 7.5, "https://other.example/")


async def test_of_two_who_have_seen_the_same_state_one_is_told(database: object, webhooks: Webhooks) -> None:
    made, _ = await webhooks.create(SPEC)
    outcomes = await asyncio.gather(
        *(webhooks.update(id_of(made), {"name": name}, made.updated_at) for name in ("a", "b")), return_exceptions=True
    )
    ((refused),) = [o for o in outcomes if isinstance(o, InputRejected)]
    assert [(p.field, p.code) for p in refused.problems] == [("expected_updated_at", ProblemCode.CONFLICT)]


@pytest.mark.parametrize(
    ("end", "left"),
    [("deactivate", ["CANCELLED", "PENDING", "SUCCEEDED"]), ("delete", ["CANCELLED", "CANCELLED", "SUCCEEDED"])],
)
async def test_a_webhook_that_fires_no_more_cancels_what_waits(
    database: object, webhooks: Webhooks, end: str, left: list[str]
) -> None:
    made, _ = await webhooks.create(SPEC)
    other, _ = await webhooks.create(SPEC)
    mine = [
        await builders.event(made),
        await builders.event(made, is_test=True),
        await builders.event(made, status="SUCCEEDED"),
    ]
    others = await builders.event(other)
    if end == "deactivate":
        await webhooks.update(id_of(made), {"is_active": False})
    else:
        await webhooks.delete(id_of(made))
    assert [str((await Event.get(id=e.id)).status) for e in mine] == left
    assert (await Event.get(id=others.id)).status == "PENDING"
    logged = await LogEntry.filter(kind="EVENT_CANCELLED").order_by("id").values_list("event_id", flat=True)
    assert list(logged) == [e.id for e, status in zip(mine, left, strict=True) if status == "CANCELLED"]


async def test_a_deleted_webhook_is_kept_and_cannot_be_changed(database: object, webhooks: Webhooks) -> None:
    made, _ = await webhooks.create(SPEC)
    await webhooks.delete(id_of(made))
    stored = await Webhook.get(id=made.id)
    assert stored.deleted_at is not None and stored.deleted_at >= made.created_at
    assert stored.is_active is False
    expected = [("id", ProblemCode.NOT_FOUND)]
    assert await problems(webhooks.delete(id_of(made))) == expected
    assert await problems(webhooks.update(id_of(made), {"is_active": True})) == expected
    assert await Webhook.get(id=made.id).values("deleted_at", "is_active", "updated_at") == {
        "deleted_at": stored.deleted_at, "is_active": False, "updated_at": stored.deleted_at,
    }  # fmt: skip


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://10.0.0.1/{{ item.id }}", "https://[::1]/", "http://169.254.169.254/"]
)
async def test_a_target_that_is_not_public_is_refused_unless_its_network_is_opened(
    database: object, webhooks: Webhooks, url: str
) -> None:
    assert await problems(webhooks.create(replace(SPEC, url=url))) == [("url", ProblemCode.INVALID)]
    networks = tuple(ip_network(n) for n in ("127.0.0.0/8", "10.0.0.0/8", "::1/128", "169.254.0.0/16"))
    opened = Webhooks(AddressPolicy(networks), HERE, BOX)
    assert (await opened.create(replace(SPEC, url=url)))[0].url == url


async def test_an_inbox_of_ours_is_a_target_and_another_place_here_is_not(database: object, webhooks: Webhooks) -> None:
    token = (await Inboxes(BOX).create(None, [InboxResponse()])).token
    for url in (HERE.url(token), f"http://127.0.0.1:8000/x/../inbox/{token}?a=b"):
        assert (await webhooks.create(replace(SPEC, url=url)))[0].url == url
    for url in (
        HERE.url(token + "x"), "http://127.0.0.1:8000/graphql", f"http://127.0.0.1:8001/inbox/{token}",
        f"http://127.0.0.1:8000@127.0.0.2/inbox/{token}",
    ):  # fmt: skip
        assert await problems(webhooks.create(replace(SPEC, url=url))) == [("url", ProblemCode.INVALID)], url


async def test_only_what_is_given_is_checked(database: object, webhooks: Webhooks) -> None:
    """A rule that has become stricter must not keep an old webhook from being switched off."""
    made, _ = await webhooks.create(SPEC)
    await Webhook.filter(id=made.id).update(
        url="http://127.0.0.1/", body_template="{{ item.fone }}", timeout_seconds=99
    )
    assert (await webhooks.update(id_of(made), {"is_active": False, "name": "x"})).is_active is False
    assert await problems(webhooks.update(id_of(made), {"url": "http://127.0.0.1/", "timeout_seconds": 99.0})) == [
        ("timeout_seconds", ProblemCode.INVALID),
        ("url", ProblemCode.INVALID),
    ]


async def test_updated_at_is_the_moment_of_the_change(database: object, webhooks: Webhooks) -> None:
    begun_at = await clock.now()
    made, _ = await webhooks.create(SPEC)
    assert made.created_at == made.updated_at
    assert begun_at <= made.created_at <= await clock.now()
    stored = await Webhook.get(id=made.id)
    assert (stored.created_at, stored.updated_at) == (made.created_at, made.updated_at)


def test_no_header_is_accepted_that_cannot_be_sent() -> None:
    assert RESERVED_HEADERS.keys() >= FRAMING_HEADERS


#: A template that takes long to check: it renders a sample as far as the limits of templates allow.
COSTLY = "{% for i in (1..10000) %}{{ item.name | upcase | downcase | append: i | size }}{% endfor %}"


@pytest.mark.measures_cpu
async def test_costly_templates_do_not_hold_the_loop_up(database: object, webhooks: Webhooks) -> None:
    headers = tuple((f"X-{number}", COSTLY) for number in range(50))
    spec = replace(SPEC, url=f"{SPEC.url}?{COSTLY}", body_template=COSTLY, headers=headers)

    async def create() -> None:
        with suppress(InputRejected):
            await webhooks.create(spec)

    assert await share_of_allowed(create) < 1
