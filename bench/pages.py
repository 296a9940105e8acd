"""The time of the newest page of events and of attempts, for each filter, on a filled database.

Pages are requested over HTTP, one after the other, with all fields that the contract selects, and each node must match
its filter. Every filter is measured with many values; the result is the 95th percentile of the slowest filter. Then
every other combination of the contract's conditions is measured, with values that are frequent, rare, or exclude each
other; the result is the slowest.
"""

import datetime as dt
import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from bench import history
from bench.client import Client
from bench.figures import Figure, Group, Measured, Scale, format_count, percentile
from bench.installation import Bench, Installation
from bench.load import WrongResult
from ringback.models.ids import Prefix, encode
from tests.contract import operations

#: Values per filter and round. With much fewer, the 95th percentile would be the maximum.
VALUES = 40
#: Values per filter on scales below MIN_SCALE, which only test the benchmark.
FEW_VALUES = 10
MIN_SCALE = 0.1
#: Values that warm the program up and do not count.
WARM_UP = 3
#: Slowest combinations reported per round.
SLOWEST = 3

Filter = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FilterValues:
    """Values to filter by: webhooks from the busiest to the quietest, objects, and events with three attempts."""

    webhooks: Sequence[str]
    objects: Sequence[str]
    events: Sequence[str]
    first_created_at: dt.datetime
    last_created_at: dt.datetime

    def timestamp(self, share: float) -> str:
        """Return a time between the first event (0) and the last one (1)."""
        return (self.first_created_at + (self.last_created_at - self.first_created_at) * share).isoformat()


def read_filter_values(installation: Installation) -> FilterValues:
    """Read values to filter by from the database."""
    busiest = "SELECT webhook_id FROM ringback_event GROUP BY 1 ORDER BY count(*) DESC"
    objects = "SELECT DISTINCT object_id FROM ringback_event WHERE next_attempt_at IS NULL LIMIT 200"
    events = "SELECT event_id FROM ringback_attempt WHERE number = 3 LIMIT 200"
    ((first, last),) = installation.fetch("SELECT min(created_at), max(created_at) FROM ringback_event")
    return FilterValues(
        webhooks=[encode(Prefix.WEBHOOK, row[0]) for row in installation.fetch(busiest)],
        objects=[row[0] for row in installation.fetch(objects)],
        events=[encode(Prefix.EVENT, row[0]) for row in installation.fetch(events)],
        first_created_at=first,
        last_created_at=last,
    )


def event_filters(values: FilterValues, choices: random.Random) -> dict[str, Filter]:
    """Return the filters of the promise for events, with random values."""
    webhook, status = (
        choices.choice(values.webhooks),
        choices.choice(["PENDING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED"]),
    )
    after, before = sorted(choices.sample(range(1_000), 2))
    period = {"createdAfter": values.timestamp(after / 1_000), "createdBefore": values.timestamp(before / 1_000)}
    return {
        "all": {},
        "webhook": {"webhookIds": [webhook]},
        "status": {"statuses": [status]},
        "object": {"objectId": choices.choice(values.objects)},
        "time": period,
        "webhook, status, time": {"webhookIds": [webhook], "statuses": [status], **period},
    }


def attempt_filters(values: FilterValues, choices: random.Random) -> dict[str, Filter]:
    """Return the filters of the promise for attempts, with random values."""
    webhook, code = choices.choice(values.webhooks), choices.choice([200, 410, 500])
    outcome = choices.choice(["DELIVERED", "REJECTED", "TIMED_OUT", "UNREACHABLE", "BLOCKED"])
    after, before = sorted(choices.sample(range(1_000), 2))
    period = {"startedAfter": values.timestamp(after / 1_000), "startedBefore": values.timestamp(before / 1_000)}
    return {
        "all": {},
        "webhook": {"webhookIds": [webhook]},
        "status": {"statusCode": code},
        "outcome": {"outcomes": [outcome]},
        "object": {"eventIds": [choices.choice(values.events)]},
        "time": period,
        "webhook, status, time": {"webhookIds": [webhook], "statusCode": code, **period},
        "webhook, outcome, time": {"webhookIds": [webhook], "outcomes": [outcome], **period},
    }


def all_conditions(values: FilterValues) -> dict[str, Sequence[Filter]]:
    """Return every condition of the contract, each with a frequent and a rare value."""
    busy, quiet, early, late = values.webhooks[0], values.webhooks[-1], values.timestamp(0.001), values.timestamp(0.9)
    return {
        "events": [
            {"webhookIds": ([busy], [quiet])},
            {"models": (["lead"], ["customer_order"])},
            {"actions": (["UPDATED"], ["DELETED"])},
            {"statuses": (["SUCCEEDED"], ["CANCELLED"])},
            {"objectId": (values.objects[0], "lead_unknown")},
            {"createdAfter": (early, late)},
            {"createdBefore": (late, early)},
            {"isTest": (False, True)},
        ],
        "attempts": [
            {"webhookIds": ([busy], [quiet])},
            {"eventIds": (list(values.events[:100]), [values.events[0]])},
            {"outcomes": (["DELIVERED"], ["BLOCKED"])},
            {"statusCode": (200, 410)},
            {"startedAfter": (early, late)},
            {"startedBefore": (late, early)},
        ],
    }


