"""What cannot be tracked without missing a change is refused, with a sentence that says what to do."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import pytest_asyncio
from tortoise import Tortoise, fields
from tortoise.manager import Manager
from tortoise.models import Model
from tortoise.queryset import QuerySet

from ringback.models import (
    Child,
    Computed,
    Settings,
    Tracked,
    TrackedChild,
    TrackedManager,
    TrackedQuerySet,
    Tracking,
    TrackingError,
    migrate,
    open_database,
    sqlite_connection,
    start_tracking,
    tortoise_apps,
)
from ringback.models.tracking.registry import registry
from tests.support.shop import Branch, Maker, Product

Connect = Callable[..., Awaitable[None]]


def tracking(name: str = "thing", **values: Any) -> Tracking:
    return Tracking(name=name, labels={"en": name}, **values)


@pytest_asyncio.fixture
async def connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """`await connecting(Model, …)` opens a database with these models of the app "odd" and connects."""

    async def run(*models: type[Model], config: dict[str, Any] | None = None, at: str = "default") -> None:
        module = ModuleType("odd")
        module.__dict__.update({model.__name__: model for model in models})
        monkeypatch.setitem(sys.modules, "odd", module)
        connections = {name: sqlite_connection(tmp_path / f"{name}.db") for name in {"default", at}}
        apps = {**tortoise_apps(), "odd": {"models": ["odd"], "default_connection": at}}
        whole = {"connections": connections, "apps": apps, "use_tz": True, **(config or {})}
        await Tortoise.init(config=whole)
        start_tracking()

    yield run
    await Tortoise.close_connections()


async def test_what_the_registry_knows(shop: Settings) -> None:
    assert registry.names() == ["branch", "customer_order", "lead", "product"]
    assert registry.get("branch") is Branch
    assert registry.get("nothing") is None
    assert (registry.is_root(Branch), registry.is_root(Maker)) == (True, False)
    told = Product.tracking
    assert told.labels == {"en": "Product", "ru": "Товар"}
    assert [(c.model, c.column, c.deletes) for c in registry.cascades(Maker)] == [
        (Branch, "maker_id", True),
        (Product, "maker_id", False),
    ]


async def test_no_tracking(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)

    with pytest.raises(TrackingError, match=r'^Thing: set `tracking = Tracking\(name=…, labels={"en": …}, …\)`$'):
        await connecting(Thing)


async def test_no_english_label(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = Tracking(name="thing", labels={"ru": "Вещь"})

    with pytest.raises(TrackingError, match="^Thing: set `tracking"):
        await connecting(Thing)


@pytest.mark.parametrize("name", ["Thing", "two words", "1st", "a" * 101, "x\r\ny", "é"])
async def test_names_that_no_header_takes(connecting: Connect, name: str) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)

    Thing.tracking = tracking(name)
    with pytest.raises(TrackingError, match="is no name for a tracked model; write it like customer_order"):
        await connecting(Thing)


async def test_the_same_name_twice(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking("lead")

    with pytest.raises(TrackingError, match="^(Lead and Thing|Thing and Lead) are both tracked as 'lead': rename one$"):
        await connecting(Thing)
    assert registry.names() == []


async def test_excluding_what_is_not_there_or_the_key(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking(exclude=frozenset({"colour"}))

    with pytest.raises(TrackingError, match="^Thing: exclude names no such columns: colour$"):
        await connecting(Thing)
    Thing.tracking = tracking(exclude=frozenset({"id"}))
    with pytest.raises(TrackingError, match="^Thing: the key id cannot be excluded, every snapshot shows it as `id`$"):
        await connecting(Thing)


async def test_an_id_that_is_not_the_key(connecting: Connect) -> None:
    class Thing(Tracked):
        number = fields.IntField(primary_key=True)
        id = fields.IntField()
        tracking = tracking()

    with pytest.raises(TrackingError, match="^Thing: the column id is not its key, but a snapshot's `id` is"):
        await connecting(Thing)


async def test_computed_values_that_hide_others(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        name = fields.TextField()
        tracking = tracking(computed={"name": Computed(len, "integer", "")})

    with pytest.raises(TrackingError, match="^Thing: computed values hide other fields: name$"):
        await connecting(Thing)


async def test_children_that_are_no_backward_relation(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking(children={"bits": Child()})

    with pytest.raises(TrackingError, match="^Thing: 'bits' in children is no backward relation$"):
        await connecting(Thing)


async def test_an_unrecorded_child(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking(children={"bits": Child()})

    class Bit(Model):
        thing: Any = fields.ForeignKeyField("odd.Thing", related_name="bits")

    with pytest.raises(TrackingError, match=r"^Bit is part of Thing: derive it from ringback\.models\.TrackedChild$"):
        await connecting(Thing, Bit)


async def test_a_child_that_points_at_no_key(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        name = fields.CharField(max_length=9, unique=True)
        tracking = tracking(children={"bits": Child()})

    class Bit(TrackedChild):
        thing: Any = fields.ForeignKeyField("odd.Thing", related_name="bits", to_field="name")

    with pytest.raises(
        TrackingError, match="^Bit.thing points at name of Thing: a child must point at the primary key"
    ):
        await connecting(Thing, Bit)


@pytest.mark.parametrize("on_delete", [fields.CASCADE, fields.SET_NULL])
async def test_cascades_from_an_unrecorded_model(connecting: Connect, on_delete: fields.OnDelete) -> None:
    class Owner(Model):
        id = fields.UUIDField(primary_key=True)

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        owner: Any = fields.ForeignKeyField("odd.Owner", null=True, on_delete=on_delete)
        tracking = tracking()

    with pytest.raises(
        TrackingError,
        match=r"^Thing.owner: deleting a Owner would change tracked rows unseen; derive Owner from "
        r"ringback\.models\.TrackedChild, or use on_delete=RESTRICT$",
    ):
        await connecting(Owner, Thing)


async def test_cascades_from_further_away(connecting: Connect) -> None:
    class Town(Model):
        id = fields.UUIDField(primary_key=True)

    class Owner(TrackedChild):
        id = fields.UUIDField(primary_key=True)
        town: Any = fields.ForeignKeyField("odd.Town")

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        owner: Any = fields.ForeignKeyField("odd.Owner")
        tracking = tracking()

    with pytest.raises(TrackingError, match="^Owner.town: deleting a Town would change tracked rows unseen"):
        await connecting(Town, Owner, Thing)


@pytest.mark.parametrize("values", [{"on_delete": fields.RESTRICT}, {"db_constraint": False}])
async def test_no_cascade_no_objection(connecting: Connect, values: dict[str, Any]) -> None:
    class Owner(Model):
        id = fields.UUIDField(primary_key=True)

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        owner: Any = fields.ForeignKeyField("odd.Owner", **values)
        tracking = tracking()

    await connecting(Owner, Thing)
    assert registry.get("thing") is Thing


def test_a_manager_of_ones_own_is_refused() -> None:
    class Loud(Manager):
        pass

    sentence = r"the manager Loud would write in bulk unseen: derive it from ringback\.models\.TrackedManager$"
    with pytest.raises(TrackingError, match=f"^Thing: {sentence}"):

        class Thing(Tracked):
            class Meta:
                manager = Loud()

    with pytest.raises(TrackingError, match=f"^Other: {sentence}"):

        class Other(TrackedChild):
            loud = Loud()


async def test_query_sets_of_ones_own(connecting: Connect) -> None:
    class Quiet(TrackedQuerySet[Any]):
        pass

    class Loud(QuerySet[Any]):
        pass

    class Managed(TrackedManager):
        query_set: type[QuerySet[Any]] = Quiet

        def get_queryset(self) -> Any:
            return self.query_set(cast(type[Model], self._model))

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        all_things = Managed()
        tracking = tracking()

    await connecting(Thing)
    await Tortoise.close_connections()
    Managed.query_set = Loud
    with pytest.raises(TrackingError, match=r"derive Loud from ringback\.models\.TrackedQuerySet$"):
        await connecting(Thing)


async def test_another_database(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    with pytest.raises(
        TrackingError, match="^Thing is in the database 'elsewhere', but Ringback's tables are in 'default'"
    ):
        await connecting(Thing, at="elsewhere")


async def test_tortoises_own_engine(connecting: Connect, tmp_path: Path) -> None:
    plain = {"default": {"engine": "tortoise.backends.sqlite", "credentials": {"file_path": str(tmp_path / "x.db")}}}

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    with pytest.raises(
        TrackingError,
        match=r"its database was opened with the engine tortoise\.backends\.sqlite\.client; "
        r'open it with the engine "ringback\.models\.sqlite" or "ringback\.models\.postgres"$',
    ):
        await connecting(Thing, config={"connections": plain})


async def test_naive_datetimes(connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    with pytest.raises(
        TrackingError, match="^the Tortoise configuration says use_tz=False: Ringback needs use_tz=True"
    ):
        await connecting(Thing, config={"use_tz": False})
    await connecting(Thing, config={"use_tz": True})


async def test_without_ringbacks_models(tmp_path: Path) -> None:
    await Tortoise.init(
        config={
            "connections": {"default": sqlite_connection(tmp_path / "x.db")},
            "apps": {"shop": {"models": ["tests.support.shop"], "default_connection": "default"}},
        }
    )
    with pytest.raises(TrackingError, match=r"put tortoise_apps\(\) into its apps$"):
        start_tracking()
    await Tortoise.close_connections()


async def test_writes_before_connect_are_refused(chosen: Settings, connecting: Connect) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    await migrate(chosen)
    async with open_database(chosen):
        for write in (
            Branch(town="Riga").save(),
            Branch.filter(town="Riga").update(staff=1),
            Branch.all().delete(),
            Branch.bulk_create([Branch(town="Riga")]),
            Thing().save(),
        ):
            with pytest.raises(
                TrackingError, match=r"call ringback\.models\.start_tracking\(\) after Tortoise\.init\(\)$"
            ):
                await cast(Awaitable[Any], write)
