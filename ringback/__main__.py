"""Entry point of `python -m ringback`, the same as the command `ringback`."""

from ringback.graphql_api.cli import main

main()
