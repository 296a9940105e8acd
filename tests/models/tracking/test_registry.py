"""Tests of the registry: a model whose changes could be missed raises an error that says what to do."""

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

Track = Callable[..., Awaitable[None]]


def tracking(name: str = "thing", **values: Any) -> Tracking:
    return Tracking(name=name, labels={"en": name}, **values)


@pytest_asyncio.fixture
async def track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Track]:
    """Return a function that opens a database with the given models in the app "odd" and starts tracking."""

    async def run(*models: type[Model], config: dict[str, Any] | None = None, at: str = "default") -> None:
        module = ModuleType("odd")
        module.__dict__.update({model.__name__: model for model in models})
        monkeypatch.setitem(sys.modules, "odd", module)
        connections = {name: sqlite_connection(tmp_path / f"{name}.db") for name in {"default", at}}
        apps = {**tortoise_apps(), "odd": {"models": ["odd"], "default_connection": at}}
        complete_config = {"connections": connections, "apps": apps, "use_tz": True, **(config or {})}
        await Tortoise.init(config=complete_config)
        start_tracking()

    yield run
    await Tortoise.close_connections()


async def test_the_registry_of_a_tracked_application(shop: Settings) -> None:
    assert registry.names() == ["branch", "customer_order", "lead", "product"]
    assert registry.get("branch") is Branch
    assert registry.get("nothing") is None
    assert (registry.is_root(Branch), registry.is_root(Maker)) == (True, False)
    assert Product.tracking.labels == {"en": "Product", "ru": "Товар"}
    assert [(c.model, c.column, c.deletes) for c in registry.cascades(Maker)] == [
        (Branch, "maker_id", True),
        (Product, "maker_id", False),
    ]


async def test_a_root_without_tracking_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)

    with pytest.raises(TrackingError, match=r'^Thing: set `tracking = Tracking\(name=…, labels={"en": …}, …\)`$'):
        await track(Thing)


async def test_a_root_without_an_english_label_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = Tracking(name="thing", labels={"ru": "Вещь"})

    with pytest.raises(TrackingError, match="^Thing: set `tracking"):
        await track(Thing)


@pytest.mark.parametrize("name", ["Thing", "two words", "1st", "a" * 101, "x\r\ny", "é"])
async def test_a_name_that_cannot_be_sent_in_a_header_is_refused(track: Track, name: str) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)

    Thing.tracking = tracking(name)
    with pytest.raises(
        TrackingError, match="is not a valid name for a tracked model. Use at most 100 lowercase letters"
    ):
        await track(Thing)


async def test_two_roots_with_the_same_name_are_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking("lead")

    with pytest.raises(
        TrackingError, match="^(Lead and Thing|Thing and Lead) are both tracked as 'lead'. Rename one.$"
    ):
        await track(Thing)
    assert registry.names() == []


async def test_excluding_a_missing_column_or_the_key_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking(exclude=frozenset({"colour"}))

    with pytest.raises(TrackingError, match="^Thing: `exclude` names columns that do not exist: colour. Remove them.$"):
        await track(Thing)
    Thing.tracking = tracking(exclude=frozenset({"id"}))
    with pytest.raises(
        TrackingError, match="^Thing: `exclude` names the key id, which every snapshot shows as `id`. Remove it.$"
    ):
        await track(Thing)


async def test_a_column_id_that_is_not_the_key_is_refused(track: Track) -> None:
    class Thing(Tracked):
        number = fields.IntField(primary_key=True)
        id = fields.IntField()
        tracking = tracking()

    with pytest.raises(
        TrackingError, match="^Thing: the column id is not the key, but the `id` of a snapshot is the key. Exclude it.$"
    ):
        await track(Thing)


async def test_a_computed_value_with_the_name_of_a_column_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        name = fields.TextField()
        tracking = tracking(computed={"name": Computed(len, "integer", "")})

    with pytest.raises(TrackingError, match="^Thing: names in `computed` are already used: name. Rename them.$"):
        await track(Thing)


async def test_a_child_that_is_not_a_backward_relation_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking(children={"bits": Child()})

    with pytest.raises(
        TrackingError, match="^Thing: 'bits' in `children` is not a backward relation. Use the related_name"
    ):
        await track(Thing)


async def test_a_child_that_is_not_tracked_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking(children={"bits": Child()})

    class Bit(Model):
        thing: Any = fields.ForeignKeyField("odd.Thing", related_name="bits")

    with pytest.raises(
        TrackingError, match=r"^Bit is a child of Thing. Derive it from ringback\.models\.TrackedChild.$"
    ):
        await track(Thing, Bit)


