"""The command line: `ringback serve | api | worker | migrate | token create | export-schema`."""

import asyncio
import datetime as dt
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from tortoise.exceptions import BaseORMException

from ringback.graphql_api import server
from ringback.graphql_api.logging import configure
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


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Run everything in one process: API, GraphiQL, inbox and deliveries."""
    server.run(server.serve(_settings(host=host, port=port), deliver=True))


@app.command()
def api(host: Host = None, port: Port = None) -> None:
    """Run the API, GraphiQL and the inbox, without delivering; `ringback worker` does that."""
    server.run(server.serve(_settings(host=host, port=port), deliver=False))


@app.command()
def worker(
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="How many processes deliver; more than one needs Postgres.")
    ] = 1,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Deliver events, without serving the API."""
    chosen = _settings()
    if processes == 1:
        server.run(server.work(chosen, supervised=supervised))
    elif chosen.is_embedded:
        raise ConfigurationError("SQLite serves one worker process: leave --processes out, or use another database")
    else:
        server.run(server.work_in_processes(processes))


@app.command()
def migrate() -> None:
    """Bring the database up to date and say what was done. The other commands do so by themselves."""
    applied = asyncio.run(bootstrap.migrate(_settings()))
    for name in applied:
        print(f"applied {name}")
    if not applied:
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
    name: Annotated[str, typer.Argument(help="Who or what the token is for.")],
    role: Annotated[Role, typer.Option(help="What it may do.", case_sensitive=False)] = Role.ADMIN,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="When it expires; never without this.", show_default=False)
    ] = None,
) -> None:
    """Create an API token and print it; it cannot be shown again."""
    expires = dt.timedelta(days=expires_in_days) if expires_in_days is not None else None
    print(asyncio.run(_create_token(_settings(), name, role, expires)))


async def _create_token(chosen: settings.Settings, name: str, role: Role, expires_in: dt.timedelta | None) -> str:
    await bootstrap.migrate(chosen)
    expires_at = dt.datetime.now(dt.UTC) + expires_in if expires_in is not None else None
    async with bootstrap.open_database(chosen):
        _, secret = await api_tokens.create_token(name, role, expires_at=expires_at)
    return secret


def _settings(**overrides: Any) -> settings.Settings:
    chosen = settings.load_settings(**overrides)
    configure(chosen.log_level)
    return chosen


def main() -> NoReturn:
    """Run the command line; what the operator must mend is one line and exit code 1."""
    try:
        app()
    except (ConfigurationError, TrackingError) as error:
        print(f"ringback: {error}", file=sys.stderr)
    except (BaseORMException, OSError) as error:
        print(f"ringback: the database or a file cannot be used: {error}", file=sys.stderr)
    except InputRejected as error:
        for problem in error.problems:
            print(f"ringback: {problem.field or 'input'}: {problem.message}", file=sys.stderr)
    raise SystemExit(1)
