"""A plan must be what its webhook says, hold nothing that differs from event to event, and end with its webhook."""

import gc

import pytest

from ringback.jobs.request_plan import OWN_HEADERS, USER_AGENT, RequestPlan, RequestPlans
from tests.support.unsaved import webhook


def test_all_that_is_the_same_each_time_is_planned() -> None:
    plan = RequestPlan(
        webhook(url=" https://hooks.example/in ", headers=[["A", " {1} "]], body_template="{{ item.id }}")
    )
    assert plan.template is not None
    assert (plan.template.method, str(plan.template.url), plan.has_body) == ("POST", "https://hooks.example/in", True)
    assert plan.template.same == (
        ("User-Agent", USER_AGENT),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("A", "{1}"),
    )
    assert plan.template.names == OWN_HEADERS


@pytest.mark.parametrize("value", ["{{ item.id }}", "{% if %}", "a\nb"])
def test_liquid_and_faults_are_left_to_each_event(value: str) -> None:
    assert RequestPlan(webhook(headers=[["A", value]])).template is None
    plan = RequestPlan(webhook(url=f"https://hooks.example/{value}"))
    assert (plan.url, plan.template) == (None, None)


def test_a_plan_is_made_once_and_kept_as_long_as_its_webhook() -> None:
    plans = RequestPlans()
    one, other = webhook(), webhook(url="https://hooks.example/2")
    other.id = one.id
    assert plans.of(one) is plans.of(one)
    assert str(plans.of(other).url) == "https://hooks.example/2"
    assert len(plans._kept) == 2
    del one
    gc.collect()
    assert len(plans._kept) == 1
    assert str(plans.of(other).url) == "https://hooks.example/2"
