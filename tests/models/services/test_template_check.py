"""Webhooks whose templates would be refused today are found, and logged at the start."""

import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from ringback.models.ids import Prefix, encode
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.services import template_check, webhook_models
from ringback.models.services.declared_models import declare_model
from ringback.models.services.inboxes import Inboxes, InboxResponse
from ringback.models.services.template_check import MAX_LOGGED, PAGE, find_refused_templates, log_refused_templates
from ringback.models.services.url_check import UrlCheck
from ringback.models.webhook import Webhook
from tests.support import builders

URL_CHECK = UrlCheck(AddressPolicy(), InboxAddresses("http://127.0.0.1:8000"))


@pytest.fixture
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_check, "PAUSE_SECONDS", 0)


async def find() -> list[tuple[str | None, str, tuple[str, ...]]]:
    """Return name, place and problems of each refused template, the problems without line and column."""
    return [
        (
            refused.webhook.name,
            refused.place,
            tuple(re.split(r"\. Did| \(line", problem)[0] for problem in refused.problems),
        )
        async for refused in find_refused_templates(URL_CHECK)
    ]


@pytest.mark.every_database
async def test_each_place_of_a_webhook_is_checked(database: object) -> None:
    await builders.webhook(
        name="all",
        url="https://hooks.example/{{ item.number }}",
        headers=[["X-Name", "{{ item.name }}"], ["X-City", "{{ item.city }}"]],
        body_template="{{ item.phone }} {{ item.zip }} {{ item.street }} {{ item.zip }}",
        condition="item.is_new and item.name",
    )

    assert await find() == [
        ("all", "url", ("Unknown field item.number",)),
        ("all", "headers[1].value", ("Unknown field item.city",)),
        ("all", "bodyTemplate", ("Unknown field item.zip", "Unknown field item.street")),
        ("all", "condition", ("Unknown field item.is_new",)),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"body_template": "{{ item.name }} {{ event.id }}", "condition": "item.status == 'NEW'"},
        {"body_template": "item.zip"},
        {"body_template": "{{ item.zip }}", "send_json": True},
        {"body_template": "{{ item.zip }}", "is_active": False},
        {"body_template": "{{ item.zip }}", "model": "no_model_of_this_code"},
    ],
)
async def test_other_webhooks_are_not_reported(database: object, fields: dict[str, Any]) -> None:
    await builders.webhook(**fields)

    assert await find() == []


async def test_a_comparison_of_number_and_text_is_reported(database: object) -> None:
    await builders.webhook(name="order", model="customer_order", condition="item.total > 'abc'")

    ((name, place, problems),) = await find()

    assert (name, place) == ("order", "condition")
    assert problems[0].startswith("The number item.total is compared with the text")


@pytest.mark.every_database
async def test_templates_for_declared_models_are_checked(database: object) -> None:
    price = {"type": "string", "format": "decimal"}
    await declare_model("part", "Part", None, {"type": "object", "properties": {"price": price}}, {"price": "1.00"})
    await builders.webhook(name="part", model="part", condition="item.price > '100'", body_template="{{ item.zip }}")

    assert await find() == [
        ("part", "bodyTemplate", ("Unknown field item.zip",)),
        ("part", "condition", ('The number item.price is compared with the text "100". Write 100 without quotes',)),
    ]


@pytest.mark.parametrize("model", ["lead", "declared_over_the_api"])
async def test_a_charset_that_is_unknown_is_reported(database: object, model: str) -> None:
    await builders.webhook(name="known", model=model, content_type="text/plain; charset=windows-1251")
    await builders.webhook(name="unknown", model=model, content_type="text/plain; charset=windows-1215")

    ((name, place, problems),) = await find()

    assert (name, place) == ("unknown", "contentType")
    assert problems[0].startswith("contentType names the charset 'windows-1215', which is unknown.")


async def test_a_deleted_webhook_is_not_reported(database: object) -> None:
    webhook = await builders.webhook(body_template="{{ item.zip }}")
    await Webhook.filter(id=webhook.id).update(deleted_at=webhook.created_at)

    assert await find() == []


