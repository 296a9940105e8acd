"""Outcomes: their names, and the success policy that tells Delivered from Rejected."""

from collections.abc import Callable
from typing import get_args

import pytest

from ringback.jobs.outcomes import (
    Abandoned,
    BadResponse,
    Blocked,
    Delivered,
    HttpResponse,
    Outcome,
    Rejected,
    RenderFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
    judge,
)

OK = HttpResponse(200)


def only_200(status: int) -> bool:
    return status == 200


def any_2xx(status: int) -> bool:
    return 200 <= status <= 299


@pytest.mark.parametrize(
    ("outcome", "name", "error", "answer"),
    [
        (Delivered(OK), "DELIVERED", None, OK),
        (Rejected(OK, "why"), "REJECTED", "why", OK),
        (TimedOut("why"), "TIMED_OUT", "why", None),
        (TimedOut("why", OK), "TIMED_OUT", "why", OK),
        (Unreachable("why"), "UNREACHABLE", "why", None),
        (TlsFailed("why"), "TLS_FAILED", "why", None),
        (Blocked("why"), "BLOCKED", "why", None),
        (BadResponse("why"), "BAD_RESPONSE", "why", None),
        (BadResponse("why", OK), "BAD_RESPONSE", "why", OK),
        (RenderFailed("why"), "RENDER_FAILED", "why", None),
        (
            Abandoned(),
            "ABANDONED",
            "The worker stopped before it recorded how this attempt ended; the endpoint may have received it.",
            None,
        ),
    ],
)
def test_every_outcome_has_a_name_an_error_and_a_response(
    outcome: Outcome, name: str, error: str | None, answer: HttpResponse | None
) -> None:
    assert (outcome.name, outcome.error, outcome.response) == (name, error, answer)


def test_the_names_are_all_different() -> None:
    kinds = get_args(Outcome)
    assert len(kinds) == 9
    assert len({kind.name for kind in kinds}) == 9


@pytest.mark.parametrize(("status", "accepts"), [(200, only_200), (200, any_2xx), (204, any_2xx), (299, any_2xx)])
def test_a_status_that_the_policy_accepts_is_delivered(status: int, accepts: Callable[[int], bool]) -> None:
    answer = HttpResponse(status, (("X", "y"),), b"body", body_truncated=True)
    assert judge(answer, accepts) == Delivered(answer)


@pytest.mark.parametrize(
    ("status", "accepts", "error"),
    [
        (201, only_200, "The endpoint answered 201; only 200 counts as success."),
        (302, only_200, "The endpoint answered 302; only 200 counts as success, and redirects are not followed."),
        (500, only_200, "The endpoint answered 500; only 200 counts as success."),
        (199, any_2xx, "The endpoint answered 199; only a 2xx status counts as success."),
        (
            308,
            any_2xx,
            "The endpoint answered 308; only a 2xx status counts as success, and redirects are not followed.",
        ),
    ],
)
def test_any_other_status_is_rejected_and_the_error_names_the_policy(
    status: int, accepts: Callable[[int], bool], error: str
) -> None:
    assert judge(HttpResponse(status), accepts) == Rejected(HttpResponse(status), error)


@pytest.mark.parametrize("kind", [Unreachable, TlsFailed, Blocked, RenderFailed])
def test_outcomes_without_a_response_accept_none(kind: Callable[..., Outcome]) -> None:
    with pytest.raises(TypeError):
        kind("why", OK)


@pytest.mark.parametrize("kind", get_args(Outcome))
def test_outcomes_hold_nothing_else(kind: type[Outcome]) -> None:
    assert not hasattr(object.__new__(kind), "__dict__")
