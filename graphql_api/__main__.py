"""`python -m ringback.graphql_api` is the same as `ringback`."""

from ringback.graphql_api.cli import main

main()
