"""Services of Postgres: options of a connection under a name, in a file that the programs of a user share.

asyncpg reads only some of the options, and not all of their values.

Source: https://www.postgresql.org/docs/current/libpq-pgservice.html
"""

import os
from pathlib import Path


def read_service(name: str, file: str | None) -> dict[str, str]:
    """Return the options of a service, {} if it cannot be found. As in libpq, the first value of an option counts."""
    path = file or os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf"
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):  # no such file, or no home directory
        return {}
    options: dict[str, str] = {}
    is_in_service = False
    for line in map(str.strip, lines):
        if line.startswith("["):
            is_in_service = line == f"[{name}]"
        elif is_in_service and not line.startswith("#"):
            option, _, value = line.partition("=")
            options.setdefault(option.strip(), value.strip())
    return options
