"""How long the newest page of events and of attempts takes, by each filter, on a database with a past.

Pages are asked for over HTTP, one after the other, with all that the contract selects, and each node must meet its
filter. Every filter is asked with many values, and what counts is the slowest filter's 95th percentile. Then every
other combination of the contract's conditions is asked, with values that are frequent, rare, or exclude each other: the
slowest of them counts.
"""

import datetime as dt
import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import history
from bench.client import Client
from bench.figures import Figure, Group, Measured, Scale, counted, percentile
from bench.installation import Bench, Installation
from bench.load import Wrong
from ringback.models.ids import Prefix, encode
from tests.contract import operations

#: Values that each filter is asked with in a round, and before, so that the program is warm. Of few values the 95th
#: percentile would be the slowest: so few are asked only where no figure is meant.
VALUES, FEW_VALUES, WARM_UP = 40, 10, 3
#: The scale from which on a figure is meant.
MEANT = 0.1
#: So many of the slowest combinations are told, in each round.
SLOWEST = 3

Filter = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What can be asked for: webhooks from the busiest to the quietest, objects, events that were tried three times."""

    webhooks: Sequence[str]
    objects: Sequence[str]
    events: Sequence[str]
    begin: dt.datetime
    end: dt.datetime

    def moment(self, share: float) -> str:
        """A moment between the first event and the last one."""
        return (self.begin + (self.end - self.begin) * share).isoformat()


def known(installation: Installation) -> Known:
    """Look into the database."""
    busiest = "SELECT webhook_id FROM ringback_event GROUP BY 1 ORDER BY count(*) DESC"
    objects = "SELECT DISTINCT object_id FROM ringback_event WHERE next_attempt_at IS NULL LIMIT 200"
    events = "SELECT event_id FROM ringback_attempt WHERE number = 3 LIMIT 200"
    ((begin, end),) = installation.fetch("SELECT min(created_at), max(created_at) FROM ringback_event")
    return Known(
        [encode(Prefix.WEBHOOK, row[0]) for row in installation.fetch(busiest)],
        [row[0] for row in installation.fetch(objects)],
        [encode(Prefix.EVENT, row[0]) for row in installation.fetch(events)],
        begin,
        end,
    )


def event_filters(of: Known, lot: random.Random) -> dict[str, Filter]:
    """Each filter that is promised to be quick, with a value by lot."""
    webhook, status = lot.choice(of.webhooks), lot.choice(["PENDING", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED"])
    after, before = sorted(lot.sample(range(1_000), 2))
    period = {"createdAfter": of.moment(after / 1_000), "createdBefore": of.moment(before / 1_000)}
    return {
        "all": {},
        "webhook": {"webhookIds": [webhook]},
        "status": {"statuses": [status]},
        "object": {"objectId": lot.choice(of.objects)},
        "time": period,
        "webhook, status, time": {"webhookIds": [webhook], "statuses": [status], **period},
    }


def attempt_filters(of: Known, lot: random.Random) -> dict[str, Filter]:
    """The same of attempts; an answer's status is one of theirs, and an event is their object."""
    webhook, code = lot.choice(of.webhooks), lot.choice([200, 410, 500])
    outcome = lot.choice(["DELIVERED", "REJECTED", "TIMED_OUT", "UNREACHABLE", "BLOCKED"])
    after, before = sorted(lot.sample(range(1_000), 2))
    period = {"startedAfter": of.moment(after / 1_000), "startedBefore": of.moment(before / 1_000)}
    return {
        "all": {},
        "webhook": {"webhookIds": [webhook]},
        "status": {"statusCode": code},
        "outcome": {"outcomes": [outcome]},
        "object": {"eventIds": [lot.choice(of.events)]},
        "time": period,
        "webhook, status, time": {"webhookIds": [webhook], "statusCode": code, **period},
        "webhook, outcome, time": {"webhookIds": [webhook], "outcomes": [outcome], **period},
    }


def all_conditions(of: Known) -> dict[str, Sequence[Filter]]:
    """Every condition of the contract, in its frequent and in its rare form."""
    busy, quiet, early, late = of.webhooks[0], of.webhooks[-1], of.moment(0.001), of.moment(0.9)
    return {
        "events": [
            {"webhookIds": ([busy], [quiet])},
            {"models": (["lead"], ["customer_order"])},
            {"actions": (["UPDATED"], ["DELETED"])},
            {"statuses": (["SUCCEEDED"], ["CANCELLED"])},
            {"objectId": (of.objects[0], "lead_unknown")},
            {"createdAfter": (early, late)},
            {"createdBefore": (late, early)},
            {"isTest": (False, True)},
        ],
        "attempts": [
            {"webhookIds": ([busy], [quiet])},
            {"eventIds": (list(of.events[:100]), [of.events[0]])},
            {"outcomes": (["DELIVERED"], ["BLOCKED"])},
            {"statusCode": (200, 410)},
            {"startedAfter": (early, late)},
            {"startedBefore": (late, early)},
        ],
    }


