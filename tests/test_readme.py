"""The README's tables list every setting and every error code."""

import re
from typing import get_args

import pytest

from ringback.graphql_api.errors import Code
from ringback.models.settings import Settings
from tests.settings_table import README, insert_table

TEXT = README.read_text()


def test_the_table_of_settings_is_up_to_date() -> None:
    assert insert_table(TEXT) == TEXT, "run `make settings`"


def test_a_stale_table_of_settings_is_replaced() -> None:
    stale = TEXT.replace("| `RINGBACK_PORT` | `8000` |", "| `RINGBACK_PORT` | `8001` |")
    assert stale != TEXT

    assert insert_table(stale) == TEXT


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(AssertionError, match="the README has no markers"):
        insert_table("# Ringback\n")


def test_every_setting_that_the_text_names_exists() -> None:
    named = set(re.findall(r"RINGBACK_[A-Z_]+", TEXT))
    assert named == {f"RINGBACK_{name.upper()}" for name in Settings.model_fields}


def test_the_table_of_error_codes_is_complete() -> None:
    section = TEXT.split("## Errors")[1].split("\n## ")[0]
    codes = re.findall(r"^\| `(\w+)` \| .+ \|$", section, re.MULTILINE)
    assert codes == list(get_args(Code))
