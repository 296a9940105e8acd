"""Webhooks: stored fields, concurrent updates, and the cancelling of waiting events."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ringback.jobs.http.request import FRAMING_HEADERS
from ringback.models.database import clock
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action, HttpMethod, SuccessPolicy
from ringback.models.errors import InputRejected, ProblemCode
from ringback.models.event import Event
from ringback.models.ids import Prefix, encode
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services.inboxes import Inboxes, InboxResponse
from ringback.models.services.webhook_rules import RESERVED_HEADERS
from ringback.models.services.webhook_spec import FIELD_NAMES, WebhookSpec, read_spec
from ringback.models.services.webhooks import Webhooks
from ringback.models.webhook import Webhook
from tests.support import builders
from tests.support.builders import BOX
from tests.support.lag import share_of_allowed

HERE = InboxAddresses("http://127.0.0.1:8000")
SPEC = WebhookSpec("lead", (Action.CREATED,), "https://hooks.example/")
#: Differs from SPEC in every field.
OTHER_SPEC = WebhookSpec(
    model="customer_order",
    actions=(Action.UPDATED, Action.DELETED),
    url="https://other.example/",
    name="Orders",
    method=HttpMethod.PUT,
    is_active=False,
    send_json=True,
    body_template="{{ item.id }}",
    content_type="text/plain",
    headers=(("X-Shop", "a"), ("X-Shop", "b")),
    condition="item.id != '1'",
    retry_delays_seconds=(1, 2),
    timeout_seconds=7.5,
    success_policy=SuccessPolicy.ANY_2XX,
    max_concurrency=3,
    rate_limit_per_second=2.5,
)
#: Columns that administrators do not set.
INTERNAL_COLUMNS = {"id", "events", "last_slot_at", "signing_secret", "created_at", "updated_at", "deleted_at"}


@pytest.fixture
def webhooks() -> Webhooks:
    return Webhooks(AddressPolicy(), HERE, BOX)


def id_of(row: Webhook) -> str:
    return encode(Prefix.WEBHOOK, row.id)


async def problems(work: Any) -> list[tuple[str | None, ProblemCode]]:
    with pytest.raises(InputRejected) as refused:
        await work
    return [(p.field, p.code) for p in refused.value.problems]


@pytest.mark.parametrize("name", sorted(FIELD_NAMES))
async def test_an_update_stores_its_field_and_keeps_all_others(database: object, webhooks: Webhooks, name: str) -> None:
    value = getattr(SPEC, name)
    assert value != getattr(OTHER_SPEC, name)
    webhook, _ = await webhooks.create(OTHER_SPEC)

    await webhooks.update(id_of(webhook), {name: value})

    assert read_spec(await Webhook.get(id=webhook.id)) == replace(OTHER_SPEC, **{name: value})


def test_every_column_is_internal_or_stores_a_field() -> None:
    columns = {name.replace("retry_delays_seconds", "retry_delays") for name in FIELD_NAMES}
    assert columns | INTERNAL_COLUMNS == set(Webhook._meta.fields_map)
    assert columns & INTERNAL_COLUMNS == set()


async def test_the_secret_is_stored_encrypted(database: object, webhooks: Webhooks) -> None:
    webhook, secret = await webhooks.create(SPEC)
    stored = (await Webhook.filter(id=webhook.id).values())[0]
    assert secret.startswith("whsec_")
    assert BOX.open(stored["signing_secret"]) == secret
    assert secret not in str(stored)


async def test_actions_are_stored_once_and_in_order(database: object, webhooks: Webhooks) -> None:
    webhook, _ = await webhooks.create(replace(SPEC, actions=(Action.DELETED, Action.CREATED, Action.DELETED)))
    assert webhook.actions == ["CREATED", "DELETED"]


async def test_an_update_that_changes_nothing_writes_nothing(database: object, webhooks: Webhooks) -> None:
    webhook, _ = await webhooks.create(replace(SPEC, name="Leads", headers=(("X-Shop", "a"),)))
    same = {"name": " Leads ", "headers": (("X-Shop", "a"),), "url": SPEC.url, "actions": (Action.CREATED,)}
    for given in ({}, same):
        assert (await webhooks.update(id_of(webhook), given)).updated_at == webhook.updated_at
    changed = await webhooks.update(id_of(webhook), {**same, "name": None})
    assert (changed.name, changed.headers, changed.updated_at > webhook.updated_at) == (None, [["X-Shop", "a"]], True)


async def test_updates_of_different_fields_at_the_same_time_are_all_stored(
    database: object, webhooks: Webhooks
) -> None:
    webhook, _ = await webhooks.create(SPEC)
    await asyncio.gather(
        webhooks.update(id_of(webhook), {"name": "Leads"}),
        webhooks.update(id_of(webhook), {"timeout_seconds": 7.5}),
        webhooks.update(id_of(webhook), {"url": "https://other.example/"}),
    )
    stored = await Webhook.get(id=webhook.id)
    assert (stored.name, stored.timeout_seconds, stored.url) == ("Leads", 7.5, "https://other.example/")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content_type", "text/plain; charset=windows-1215"),
        ("content_type", "application/x-www-form-urlencoded; charset=utf-16"),
        ("content_type", "text/xml; charset:windows-1251"),
        ("url", "https://hooks.example/a/../b"),
        ("url", "https://hooks.example/%2e/{{ item.id }}"),
        ("url", "https://hooks.example/..;x/{{ item.id }}"),
    ],
)
async def test_what_can_never_be_sent_is_refused_but_not_in_older_webhooks(
    database: object, webhooks: Webhooks, name: str, value: Any
) -> None:
    assert await problems(webhooks.create(replace(SPEC, **{name: value}))) == [(name, ProblemCode.INVALID)]
    webhook, _ = await webhooks.create(SPEC)
    await Webhook.filter(id=webhook.id).update(**{name: value})

    older = await webhooks.update(id_of(webhook), {"name": "Older"})

    assert (older.name, getattr(older, name)) == ("Older", value)


async def test_one_of_two_updates_of_the_same_state_is_refused(database: object, webhooks: Webhooks) -> None:
    webhook, _ = await webhooks.create(SPEC)
    outcomes = await asyncio.gather(
        *(webhooks.update(id_of(webhook), {"name": name}, webhook.updated_at) for name in ("a", "b")),
        return_exceptions=True,
    )
    ((refused),) = [o for o in outcomes if isinstance(o, InputRejected)]
    assert [(p.field, p.code) for p in refused.problems] == [("expected_updated_at", ProblemCode.CONFLICT)]


@pytest.mark.parametrize(
    ("end", "statuses"),
    [("deactivate", ["CANCELLED", "PENDING", "SUCCEEDED"]), ("delete", ["CANCELLED", "CANCELLED", "SUCCEEDED"])],
)
async def test_deactivating_or_deleting_a_webhook_cancels_its_waiting_events(
    database: object, webhooks: Webhooks, end: str, statuses: list[str]
) -> None:
    webhook, _ = await webhooks.create(SPEC)
    other, _ = await webhooks.create(SPEC)
    mine = [
        await builders.event(webhook),
        await builders.event(webhook, is_test=True),
        await builders.event(webhook, status="SUCCEEDED"),
    ]
    others = await builders.event(other)
    if end == "deactivate":
        await webhooks.update(id_of(webhook), {"is_active": False})
    else:
        await webhooks.delete(id_of(webhook))
    assert [str((await Event.get(id=e.id)).status) for e in mine] == statuses
    assert (await Event.get(id=others.id)).status == "PENDING"
    logged = await LogEntry.filter(kind="EVENT_CANCELLED").order_by("id").values_list("event_id", flat=True)
    assert list(logged) == [e.id for e, status in zip(mine, statuses, strict=True) if status == "CANCELLED"]


async def test_a_deleted_webhook_stays_stored_and_cannot_be_changed(database: object, webhooks: Webhooks) -> None:
    webhook, _ = await webhooks.create(SPEC)
    await webhooks.delete(id_of(webhook))
    stored = await Webhook.get(id=webhook.id)
    assert stored.deleted_at is not None and stored.deleted_at >= webhook.created_at
    assert stored.is_active is False
    expected = [("id", ProblemCode.NOT_FOUND)]
    assert await problems(webhooks.delete(id_of(webhook))) == expected
    assert await problems(webhooks.update(id_of(webhook), {"is_active": True})) == expected
    assert await Webhook.get(id=webhook.id).values("deleted_at", "is_active", "updated_at") == {
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


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example:22/",
        "https://8.8.8.8:25/{{ item.id }}",
        "http://{{ item.name }}:110/",
        "http://hooks.example:{{ 2 | times: 11 }}/",
        "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
        "http://𝓵𝓸𝓬𝓪𝓵𝓱𝓸𝓼𝓽/{{ item.id }}",
        "http://localhost．/",
        "http://١٢٧.٠.٠.١/",
        "http://127\u20240\u20240\u20241/",
        "http://loc\u200balhost/{{ item.id }}",
        "http://{{ 'local' | append: 'host' }}/",
        "{% assign h = '127.0.0.1' %}http://{{ h }}/{{ item.id }}",
        "http{% if item.name %}s{% endif %}://10.0.0.1:{{ item.id }}/",
        "http://{{ 127 }}.{{ 1 }}/",
        "http://127.0.0.1:9000/{{ item.id }}",
    ],
)
async def test_a_target_that_no_data_can_change_is_refused(database: object, webhooks: Webhooks, url: str) -> None:
    assert set(await problems(webhooks.create(replace(SPEC, url=url)))) == {("url", ProblemCode.INVALID)}
    assert not await Webhook.exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example:6379/",
        "http://{{ item.name }}/",
        "http://{% if item.name %}127.0.0.1{% endif %}/",
        "http://127.0.0.1:8000/inbox/{{ item.id }}",
        "http://127.0.0.1:{{ item.id }}/",
        "{% assign h = 'hooks.example' %}https://{{ h }}/",
    ],
)
async def test_a_target_that_depends_on_data_or_is_allowed_is_saved(
    database: object, webhooks: Webhooks, url: str
) -> None:
    assert (await webhooks.create(replace(SPEC, url=url)))[0].url == url


async def test_an_inbox_computed_from_constants_is_allowed(database: object, webhooks: Webhooks) -> None:
    token = (await Inboxes(BOX).create(None, [InboxResponse()])).token
    url = f"http://127.0.0.1:{{{{ 8000 }}}}/inbox/{token}"
    assert (await webhooks.create(replace(SPEC, url=url)))[0].url == url


async def test_only_inbox_urls_of_this_server_are_allowed(database: object, webhooks: Webhooks) -> None:
    token = (await Inboxes(BOX).create(None, [InboxResponse()])).token
    for url in (HERE.url(token), f"http://127.0.0.1:8000/inbox/{token}?a=b"):
        assert (await webhooks.create(replace(SPEC, url=url)))[0].url == url
    for url in (
        HERE.url(token + "x"), "http://127.0.0.1:8000/graphql", f"http://127.0.0.1:8001/inbox/{token}",
        f"http://127.0.0.1:8000@127.0.0.2/inbox/{token}",
    ):  # fmt: skip
        assert await problems(webhooks.create(replace(SPEC, url=url))) == [("url", ProblemCode.INVALID)], url


async def test_an_update_checks_only_the_given_fields(database: object, webhooks: Webhooks) -> None:
    """An old webhook can be deactivated even if a rule has become stricter."""
    webhook, _ = await webhooks.create(SPEC)
    await Webhook.filter(id=webhook.id).update(
        url="http://127.0.0.1/", body_template="{{ item.fone }}", timeout_seconds=99
    )
    assert (await webhooks.update(id_of(webhook), {"is_active": False, "name": "x"})).is_active is False
    assert await problems(webhooks.update(id_of(webhook), {"url": "http://127.0.0.1/", "timeout_seconds": 99.0})) == [
        ("timeout_seconds", ProblemCode.INVALID),
        ("url", ProblemCode.INVALID),
    ]


async def test_updated_at_is_the_time_of_the_change(database: object, webhooks: Webhooks) -> None:
    started_at = await clock.now()
    webhook, _ = await webhooks.create(SPEC)
    assert webhook.created_at == webhook.updated_at
    assert started_at <= webhook.created_at <= await clock.now()
    stored = await Webhook.get(id=webhook.id)
    assert (stored.created_at, stored.updated_at) == (webhook.created_at, webhook.updated_at)


def test_headers_that_the_client_sets_are_reserved() -> None:
    assert RESERVED_HEADERS.keys() >= FRAMING_HEADERS


#: A template that is slow to check, because it renders the sample up to the limits of templates.
COSTLY = "{% for i in (1..10000) %}{{ item.name | upcase | downcase | append: i | size }}{% endfor %}"


@pytest.mark.measures_cpu
async def test_costly_templates_do_not_block_the_event_loop(database: object, webhooks: Webhooks) -> None:
    headers = tuple((f"X-{number}", COSTLY) for number in range(50))
    spec = replace(SPEC, url=f"{SPEC.url}?{COSTLY}", body_template=COSTLY, headers=headers)

    async def create() -> None:
        with suppress(InputRejected):
            await webhooks.create(spec)

    assert await share_of_allowed(create) < 1


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, ["POST requests will have an empty body. Set bodyTemplate, or sendJson: true."]),
        ({"method": HttpMethod.PUT}, ["PUT requests will have an empty body. Set bodyTemplate, or sendJson: true."]),
        ({"method": HttpMethod.DELETE}, []),
        ({"send_json": True}, []),
        ({"body_template": "{{ item.id }}"}, []),
    ],
)
async def test_an_empty_body_is_a_warning(webhooks: Webhooks, changes: dict[str, Any], warnings: list[str]) -> None:
    webhook, _ = await webhooks.create(replace(SPEC, **changes))

    assert await webhooks.find_warnings(webhook) == warnings


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    "body",
    [
        '{"name": {{ item.name | json }}}',
        "\n[{{ item.id }}]",
        "{% assign name = item.name %}\n{%- if name -%} {}{% endif %}",
        "{{ item | json }}",
    ],
)
async def test_json_without_a_content_type_is_a_warning(webhooks: Webhooks, body: str) -> None:
    warning = (
        "bodyTemplate looks like JSON, but is sent as application/x-www-form-urlencoded. "
        'Set contentType: "application/json".'
    )
    plain, _ = await webhooks.create(replace(SPEC, body_template=body))
    typed, _ = await webhooks.create(replace(SPEC, body_template=body, content_type="application/json"))

    assert await webhooks.find_warnings(plain) == [warning]
    assert await webhooks.find_warnings(typed) == []


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    "body", ["name={{ item.name }}", "{{ item.name }}[1]", "{% if item %}name={}{% endif %}", "{{ item.name }}"]
)
async def test_other_templates_are_not_taken_for_json(webhooks: Webhooks, body: str) -> None:
    webhook, _ = await webhooks.create(replace(SPEC, body_template=body))

    assert await webhooks.find_warnings(webhook) == []


@pytest.mark.usefixtures("database")
async def test_an_ignored_template_is_a_warning(webhooks: Webhooks) -> None:
    webhook, _ = await webhooks.create(replace(SPEC, send_json=True, body_template="{{ item.id }}"))

    assert await webhooks.find_warnings(webhook) == [
        "sendJson is true, so bodyTemplate is ignored. Set sendJson: false, or an empty bodyTemplate."
    ]


@pytest.mark.usefixtures("database")
async def test_an_inbox_under_another_address_is_a_warning(webhooks: Webhooks) -> None:
    token = (await Inboxes(BOX).create(None, [InboxResponse()])).token
    webhook, _ = await webhooks.create(replace(SPEC, url=HERE.url(token), send_json=True))

    moved = Webhooks(AddressPolicy(), InboxAddresses("http://127.0.0.1:8001"), BOX)

    assert await webhooks.find_warnings(webhook) == []
    assert await moved.find_warnings(webhook) == [
        "The URL is that of an inbox of this installation under another address; its inboxes are below "
        "http://127.0.0.1:8001/inbox/ now. Update the URL, or set RINGBACK_PUBLIC_URL or RINGBACK_PORT to its address."
    ]


@pytest.mark.usefixtures("database")
async def test_a_stored_webhook_that_would_be_refused_today_has_warnings(webhooks: Webhooks) -> None:
    webhook, _ = await webhooks.create(replace(SPEC, body_template="{{ item.name }}"))
    await Webhook.filter(id=webhook.id).update(
        url="https://10.0.0.1/", body_template="{{ item.gone }}", condition="item.name > 5"
    )

    warnings = await webhooks.find_warnings(await Webhook.get(id=webhook.id))

    assert len(warnings) == 3
    assert warnings[0].startswith("10.0.0.1 is a private address;")
    assert warnings[1].startswith("Unknown field item.gone.")
    assert warnings[2].startswith('The text item.name is compared with the number 5. Write "5" in quotes')
