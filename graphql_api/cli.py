"""The command line: `ringback serve | api | worker | migrate | token create | export-schema`."""

import asyncio
import datetime as dt
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from tortoise.exceptions import BaseORMException

from ringback.graphql_api import server
from ringback.graphql_api.logging import configure_logging
from ringback.graphql_api.schema.build import sdl
from ringback.models import bootstrap, settings
from ringback.models.enums import Role
from ringback.models.errors import ConfigurationError, InputRejected, TrackingError
from ringback.models.services import api_tokens

app = typer.Typer(
    help="Webhooks for committed changes: recorded, delivered, logged and followed live over GraphQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(help="API tokens.", no_args_is_help=True)
app.add_typer(token_app, name="token")

Host = Annotated[str | None, typer.Option(help="Address to listen on (RINGBACK_HOST).", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on (RINGBACK_PORT).", show_default=False)]


def main() -> NoReturn:
    """Run the command line. An error that the operator can fix is printed as one line, with exit code 1."""
    try:
        app()
    except (ConfigurationError, TrackingError) as error:
        print(f"ringback: {error}", file=sys.stderr)
    except (BaseORMException, OSError) as error:
        print(f"ringback: cannot use the database or a file: {error}", file=sys.stderr)
    except InputRejected as error:
        for problem in error.problems:
            print(f"ringback: {problem.field or 'input'}: {problem.message}", file=sys.stderr)
    raise SystemExit(1)


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Run everything in one process: API, GraphiQL, inbox and deliveries."""
    server.run(server.serve(_load_settings(host=host, port=port), deliver=True))


@app.command()
def api(host: Host = None, port: Port = None) -> None:
    """Run the API, GraphiQL and the inbox without deliveries, which `ringback worker` makes."""
    server.run(server.serve(_load_settings(host=host, port=port), deliver=False))


@app.command()
def worker(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes. Several need Postgres.")] = 1,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Deliver events, without serving the API."""
    loaded = _load_settings()
    if processes == 1:
        server.run(server.work(loaded, supervised=supervised))
    elif loaded.is_embedded:
        raise ConfigurationError(
            f"--processes is {processes}, but SQLite allows one worker process. "
            "Omit --processes, or set RINGBACK_DATABASE_URL to a Postgres database."
        )
    else:
        server.run(server.work_in_processes(processes))


@app.command()
def migrate() -> None:
    """Apply the database migrations that are missing, and print their names. The other commands migrate too."""
    names = asyncio.run(bootstrap.migrate(_load_settings()))
    for name in names:
        print(f"applied {name}")
    if not names:
        print("the database is up to date")


@app.command("export-schema")
def export_schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead.", show_default=False)
    ] = None,
) -> None:
    """Print the GraphQL schema in the schema definition language."""
    if output is None:
        sys.stdout.write(sdl())
    else:
        output.write_text(sdl())


@token_app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Name of the token's user or purpose.")],
    role: Annotated[Role, typer.Option(help="Role that decides its permissions.", case_sensitive=False)] = Role.ADMIN,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it expires. Default: never.", show_default=False)
    ] = None,
) -> None:
    """Create an API token and print it. It is not shown again."""
    print(asyncio.run(_create_token(_load_settings(), name, role, expires_in_days)))


async def _create_token(loaded: settings.Settings, name: str, role: Role, expires_in_days: int | None) -> str:
    await bootstrap.migrate(loaded)
    expires_at: dt.datetime | None = None
    if expires_in_days is not None:
        expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(days=expires_in_days)
    async with bootstrap.open_database(loaded):
        _, secret = await api_tokens.create_token(name, role, expires_at=expires_at)
    return secret


def _load_settings(**overrides: Any) -> settings.Settings:
    loaded = settings.load_settings(**overrides)
    configure_logging(loaded.log_level)
    return loaded
