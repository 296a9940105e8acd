"""The settings table of docs/settings.md, generated from `Settings`. `python -m tests.settings_table` writes it."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from ringback.models.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
_HEADER = ["| variable | default | meaning |", "| --- | --- | --- |"]
#: Read by OpenSSL, so it is no field of `Settings`.
_CERTIFICATES = "| `SSL_CERT_FILE` | | File with CA certificates to trust in addition to those of the system. |"
_TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)


def settings_table() -> str:
    """Return the table in Markdown, one row for each setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        assert field.default is not PydanticUndefined, f"the setting {name} has no default"
        default = "" if field.default in ("", (), None) else f" `{field.default}`"
        rows.append(f"| `RINGBACK_{name.upper()}` |{default} | {field.description} |")
    return "\n".join([*_HEADER, *rows, _CERTIFICATES]) + "\n"


def insert_table(page: str) -> str:
    """Return the page with the table between its markers."""
    assert _TABLE.search(page), "the page has no markers <!-- settings --> and <!-- /settings -->"
    return _TABLE.sub(lambda _: settings_table(), page)


if __name__ == "__main__":
    PAGE.write_text(insert_table(PAGE.read_text()))
