"""Models of a user's own, with everything that a snapshot must be able to show."""

import datetime as dt
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID, uuid4

from tortoise import fields
from tortoise.models import Model

from ringback.models import Child, Computed, Tracked, TrackedChild, Tracking

NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 1500, tzinfo=dt.timezone(dt.timedelta(hours=2)))
CODE = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


class State(Enum):
    NEW = "new"
    OLD = "old"


class Grade(IntEnum):
    GOOD = 1
    BAD = 2


class Maker(TrackedChild):
    """Not watched itself, but products and branches hang on it."""

    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=100)

    class Meta:
        app = "shop"


class Product(Tracked):
    """A product."""

    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=100, description="Its name.")
    price = fields.DecimalField(max_digits=10, decimal_places=2, default=Decimal("1.5"))
    state = fields.CharEnumField(State, default=State.NEW)
    grade = fields.IntEnumField(Grade, default=Grade.GOOD)
    added_at = fields.DatetimeField(default=NOON)
    released = fields.DateField(default=dt.date(2026, 2, 1))
    warranty = fields.TimeDeltaField(default=dt.timedelta(minutes=1, milliseconds=500))
    weight = fields.FloatField(default=0.5)
    stocked = fields.BooleanField(default=True)
    code = fields.UUIDField(default=CODE)
    data: Any = fields.JSONField(null=True)
    photo = fields.BinaryField(default=b"\x00\xff")
    cost = fields.IntField(default=7)
    changed_at = fields.DatetimeField(auto_now=True)
    maker: fields.ForeignKeyNullableRelation[Maker] = fields.ForeignKeyField(
        "shop.Maker", related_name="products", null=True, on_delete=fields.SET_NULL
    )

    diaries: fields.ManyToManyRelation["Diary"] = fields.ManyToManyField(
        "shop.Diary", related_name="products", through="product_diary"
    )

    maker_id: int | None
    parts: fields.ReverseRelation["Part"]

    tracking = Tracking(
        name="product",
        labels={"en": "Product", "ru": "Товар"},
        description="What is sold.",
        exclude=frozenset({"cost"}),
        computed={"part_count": Computed(lambda item: len(item["parts"]), "integer", "How many parts it has.")},
        children={
            "parts": Child(
                exclude=frozenset({"id", "note"}),
                computed={"loud": Computed(lambda part: part["name"].upper(), "string", "The name, loud.")},
                children={"bolts": Child()},
            ),
            "manual": Child(exclude=frozenset({"id"})),
        },
    )

    class Meta:
        app = "shop"


class Part(TrackedChild):
    """A part of a product."""

    id = fields.IntField(primary_key=True)
    product: fields.ForeignKeyRelation[Product] = fields.ForeignKeyField("shop.Product", related_name="parts")
    name = fields.CharField(max_length=100)
    note = fields.CharField(max_length=100, default="")
    seen_at = fields.DatetimeField(auto_now=True)

    product_id: int

    class Meta:
        app = "shop"
        ordering = ("-name",)


class Bolt(TrackedChild):
    """A bolt of a part; its column is not named for its relation."""

    id = fields.UUIDField(primary_key=True, default=uuid4)
    part: fields.ForeignKeyRelation[Part] = fields.ForeignKeyField(
        "shop.Part", related_name="bolts", source_field="of_part"
    )
    size = fields.IntField()

    part_id: int

    class Meta:
        app = "shop"


class Manual(TrackedChild):
    """The one manual of a product."""

    id = fields.IntField(primary_key=True)
    product: fields.OneToOneRelation[Product] = fields.OneToOneField("shop.Product", related_name="manual")
    pages = fields.IntField()

    class Meta:
        app = "shop"


class Branch(Tracked):
    """Goes when its maker goes."""

    id = fields.UUIDField(primary_key=True, default=uuid4)
    town = fields.CharField(max_length=100, unique=True)
    staff = fields.IntField(default=0)
    maker: fields.ForeignKeyNullableRelation[Maker] = fields.ForeignKeyField(
        "shop.Maker", related_name="branches", null=True, on_delete=fields.CASCADE
    )

    maker_id: int | None

    tracking = Tracking(name="branch", labels={"en": "Branch"}, id_prefix="brn")

    class Meta:
        app = "shop"


class Diary(Model):
    """Nobody watches it."""

    id = fields.IntField(primary_key=True)
    text = fields.TextField()

    class Meta:
        app = "shop"
