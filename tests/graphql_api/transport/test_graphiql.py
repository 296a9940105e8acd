"""The GraphiQL page is served from the folder that `make web` fills."""

from pathlib import Path

from ringback.graphql_api.transport import graphiql

ROOT = Path(__file__).parents[3]


def test_the_static_folder_is_where_make_web_builds_the_page() -> None:
    assert graphiql.STATIC.resolve() == ROOT / "graphql_api" / "static"
    assert "WEB := graphql_api/static/index.html" in (ROOT / "Makefile").read_text()
