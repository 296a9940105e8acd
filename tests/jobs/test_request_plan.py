"""Request plans: they hold the fixed parts of a webhook's requests, and are forgotten with the webhook."""

import gc
from typing import Any

import pytest

from ringback.jobs.request_plan import ATTEMPT_HEADERS, USER_AGENT, RequestPlan, RequestPlans
from tests.support.unsaved import webhook


def test_a_plan_holds_all_parts_that_are_fixed() -> None:
    plan = RequestPlan(
        webhook(url=" https://hooks.example/in ", headers=[["A", " {1} "]], body_template="{{ item.id }}")
    )
    assert plan.template is not None
    assert (plan.template.method, plan.template.target.text, plan.has_body) == (
        "POST",
        "https://hooks.example/in",
        True,
    )
    assert plan.template.fixed_headers == (
        ("User-Agent", USER_AGENT),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("A", "{1}"),
    )
    assert plan.template.variable_names == ATTEMPT_HEADERS


@pytest.mark.parametrize("value", ["{{ item.id }}", "{% if %}", "a\nb"])
def test_liquid_and_faults_are_not_planned(value: str) -> None:
    assert RequestPlan(webhook(headers=[["A", value]])).template is None
    plan = RequestPlan(webhook(url=f"https://hooks.example/{value}"))
    assert (plan.target, plan.template) == (None, None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"send_json": True}, True),
        ({"send_json": True, "headers": [["A", "1"]]}, True),
        ({"body_template": "text"}, False),
        ({"send_json": True, "condition": "item.id"}, False),
        ({"send_json": True, "headers": [["A", "{{ item.id }}"]]}, False),
        ({"send_json": True, "url": "https://hooks.example/{{ item.id }}"}, False),
        ({"send_json": True, "content_type": "application/json; charset=windows-1251"}, False),
    ],
)
def test_a_plan_says_whether_requests_differ_only_in_the_item(fields: dict[str, Any], expected: bool) -> None:
    made = webhook(**fields)
    plans = RequestPlans()
    assert plans.find(made) is None
    plan = plans.get(made)
    assert plan.item_template is (plan.template if expected else None)
    assert plan.template is not None or not expected
    assert plans.find(made) is plan


def test_a_plan_is_made_once_and_cached_until_its_webhook_is_collected() -> None:
    plans = RequestPlans()
    first, second = webhook(), webhook(url="https://hooks.example/2")
    second.id = first.id
    assert plans.get(first) is plans.get(first)
    plan = plans.get(second)
    assert plan.target is not None
    assert plan.target.text == "https://hooks.example/2"
    assert len(plans._plans) == 2
    del first
    gc.collect()
    assert len(plans._plans) == 1
    assert plans.get(second) is plan
