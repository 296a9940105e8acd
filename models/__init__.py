"""Tortoise models and the rules for them, and the library for applications with tracked models of their own.

A model that webhooks can watch, with a child model:

    from ringback.models import Child, Tracked, TrackedChild, Tracking
    from tortoise import fields

    class Car(Tracked):
        id = fields.IntField(primary_key=True)
        plate = fields.CharField(max_length=16)

        tracking = Tracking(name="car", labels={"en": "Car"}, children={"visits": Child()})

    class Visit(TrackedChild):
        car = fields.ForeignKeyField("models.Car", related_name="visits")
        note = fields.TextField()

Either let Ringback open the database, and use the Tortoise models as usual:

    settings = load_settings(data_dir="data", models=("shop",))
    await migrate(settings)
    async with open_database(settings):
        await Car.create(plate="KA 1")

or keep your own Tortoise configuration, with `sqlite_connection(path)` or `postgres_connection(url)` among its
connections and `**tortoise_apps()` among its apps:

    await migrate_config(config)
    async with open_tortoise(config):
        ...

If a framework calls `Tortoise.init()`, call `start_tracking()` after it. Events are delivered by `ringback worker` or
`ringback serve` on the same database, or in your own process by `ringback.jobs.worker.run_worker`.

Each name is imported when it is first used, so that importing one module does not import all the others.
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
    from ringback.models.services.webhook_spec import WebhookSpec
    from ringback.models.services.webhooks import Webhooks
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

#: The names of each module.
_NAMES_BY_MODULE = {
    "bootstrap": ("migrate", "migrate_config", "open_database", "open_tortoise", "tortoise_apps"),
    "database.backends": ("postgres_connection", "sqlite_connection"),
    "enums": ("Action",),
    "errors": ("ConfigurationError", "InputRejected", "RingbackError", "TrackingError"),
    "event": ("Attempt", "Event"),
    "security.address_policy": ("AddressPolicy",),
    "security.inbox_addresses": ("InboxAddresses",),
    "security.secret_box": ("load_secret_box",),
    "services.webhook_spec": ("WebhookSpec",),
    "services.webhooks": ("Webhooks",),
    "settings": ("Settings", "load_settings"),
    "tracking.querysets": ("TrackedManager", "TrackedQuerySet"),
    "tracking.registry": ("Child", "Computed", "Tracking"),
    "tracking.tracked": ("Tracked", "TrackedChild", "start_tracking", "track_sql"),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