async def test_models_are_told_apart(database: object) -> None:
    await builders.webhook(name="lead", body_template="{{ item.phone }}")
    await builders.webhook(name="order", model="customer_order", body_template="{{ item.phone }}")

    assert await find() == [("order", "bodyTemplate", ("Unknown field item.phone",))]


@pytest.mark.parametrize("model", ["lead", "declared_over_the_api"])
@pytest.mark.parametrize("url", ["https://hooks.example:22/", "https://{{ 'hooks' }}.example:{{ 11 | times: 2 }}/"])
async def test_a_port_that_is_not_allowed_is_reported(database: object, model: str, url: str) -> None:
    await builders.webhook(name="ssh", model=model, url=url)

    ((name, place, problems),) = await find()

    assert (name, place) == ("ssh", "url")
    assert problems[0].startswith("Port 22 is not allowed; deliveries reach the ports 80, 443, 1024-65535 only.")


async def test_an_inbox_under_another_address_is_reported_as_such(database: object) -> None:
    token = (await Inboxes(builders.BOX).create(None, [InboxResponse()])).token
    await builders.webhook(name="moved", url=f"http://127.0.0.1:8001/inbox/{token}")

    ((name, place, (problem,)),) = await find()

    assert (name, place) == ("moved", "url")
    assert problem.startswith("The URL is that of an inbox of this installation under another address;")


async def test_an_inbox_is_not_reported(database: object) -> None:
    await builders.webhook(url="http://127.0.0.1:8000/inbox/{{ item.name }}")

    assert await find() == []


async def test_equal_templates_are_parsed_once(database: object) -> None:
    first = await builders.webhook(body_template="{{ item.zip }}")
    second = await builders.webhook(body_template="{{ item.zip }}", headers=[["X-Zip", "{{ item.zip }}"]])
    checker = template_check._Checker()
    lead = webhook_models.find_tracked("lead")
    assert lead is not None

    refused = []
    for webhook in (first, second):
        refused += checker.check(webhook, lead, template_check._list_liquid(webhook))

    assert [each.place for each in refused] == ["bodyTemplate", "headers[0].value", "bodyTemplate"]
    assert len(checker._problems) == 1


@pytest.mark.usefixtures("_no_pause")
async def test_all_pages_are_checked(database: object) -> None:
    for number in range(PAGE + 1):
        await builders.webhook(name=str(number), body_template="{{ item.zip }}")

    assert [name for name, _, _ in await find()] == [str(number) for number in range(PAGE + 1)]


async def test_a_warning_names_webhook_place_and_fields(database: object) -> None:
    webhook = await builders.webhook(name="New leads", body_template="{{ item.zip }}")

    with capture_logs() as lines:
        await log_refused_templates(URL_CHECK)

    assert lines == [
        {
            "event": "a URL, content type or template would be refused today: change the webhook or its model",
            "log_level": "warning",
            "action": "check_webhooks",
            "webhook_id": encode(Prefix.WEBHOOK, webhook.id),
            "webhook": "New leads",
            "model": "lead",
            "place": "bodyTemplate",
            "problems": ["Unknown field item.zip (line 1, column 4)"],
        }
    ]


@pytest.mark.usefixtures("_no_pause")
async def test_the_number_of_warnings_is_limited(database: object) -> None:
    for _ in range(MAX_LOGGED + 2):
        await builders.webhook(body_template="{{ item.zip }}")

    with capture_logs() as lines:
        await log_refused_templates(URL_CHECK)

    assert len(lines) == MAX_LOGGED + 1
    assert lines[-1]["event"] == "more URLs, content types and templates would be refused today"
    assert lines[-1]["more"] == 2


async def test_a_failing_database_is_logged(database: object) -> None:
    await Webhook.raw("DROP TABLE ringback_webhook")

    with capture_logs() as lines:
        await log_refused_templates(URL_CHECK)

    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("cannot check the templates of webhooks", "warning")
    ]