def combinations(conditions: Sequence[Filter]) -> Iterator[Filter]:
    """Yield every combination of conditions with frequent, rare, and alternating values. Empty periods are skipped."""
    for selectors in itertools.product((False, True), repeat=len(conditions)):
        selected = list(itertools.compress(conditions, selectors))
        for forms in ((0, 0), (1, 1), (0, 1)):
            combination = {}
            for number, condition in enumerate(selected):
                ((name, values),) = condition.items()
                combination[name] = values[forms[number % 2]]
            if not _is_empty_period(combination):
                yield combination


def _is_empty_period(combination: Filter) -> bool:
    after = combination.get("createdAfter", combination.get("startedAfter", ""))
    before = combination.get("createdBefore", combination.get("startedBefore", "~"))
    return bool(after >= before)


FIELDS = {
    "webhookIds": lambda node: node["webhook"]["id"], "models": lambda node: node["model"]["name"],
    "actions": lambda node: node["action"], "statuses": lambda node: node["status"],
    "objectId": lambda node: node["objectId"], "isTest": lambda node: node["isTest"],
    "eventIds": lambda node: node["event"]["id"], "outcomes": lambda node: node["outcome"],
    "statusCode": lambda node: node["statusCode"],
}  # fmt: skip


def meets(node: Mapping[str, Any], filter: Filter) -> bool:
    """Return whether a node matches a filter."""
    at = node.get("createdAt") or node.get("startedAt") or ""
    for name, expected in filter.items():
        if name.endswith("After"):
            matches = at > expected.replace("+00:00", "")
        elif name.endswith("Before"):
            matches = at < expected.replace("+00:00", "")
        elif name == "webhookIds" and "webhook" not in node:
            matches = True  # attempts are selected without their webhook
        else:
            allowed = expected if isinstance(expected, list) else [expected]
            matches = FIELDS[name](node) in allowed
        if not matches:
            return False
    return True


def measure_page(client: Client, field: str, filter: Filter) -> float:
    """Return the time of a page in milliseconds. Raises WrongResult if a node does not match the filter."""
    document = operations()[field.capitalize()]
    started_at = time.perf_counter()
    data = client.query(document, {"filter": filter})
    milliseconds = (time.perf_counter() - started_at) * 1000
    for node in data[field]["nodes"]:
        if not meets(node, filter):
            raise WrongResult(f"{field} filtered by {filter} returned {node}")
    return milliseconds


def _measure_pages(bench: Bench, scale: Scale) -> Measured:
    filled = history.open_filled(bench, scale)
    results: dict[str, list[float]] = {"events": [], "attempts": [], "combinations": []}
    parts: dict[str, list[float]] = {}
    values = read_filter_values(filled)
    values_per_filter = VALUES if scale.factor >= MIN_SCALE else FEW_VALUES
    with filled.api() as api, Client(api) as client:
        for number in range(scale.rounds):
            choices = random.Random(number)  # noqa: S311 - filter values are not secret
            for field, random_filters in (("events", event_filters), ("attempts", attempt_filters)):
                filters = [random_filters(values, choices) for _ in range(WARM_UP + values_per_filter)]
                p95_by_filter = _measure_filters(client, field, filters)
                for name, p95 in p95_by_filter.items():
                    parts.setdefault(f"{field} by {name}, p95 ms", []).append(p95)
                results[field].append(max(p95_by_filter.values()))
            seconds_by_combination = _measure_combinations(client, values)
            results["combinations"].append(max(seconds_by_combination.values()))
            slowest = sorted(seconds_by_combination.items(), key=itemgetter(1))[-SLOWEST:]
            for name, seconds in slowest:
                parts.setdefault(name, []).append(seconds)
    size = f"{history.describe_size(scale)}, {values_per_filter} values each, {format_count(scale.rounds, 'time')}"
    return Measured(size, results, parts)


def _measure_filters(client: Client, field: str, filters: Sequence[Mapping[str, Filter]]) -> dict[str, float]:
    """Return the 95th percentile in milliseconds for each filter, by its name."""
    p95_by_filter = {}
    for name in filters[0]:
        times = [measure_page(client, field, by_name[name]) for by_name in filters]
        p95_by_filter[name] = percentile(times[WARM_UP:], 95)
    return p95_by_filter


def _measure_combinations(client: Client, values: FilterValues) -> dict[str, float]:
    """Return the time in seconds of every combination of conditions, by its description."""
    seconds = {}
    for field, conditions in all_conditions(values).items():
        for combination in combinations(conditions):
            name = f"{field} by {json.dumps(combination)}, s"
            seconds[name] = measure_page(client, field, combination) / 1000
    return seconds


GROUPS = (
    Group(
        "pages",
        [
            Figure("events", "newest page of events by the slowest filter, p95", "ms", 20, 5, at_most=True),
            Figure("attempts", "newest page of attempts by the slowest filter, p95", "ms", 20, 5, at_most=True),
            Figure("combinations", "the slowest other combination of filters", "s", 1, at_most=True),
        ],
        _measure_pages,
    ),
)
