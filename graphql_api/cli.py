"""The command line: `ringback serve | api | worker | migrate | token create, list, revoke | export-schema`.

A command imports what it needs when it runs, so that `--help` and `--version` answer at once. All commands that use a
database print on standard error which one. Only `serve`, `api`, `worker` and `migrate` create one.
"""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ringback.models.enums import Role
from ringback.models.errors import ConfigurationError, InputRejected, TrackingError

if TYPE_CHECKING:
    from ringback.models.settings import Settings

_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    help="Webhooks for committed changes: recorded, delivered, logged and followed live over GraphQL.",
    context_settings=_HELP_OPTIONS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(help="API tokens.", context_settings=_HELP_OPTIONS, no_args_is_help=True)
app.add_typer(token_app, name="token")

Host = Annotated[str | None, typer.Option(help="Address to listen on (RINGBACK_HOST).", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on (RINGBACK_PORT).", show_default=False)]
DataDir = Annotated[Path | None, typer.Option(help="Data directory (RINGBACK_DATA_DIR).", show_default=False)]


def main() -> NoReturn:
    """Run the command line. An error that the operator can fix is printed as one line, with exit code 1."""
    try:
        app()
    except (ConfigurationError, TrackingError) as error:
        _print_note(str(error))
    except InputRejected as error:
        for problem in error.problems:
            _print_note(problem.message)
    except OSError as error:
        _print_note(f"cannot use the database or a file: {error}")
    except Exception as error:
        if not _is_database_error(error):
            raise
        _print_note(f"cannot use the database: {error}")
    raise SystemExit(1)


def _print_version(is_given: bool) -> None:
    if is_given:
        from importlib.metadata import version

        print(f"ringback {version('ringback')}")
        raise typer.Exit


@app.callback()
def declare_global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options that stand before the command."""


@app.command()
def serve(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run everything in one process: API, GraphiQL, inbox and deliveries."""
    from ringback.graphql_api import process, server

    settings = _start(host=host, port=port, data_dir=data_dir)
    process.run(server.serve(settings, deliver=True))


@app.command()
def api(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run the API, GraphiQL and the inbox without deliveries, which `ringback worker` makes."""
    from ringback.graphql_api import process, server

    settings = _start(host=host, port=port, data_dir=data_dir)
    process.run(server.serve(settings, deliver=False))


@app.command()
def worker(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes. Several need Postgres.")] = 1,
    data_dir: DataDir = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Deliver events, without serving the API."""
    from ringback.graphql_api import process, worker_process

    settings = _load_settings(data_dir=data_dir) if supervised else _start(data_dir=data_dir)
    if processes == 1:
        process.run(worker_process.work(settings, supervised=supervised))
    elif settings.is_embedded:
        raise ConfigurationError(
            f"--processes is {processes}, but SQLite allows one worker process. "
            "Omit --processes, or set RINGBACK_DATABASE_URL to a Postgres database."
        )
    else:
        options = [] if data_dir is None else ["--data-dir", str(data_dir)]
        process.run(worker_process.work_in_processes(processes, *options))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Apply the database migrations that are missing, and print their names."""
    from ringback.models import bootstrap

    names = asyncio.run(bootstrap.migrate(_load_and_name_database(data_dir)))
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
    from ringback.graphql_api.schema.build import sdl

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
    data_dir: DataDir = None,
) -> None:
    """Create an API token and print it. It is not shown again."""
    from ringback.graphql_api import token_commands

    settings = _load_and_name_database(data_dir)
    print(asyncio.run(token_commands.create_token(settings, name, role, expires_in_days)))


@token_app.command("list")
def list_tokens(data_dir: DataDir = None) -> None:
    """Print all API tokens, oldest first, without their secrets."""
    from ringback.graphql_api import token_commands

    print(asyncio.run(token_commands.list_tokens(_load_and_name_database(data_dir))))


@token_app.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the token, as `ringback token list` prints it.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke an API token. Servers refuse new requests within a second."""
    from ringback.graphql_api import token_commands

    asyncio.run(token_commands.revoke_token(_load_and_name_database(data_dir), token_id))
    print(f"revoked {token_id}")


def _start(**overrides: Any) -> "Settings":
    """Load the settings of a long-running command, and log the database and the unknown variables."""
    import structlog

    from ringback.models import bootstrap
    from ringback.models.settings import find_unknown_variables

    settings = _load_settings(**overrides)
    logger = structlog.get_logger("ringback.start")
    logger.info(f"using {bootstrap.describe_database(settings)}", action="start")
    for name in find_unknown_variables():
        logger.warning("unknown environment variable: it has no effect", action="start", variable=name)
    return settings


def _load_and_name_database(data_dir: Path | None) -> "Settings":
    """Load the settings of a command that ends by itself, and print which database it uses."""
    from ringback.models import bootstrap

    settings = _load_settings(data_dir=data_dir)
    _print_note(f"using {bootstrap.describe_database(settings)}")
    return settings


def _load_settings(**overrides: Any) -> "Settings":
    from ringback.graphql_api.logging import configure_logging
    from ringback.models.redaction import Redaction
    from ringback.models.settings import load_settings

    settings = load_settings(**overrides)
    configure_logging(settings.log_level, Redaction(settings.redact_patterns))
    return settings


def _is_database_error(error: Exception) -> bool:
    from tortoise.exceptions import BaseORMException

    return isinstance(error, BaseORMException)


def _print_note(text: str) -> None:
    """Print to standard error, so that standard output holds only the result."""
    print(f"ringback: {text}", file=sys.stderr)
