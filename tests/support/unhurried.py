"""Hypothesis without its bounds on time, which a busy machine would break."""

from hypothesis import HealthCheck, settings

#: A decorator for tests that have `@given`.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
