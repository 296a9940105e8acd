"""The fast executor gives the same results as graphql-core's, errors included."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from graphql import (
    Executor,
    GraphQLObjectType,
    get_introspection_query,
    get_named_type,
    is_list_type,
    is_non_null_type,
    parse,
)
from strawberry.types.field import StrawberryField

from ringback.graphql_api.context.live_log import TailedEntry
from ringback.graphql_api.execution.fast_executor import FastExecutor
from ringback.graphql_api.fields.attribute_field import find_attribute_reader
from ringback.graphql_api.fields.loaded_field import find_loaded_field
from ringback.graphql_api.schema.build import schema
from ringback.graphql_api.schema.delivery_log import LogEntry
from ringback.graphql_api.schema.delivery_types import Event
from ringback.models import delivery_log
from ringback.models.delivery_log import Position
from ringback.models.enums import EventStatus, LogKind
from ringback.models.event import Change
from ringback.models.event import Event as EventRow
from ringback.models.ids import Prefix, encode
from tests.contract import operations
from tests.support import builders
from tests.support.api import Api, one_of_each
from tests.support.builders import attempt
from tests.support.statements import counted, table

EVERYTHING = """
query ($first: Int!, $yes: Boolean = true, $no: Boolean = false) {
  __typename
  events(first: $first) {
    __typename
    edges { cursor node { __typename key: id ...More status status2: status @include(if: $no) } }
    nodes @include(if: $yes) { ... on Node { id } model { label(locale: "ru") fields { path } } webhook { ...Hook } }
    pageInfo { hasNextPage endCursor }
  }
}
fragment More on Event { item changedFields createdAt nextAttemptAt isTest change { id events { id webhook { id } } } }
fragment Hook on Webhook { id actions headers { name } retryDelaysSeconds timeoutSeconds lastAttempt { outcome } }
"""


async def run(kind: type[Executor[Any]], api: Api, document: str, **variables: Any) -> Any:
    """Return the data and errors of a document, executed by an executor class."""
    executor = kind.build(schema._schema, parse(document), None, api.context(), variables)
    assert isinstance(executor, Executor)
    result = executor.execute_operation()
    if executor.is_awaitable(result):
        result = await result
    assert not hasattr(result, "subsequent_results")
    executed: Any = result
    return executed.data, [error.formatted for error in executed.errors or ()]


async def both(api: Api, document: str, **variables: Any) -> Any:
    """Return the result of both executors, which must be equal."""
    fast = await run(FastExecutor, api, document, **variables)
    assert fast == await run(Executor, api, document, **variables)
    return fast


async def test_results_equal_those_of_graphql_core(api: Api) -> None:
    ids = await one_of_each(api)
    await builders.event(await builders.webhook(name="other"))
    data, errors = await both(api, EVERYTHING, first=10)
    assert errors == []
    assert len(data["events"]["edges"]) == len(data["events"]["nodes"]) == 3
    assert list(data["events"]["edges"][0]["node"])[:4] == ["__typename", "key", "item", "changedFields"]
    contract: dict[str, dict[str, Any]] = {
        "Events": {"first": 10}, "Event": {"id": ids["Event"]}, "Attempts": {"first": 10}, "Webhooks": {"first": 10},
        "CustomerOrders": {"first": 10}, "Leads": {"first": 10}, "InboxRequests": {"id": ids["Inbox"], "first": 10},
        "CausalGraph": {"id": ids["Event"]}, "WebhookModels": {}, "SiteSettings": {}, "Viewer": {},
        "ApiTokens": {"first": 10}, "Node": {"id": ids["CustomerOrder"]},
    }  # fmt: skip
    for name, variables in contract.items():
        data, errors = await both(api, operations()[name], **variables)
        assert errors == [], name
        assert None not in data.values(), name


async def test_introspection_equals_that_of_graphql_core(api: Api) -> None:
    data, errors = await both(api, get_introspection_query())
    assert errors == []
    assert {kind["name"] for kind in data["__schema"]["types"]} == set(schema._schema.type_map)
    data, errors = await both(api, '{ __type(name: "Lead") { name kind } siteSettings { __typename id } }')
    assert errors == []
    assert data == {
        "__type": {"name": "Lead", "kind": "OBJECT"},
        "siteSettings": {"__typename": "SiteSettings", "id": "site_settings"},
    }


async def test_a_null_of_a_non_null_field_is_reported_with_its_path(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await builders.event(await builders.webhook())
    of = Event.of.__func__  # type: ignore[attr-defined]

    def broken(cls: Any, row: Any) -> Event:
        row.created_at = None
        event: Event = of(cls, row)
        return event

    monkeypatch.setattr(Event, "of", classmethod(broken))
    document = "query ($first: Int!) { events(first: $first) { nodes { id createdAt } } leads { nodes { id } } }"
    data, (error,) = await both(api, document, first=10)
    assert data == {"events": None, "leads": {"nodes": []}}
    assert error["message"] == "Cannot return null for non-nullable field Event.createdAt."
    assert error["path"] == ["events", "nodes", 0, "createdAt"]


async def test_a_failing_loader_nulls_the_fields_that_need_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    event = await builders.event(await builders.webhook())
    unbroken = Change.filter

    def failing(*args: Any, **conditions: Any) -> Any:
        if "id__in" in conditions:
            raise RuntimeError("away")
        return unbroken(*args, **conditions)

    monkeypatch.setattr(Change, "filter", failing)
    document = "query ($first: Int!) { events(first: $first) { nodes { id webhook { name } item change { id } } } }"
    data, errors = await both(api, document, first=10)
    assert data == {
        "events": {
            "nodes": [{"id": encode(Prefix.EVENT, event.id), "webhook": {"name": None}, "item": None, "change": None}]
        }
    }
    assert [(error["message"], error["path"]) for error in errors] == [
        ("away", ["events", "nodes", 0, "item"]), ("away", ["events", "nodes", 0, "change"]),
    ]  # fmt: skip


async def test_a_page_takes_one_statement_for_each_loader(api: Api) -> None:
    webhook = await builders.webhook()
    for _ in range(10):
        await attempt(await builders.event(webhook))
    document = (
        "query ($first: Int!) { events(first: $first) { nodes { item changedFields change { id } webhook { id } } } }"
    )
    with counted() as statements:
        await run(FastExecutor, api, document, first=10)
    assert [table(s) for s in statements] == ["ringback_event", "ringback_change", "ringback_webhook"]
    # All ten events have the same webhook.
    assert len(re.findall(r'"id" IN \((?:\?|\$1)\)', statements[-1])) == 1


async def test_executions_share_selections_unless_a_variable_decides_them(api: Api) -> None:
    await builders.event(await builders.webhook(name="Leads"))

    async def ask(text: str, **variables: Any) -> Any:
        operation = await api.engine.operation(text)
        answer = await api.engine.execute(operation, variables, api.context())
        assert not answer.errors
        assert answer.data is not None
        (event,) = answer.data["events"]["nodes"]
        return event, operation.selection_cache

    text = "query ($n: Int!) { events(first: $n) { nodes { ...E webhook { name } } } } fragment E on Event { status }"
    first, cache = await ask(text, n=1)
    compiled = dict(cache)
    again, cache = await ask(text, n=2)
    assert first == again == {"status": "PENDING", "webhook": {"name": "Leads"}}
    assert compiled
    assert {key: id(value) for key, value in cache.items()} == {key: id(value) for key, value in compiled.items()}
    text = "query ($x: Boolean!) { events(first: 1) { nodes { status @include(if: $x) webhook { name } } } }"
    assert [await ask(text, x=True), await ask(text, x=False)] == [
        (first, None),
        ({"webhook": {"name": "Leads"}}, None),
    ]


async def test_the_caches_of_a_subscription_do_not_grow(api: Api) -> None:
    event = await builders.event(await builders.webhook())
    stored = delivery_log.LogEntry(
        kind=LogKind.EVENT_RECORDED, message="recorded", at=event.created_at, webhook_id=event.webhook_id,
        event_id=event.id, model="lead",
    )  # fmt: skip
    document = parse("subscription { deliveryLog { kind event { id status } webhook { model { label } } } }")
    executor = FastExecutor.build(schema._schema, document, None, api.context())
    assert isinstance(executor, FastExecutor)
    sizes = []
    for status in (EventStatus.PENDING, EventStatus.RETRYING, EventStatus.FAILED):
        await EventRow.filter(id=event.id).update(status=status)
        entry = LogEntry.of(TailedEntry(stored, Position(uuid4(), 1, 1)))
        result: Any = await executor.build_per_event_executor(entry).execute_operation(False)  # type: ignore[misc]
        assert result.errors is None
        assert result.data["deliveryLog"] == {
            "kind": "EVENT_RECORDED", "event": {"id": encode(Prefix.EVENT, event.id), "status": status.value},
            "webhook": {"model": {"label": "Lead: callback request"}},
        }  # fmt: skip
        sizes.append((len(executor._relevant_sub_fields), len(executor.selections._selections)))
    assert sizes[0] == sizes[2]


def fields() -> Iterator[tuple[str, Any, StrawberryField]]:
    for kind in schema._schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                yield f"{kind.name}.{name}", field.type, field.extensions["strawberry-definition"]


def test_no_resolver_returns_a_list_of_objects_with_loaded_fields() -> None:
    """Each object would load for itself; such a field must be a loaded field, an attribute or a connection."""
    with_loaded_fields = {name.partition(".")[0] for name, _, field in fields() if find_loaded_field(field)}
    assert {"Event", "Attempt", "Change", "Webhook", "CustomerOrder", "LogEntry", "InboxRequest"} == with_loaded_fields
    for name, kind, field in fields():
        inner = kind.of_type if is_non_null_type(kind) else kind
        if is_list_type(inner) and get_named_type(inner).name in with_loaded_fields:
            assert find_loaded_field(field) or find_attribute_reader(field) or field.is_basic_field, name
