"""A garage: tracked models of your own, for Ringback to watch.

    PYTHONPATH=examples RINGBACK_MODELS=garage ringback serve

Webhooks can then watch `car`. Every program that writes these models with Tortoise fires them: your own program that
opens the same database (see `embedded_app.py`), or a script such as `visit.py` beside this file.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tortoise import fields

from ringback.models import Child, Computed, Tracked, TrackedChild, Tracking


def spent(car: Mapping[str, Any]) -> str:
    """Return the total price of a car's visits. The argument is the snapshot, in which decimals are strings."""
    return f"{sum((Decimal(visit['price']) for visit in car['visits']), Decimal(0)):.2f}"


class Car(Tracked):
    """A car that the garage maintains."""

    id = fields.IntField(primary_key=True)
    plate = fields.CharField(max_length=16, unique=True, description="The number plate.")
    mileage = fields.IntField(default=0, description="Kilometres on the clock.")
    sold_at = fields.DatetimeField(null=True, description="When it was sold, null while it is ours.")
    owner_phone = fields.CharField(max_length=64, null=True, description="No receiver needs to know it.")

    visits: fields.ReverseRelation["Visit"]

    tracking = Tracking(
        name="car",
        labels={"en": "Car", "de": "Auto"},
        description="A car with its visits to our garage.",
        exclude=frozenset({"owner_phone"}),
        children={"visits": Child(exclude=frozenset({"id"}))},
        computed={"spent": Computed(spent, "decimal", "The price of all visits.")},
    )

    class Meta:
        app = "garage"


class Visit(TrackedChild):
    """A visit to our garage; saving one is an update of its car."""

    id = fields.IntField(primary_key=True)
    car: fields.ForeignKeyRelation[Car] = fields.ForeignKeyField("garage.Car", related_name="visits")
    day = fields.DateField(description="The day of the visit.")
    work = fields.TextField(description="What was done.")
    price = fields.DecimalField(max_digits=10, decimal_places=2, description="What it cost.")

    class Meta:
        app = "garage"
        ordering = ("day",)
