"""Entry point of `python -m ringback.graphql_api`, the same as the command `ringback`."""

from ringback.graphql_api.cli import main

main()
