"""Sphinx configuration of the documentation site: `make docs` builds it offline into build/docs."""

from importlib.metadata import version as version_of

project = "Ringback"
author = "The Ringback authors"
release = version = version_of("ringback")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"Ringback {version}"
html_static_path: list[str] = []
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # GraphQL with placeholders, such as INBOX_URL
