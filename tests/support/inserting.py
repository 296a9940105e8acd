"""Inserting many objects at once."""

from collections.abc import Sequence

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.models import Model

from ringback.models.database.bulk_write import insert_values


async def insert(db: BaseDBAsyncClient, rows: Sequence[Model]) -> None:
    """Insert objects of one model that is not tracked; what the database makes itself is not read back."""
    if rows:
        names = _written(type(rows[0]))
        await insert_values(db, type(rows[0]), names, [[getattr(row, name) for name in names] for row in rows])


def _written(model: type[Model]) -> tuple[str, ...]:
    """Return the columns that the database does not make itself."""
    columns = ((name, model._meta.fields_map[name]) for name in model._meta.fields_db_projection)
    made = {n for n, field in columns if field.generated or (field.has_db_default() and field.default is None)}
    return tuple(name for name in model._meta.fields_db_projection if name not in made)