def combinations(conditions: Sequence[Filter]) -> Iterator[Filter]:
    """Every combination of conditions, frequent, rare, and both in turns, but for periods that have no length."""
    for chosen in itertools.product((False, True), repeat=len(conditions)):
        parts = [condition for condition, wanted in zip(conditions, chosen, strict=True) if wanted]
        for forms in ({0}, {1}, {0, 1}):
            found = {
                name: values[(number if len(forms) == 2 else min(forms)) % 2]
                for number, part in enumerate(parts)
                for name, values in part.items()
            }
            begin = next((found[name] for name in ("createdAfter", "startedAfter") if name in found), "")
            end = next((found[name] for name in ("createdBefore", "startedBefore") if name in found), "~")
            if begin < end:
                yield found


FIELDS = {
    "webhookIds": lambda node: node["webhook"]["id"], "models": lambda node: node["model"]["name"],
    "actions": lambda node: node["action"], "statuses": lambda node: node["status"],
    "objectId": lambda node: node["objectId"], "isTest": lambda node: node["isTest"],
    "eventIds": lambda node: node["event"]["id"], "outcomes": lambda node: node["outcome"],
    "statusCode": lambda node: node["statusCode"],
}  # fmt: skip


def meets(node: Mapping[str, Any], filter: Filter) -> bool:
    """Whether a node of the answer is one that was asked for."""
    at = node.get("createdAt") or node.get("startedAt") or ""
    for name, wanted in filter.items():
        if name.endswith(("After", "Before")):
            moment = wanted.replace("+00:00", "")
            if not (at > moment if name.endswith("After") else at < moment):
                return False
        elif name == "webhookIds" and "webhook" not in node:
            continue  # an attempt tells its event only
        elif FIELDS[name](node) not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def taken(client: Client, what: str, filter: Filter) -> float:
    """Milliseconds for a page; raises Wrong when a node is not one that was asked for."""
    document = operations()[what.capitalize()]
    began = time.perf_counter()
    answer = client.query(document, {"filter": filter})
    milliseconds = (time.perf_counter() - began) * 1000
    for node in answer[what]["nodes"]:
        if not meets(node, filter):
            raise Wrong(f"{what} by {filter}: {node}")
    return milliseconds


def _pages(bench: Bench, scale: Scale) -> Measured:
    filled = history.filled(bench, scale)
    values: dict[str, list[float]] = {"events": [], "attempts": [], "combinations": []}
    parts: dict[str, list[float]] = {}
    of, asks = known(filled), VALUES if scale.factor >= MEANT else FEW_VALUES
    with filled.api() as api, Client(api) as client:
        for number in range(scale.rounds):
            lot = random.Random(number)  # noqa: S311 - what is asked for is no secret
            for what, filters in (("events", event_filters), ("attempts", attempt_filters)):
                asked = [filters(of, lot) for _ in range(WARM_UP + asks)]
                for name in asked[0]:
                    times = [taken(client, what, one[name]) for one in asked][WARM_UP:]
                    parts.setdefault(f"{what} by {name}, p95 ms", []).append(percentile(times, 95))
                values[what].append(max(p95[-1] for name, p95 in parts.items() if name.startswith(what)))
            others = {
                f"{what} by {json.dumps(combination)}, s": taken(client, what, combination) / 1000
                for what, conditions in all_conditions(of).items()
                for combination in combinations(conditions)
            }
            values["combinations"].append(max(others.values()))
            for name in sorted(others, key=lambda name: others[name])[-SLOWEST:]:
                parts.setdefault(name, []).append(others[name])
    return Measured(f"{history.size(scale)}, {asks} values each, {counted(scale.rounds, 'time')}", values, parts)


GROUPS = (
    Group(
        "pages",
        [
            Figure("events", "newest page of events by the slowest filter, p95", "ms", 20, 5, at_most=True),
            Figure("attempts", "newest page of attempts by the slowest filter, p95", "ms", 20, 5, at_most=True),
            Figure("combinations", "the slowest other combination of filters", "s", 1, at_most=True),
        ],
        _pages,
    ),
)
