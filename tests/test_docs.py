"""The documentation says what the code does: its tables are complete, its links lead somewhere, its commands run."""

import re
from importlib import import_module
from inspect import getmembers, isclass
from pathlib import Path
from typing import get_args

import pytest
from tortoise.models import Model

from ringback.graphql_api.errors import Code
from ringback.graphql_api.schema.build import schema
from ringback.models import bootstrap
from ringback.models.settings import Settings
from ringback.models.templates.filters.allow_list import FILTERS
from ringback.models.templates.syntax.environment import ENVIRONMENT
from tests.settings_table import PAGE, insert_table

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")])
#: A link of Markdown to a file, with the heading in it.
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]+)?\)")
#: Names of python-liquid's registry that are not tags of a template.
NOT_TAGS = {"#", "content", "illegal", "output"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) < 200


def test_the_table_of_settings_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert insert_table(text) == text, "run `make settings`"


def test_a_stale_table_of_settings_is_replaced() -> None:
    text = PAGE.read_text()
    stale = text.replace("| `RINGBACK_PORT` | `8000` |", "| `RINGBACK_PORT` | `8001` |")
    assert stale != text

    assert insert_table(stale) == text


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(AssertionError, match="the page has no markers"):
        insert_table("# Ringback\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    # The changelog names former settings; RINGBACK_URL and RINGBACK_TOKEN belong to the examples of clients.
    known = {f"RINGBACK_{name.upper()}" for name in Settings.model_fields} | {"RINGBACK_URL", "RINGBACK_TOKEN"}
    named = set(re.findall(r"RINGBACK_[A-Z_]+[A-Z]", page.read_text()))
    if page.name != "CHANGELOG.md":
        assert named <= known


def test_drivers_are_installed_from_the_checkout() -> None:
    """Until there is a release, `pip install ringback[…]` would install another project or nothing."""
    sources = [path for folder in ("models", "jobs", "graphql_api", "bench") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in [*PAGES, *sources] if re.search(r"pip install \W*ringback", path.read_text())] == []


def test_the_table_of_error_codes_is_complete() -> None:
    codes = re.findall(r"^\| `(\w+)` \| .+ \|$", text_of("docs/errors.md"), re.MULTILINE)
    assert codes == list(get_args(Code))


def test_the_glossary_names_tables_and_types_that_exist() -> None:
    tables = {model._meta.db_table for model in own_models()}
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (.*?) ?\| (.*?) ?\|$", text_of("docs/glossary.md"), re.MULTILINE)
    assert len(rows) > 20
    sdl = schema.as_str()
    for table, type_name in rows[2:]:
        assert table.strip(" `") in tables | {""}
        assert type_name.strip(" `") in sdl


def own_models() -> list[type[Model]]:
    modules = [import_module(name) for name in bootstrap.MODULES]
    members = [value for module in modules for _, value in getmembers(module, isclass)]
    return [member for member in members if issubclass(member, Model)]


def test_the_filters_and_tags_of_templates_are_complete() -> None:
    text = text_of("docs/templates.md")
    filters = text.split("## Filters\n")[1].split("\n## ")[0]
    tags = text.split("## Tags\n")[1].split("\n## ")[0].split("Tags that")[0]
    assert re.findall(r"`(\w+)`", filters) == sorted(FILTERS)
    assert set(re.findall(r"`(\w+)`", tags)) == set(ENVIRONMENT.tags) - NOT_TAGS | {"raw"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target, anchor in LINK.findall(text):
        path = (page.parent / target).resolve()
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
