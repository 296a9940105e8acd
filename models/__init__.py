"""What exists: the Tortoise models and the rules that belong to them.

This package is also the library for applications with tracked models of their own. A model that webhooks can watch:

    from ringback.models import Child, Tracked, TrackedChild, Tracking
    from tortoise import fields

    class Car(Tracked):
        id = fields.IntField(primary_key=True)
        plate = fields.CharField(max_length=16)

        tracking = Tracking(name="car", labels={"en": "Car"}, children={"visits": Child()})

    class Visit(TrackedChild):
        car = fields.ForeignKeyField("models.Car", related_name="visits")
        note = fields.TextField()

Either let Ringback open the database, whose Tortoise models are then yours to use as ever:

    settings = load_settings(data_dir="data", models=("shop",))
    await migrate(settings)
    async with open_database(settings):
        await Car.create(plate="KA 1")

or keep your own Tortoise configuration, with `sqlite_connection(path)` or `postgres_connection(url)` among its
connections and `**tortoise_apps()` among its apps:

    await migrate_config(config)
    async with open_tortoise(config):
        ...

Where something else calls `Tortoise.init()`, call `start_tracking()` after it. Events are delivered by `ringback
worker` or `ringback serve` on the same database, or in your own process by `ringback.jobs.worker.run_worker`.

The names are imported when they are first used, so that a part of the package costs no more than itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback.models.bootstrap import migrate, migrate_config, open_database, open_tortoise, tortoise_apps
    from ringback.models.database.backends import postgres_connection, sqlite_connection
    from ringback.models.enums import Action
    from ringback.models.errors import ConfigurationError, InputRejected, RingbackError, TrackingError
    from ringback.models.event import Attempt, Event
    from ringback.models.security.address_policy import AddressPolicy
    from ringback.models.security.inbox_addresses import InboxAddresses
    from ringback.models.security.secret_box import load_secret_box
    from ringback.models.services.webhooks import Webhooks, WebhookSpec
    from ringback.models.settings import Settings, load_settings
    from ringback.models.tracking.querysets import TrackedManager, TrackedQuerySet
    from ringback.models.tracking.registry import Child, Computed, Tracking
    from ringback.models.tracking.tracked import Tracked, TrackedChild, start_tracking, track_sql

__all__ = [
    "Action",
    "AddressPolicy",
    "Attempt",
    "Child",
    "Computed",
    "ConfigurationError",
    "Event",
    "InboxAddresses",
    "InputRejected",
    "RingbackError",
    "Settings",
    "Tracked",
    "TrackedChild",
    "TrackedManager",
    "TrackedQuerySet",
    "Tracking",
    "TrackingError",
    "WebhookSpec",
    "Webhooks",
    "load_secret_box",
    "load_settings",
    "migrate",
    "migrate_config",
    "open_database",
    "open_tortoise",
    "postgres_connection",
    "sqlite_connection",
    "start_tracking",
    "tortoise_apps",
    "track_sql",
]

_HOMES = {
    "security.address_policy": ("AddressPolicy",),
    "database.backends": ("postgres_connection", "sqlite_connection"),
    "bootstrap": ("migrate", "migrate_config", "open_database", "open_tortoise", "tortoise_apps"),
    "errors": ("ConfigurationError", "InputRejected", "RingbackError", "TrackingError"),
    "security.inbox_addresses": ("InboxAddresses",),
    "tracking.querysets": ("TrackedManager", "TrackedQuerySet"),
    "tracking.registry": ("Child", "Computed", "Tracking"),
    "security.secret_box": ("load_secret_box",),
    "settings": ("Settings", "load_settings"),
    "tracking.tracked": ("TrackedChild", "Tracked", "start_tracking", "track_sql"),
    "enums": ("Action",),
    "event": ("Attempt", "Event"),
    "services.webhooks": ("WebhookSpec", "Webhooks"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
