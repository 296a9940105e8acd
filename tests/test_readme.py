"""The README's tables hold every setting and every code of an error."""

import re
from pathlib import Path
from typing import get_args

from pydantic_core import PydanticUndefined

from ringback.graphql_api.errors import Code
from ringback.models.settings import Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


def rows() -> list[str]:
    """The table's rows as they must be, one for each setting."""
    found = []
    for name, field in Settings.model_fields.items():
        assert field.default is not PydanticUndefined
        default = "" if field.default in ("", (), None) else f"`{field.default}`"
        found.append(f"| `RINGBACK_{name.upper()}` | {default} | {field.description} |".replace("|  |", "| |"))
    return found


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    table = [line for line in README.splitlines() if line.startswith("| `RINGBACK_")]
    assert table == rows()


def test_every_setting_that_the_text_names_exists() -> None:
    named = set(re.findall(r"RINGBACK_[A-Z_]+", README))
    assert named == {f"RINGBACK_{name.upper()}" for name in Settings.model_fields}


def test_every_code_of_an_error_is_in_the_table_and_nothing_else() -> None:
    table = README.split("## Errors")[1].split("\n## ")[0]
    codes = re.findall(r"^\| `(\w+)` \| .+ \|$", table, re.MULTILINE)
    assert codes == list(get_args(Code))
