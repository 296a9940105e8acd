"""Numbers of tracked models: a snapshot keeps their digits, whatever their column holds."""

import math
from typing import Any

import pytest

from ringback.models import Computed, Settings
from ringback.models.database.sql import execute, is_postgres
from ringback.models.tracking import snapshot
from ringback.models.tracking.registry import get_tracking
from ringback.models.tracking.snapshot import Stored
from tests.support.recorded import changes, forget, item
from tests.support.shop import Product

pytestmark = pytest.mark.every_database

ACCOUNT = "40702810900000012345"


async def write_data(product: Product, data: str) -> None:
    """Store JSON that another program wrote."""
    db = Product._meta.db
    cast = "::jsonb" if is_postgres(db) else ""
    await execute(db, f'UPDATE "product" SET data = $1{cast} WHERE id = $2', data, product.id)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (f'{{"a": [{{"account": {ACCOUNT}}}]}}', {"a": [{"account": ACCOUNT}]}),
        ("[-9223372036854775809, 18446744073709551616]", ["-9223372036854775809", "18446744073709551616"]),
        ("[9223372036854775807, 18446744073709551615]", [2**63 - 1, 2**64 - 1]),
        ("[1e20, 0.5]", [1e20, 0.5]),
        (f"[{'1' * 500}]", ["1" * 500]),
    ],
)
async def test_a_number_that_another_program_stored_keeps_its_digits(watched: Settings, data: str, shown: Any) -> None:
    product = await Product.create(name="lamp")
    await write_data(product, data)
    await forget()

    product.name = "sun"
    await product.save(update_fields=["name", "changed_at"])

    assert await changes() == [("product", "updated", "1", ["name"])]
    assert repr((await item())["data"]) == repr(shown)


async def test_a_change_of_the_last_digit_alone_is_a_change(watched: Settings) -> None:
    product = await Product.create(name="lamp")
    states: list[Stored] = []
    for account in (f"[{ACCOUNT}]", "[40702810900000012346]"):
        await write_data(product, account)
        states += (await snapshot.read(Product._meta.db, Product, [product.id])).values()

    assert snapshot.find_differences(*states) == ["data"]


async def test_numbers_without_a_form_in_json_are_null(watched: Settings) -> None:
    product = await Product.create(name="lamp", data=[math.nan, math.inf], weight=math.inf)

    assert {name: (await item())[name] for name in ("data", "weight")} == {"data": [None, None], "weight": None}
    await forget()
    product.weight = -math.inf
    await product.save()
    assert await changes() == [("product", "updated", "1", ["weight"])]


async def test_a_computed_integer_beyond_64_bits_is_a_string(
    watched: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: Any = get_tracking(Product).computed
    monkeypatch.setitem(computed, "part_count", Computed(lambda item: int(ACCOUNT), "integer", "A long number."))

    await Product.create(name="lamp")

    assert (await item())["part_count"] == ACCOUNT