async def test_a_child_that_does_not_reference_the_key_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        name = fields.CharField(max_length=9, unique=True)
        tracking = tracking(children={"bits": Child()})

    class Bit(TrackedChild):
        thing: Any = fields.ForeignKeyField("odd.Thing", related_name="bits", to_field="name")

    with pytest.raises(
        TrackingError, match="^Bit.thing references name of Thing. A child must reference the primary key"
    ):
        await track(Thing, Bit)


@pytest.mark.parametrize("on_delete", [fields.CASCADE, fields.SET_NULL])
async def test_a_cascade_from_an_untracked_model_is_refused(track: Track, on_delete: fields.OnDelete) -> None:
    class Owner(Model):
        id = fields.UUIDField(primary_key=True)

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        owner: Any = fields.ForeignKeyField("odd.Owner", null=True, on_delete=on_delete)
        tracking = tracking()

    with pytest.raises(
        TrackingError,
        match=r"^Thing.owner: deleting a Owner would change tracked rows unrecorded. Derive Owner from "
        r"ringback\.models\.TrackedChild, or use on_delete=RESTRICT.$",
    ):
        await track(Owner, Thing)


async def test_a_cascade_over_two_models_is_refused(track: Track) -> None:
    class Town(Model):
        id = fields.UUIDField(primary_key=True)

    class Owner(TrackedChild):
        id = fields.UUIDField(primary_key=True)
        town: Any = fields.ForeignKeyField("odd.Town")

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        owner: Any = fields.ForeignKeyField("odd.Owner")
        tracking = tracking()

    with pytest.raises(TrackingError, match="^Owner.town: deleting a Town would change tracked rows unrecorded"):
        await track(Town, Owner, Thing)


@pytest.mark.parametrize("values", [{"on_delete": fields.RESTRICT}, {"db_constraint": False}])
async def test_an_untracked_model_without_a_cascade_is_accepted(track: Track, values: dict[str, Any]) -> None:
    class Owner(Model):
        id = fields.UUIDField(primary_key=True)

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        owner: Any = fields.ForeignKeyField("odd.Owner", **values)
        tracking = tracking()

    await track(Owner, Thing)
    assert registry.get("thing") is Thing


def test_an_untracked_manager_is_refused() -> None:
    class Loud(Manager):
        pass

    message = (
        r"bulk writes of the manager Loud would not be recorded. Derive it from ringback\.models\.TrackedManager.$"
    )
    with pytest.raises(TrackingError, match=f"^Thing: {message}"):

        class Thing(Tracked):
            class Meta:
                manager = Loud()

    with pytest.raises(TrackingError, match=f"^Other: {message}"):

        class Other(TrackedChild):
            loud = Loud()


async def test_an_untracked_query_set_is_refused(track: Track) -> None:
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

    await track(Thing)
    await Tortoise.close_connections()
    Managed.query_set = Loud
    with pytest.raises(TrackingError, match=r"Derive Loud from ringback\.models\.TrackedQuerySet.$"):
        await track(Thing)


async def test_a_model_in_another_database_is_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    with pytest.raises(
        TrackingError, match="^Thing is in the database 'elsewhere', but Ringback's tables are in 'default'"
    ):
        await track(Thing, at="elsewhere")


async def test_the_engine_of_tortoise_is_refused(track: Track, tmp_path: Path) -> None:
    plain = {"default": {"engine": "tortoise.backends.sqlite", "credentials": {"file_path": str(tmp_path / "x.db")}}}

    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    with pytest.raises(
        TrackingError,
        match=r"its database was opened with the engine tortoise\.backends\.sqlite\.client; "
        r'open it with the engine "ringback\.models\.sqlite" or "ringback\.models\.postgres"$',
    ):
        await track(Thing, config={"connections": plain})


async def test_naive_datetimes_are_refused(track: Track) -> None:
    class Thing(Tracked):
        id = fields.UUIDField(primary_key=True)
        tracking = tracking()

    with pytest.raises(TrackingError, match="^the Tortoise configuration has use_tz=False. Set use_tz=True.$"):
        await track(Thing, config={"use_tz": False})
    await track(Thing, config={"use_tz": True})


async def test_a_configuration_without_the_models_of_ringback_is_refused(tmp_path: Path) -> None:
    await Tortoise.init(
        config={
            "connections": {"default": sqlite_connection(tmp_path / "x.db")},
            "apps": {"shop": {"models": ["tests.support.shop"], "default_connection": "default"}},
        }
    )
    with pytest.raises(TrackingError, match=r"Add tortoise_apps\(\) to its apps.$"):
        start_tracking()
    await Tortoise.close_connections()


async def test_writes_before_tracking_has_started_are_refused(chosen: Settings, track: Track) -> None:
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
                TrackingError, match=r"Call ringback\.models\.start_tracking\(\) after Tortoise\.init\(\).$"
            ):
                await cast(Awaitable[Any], write)
