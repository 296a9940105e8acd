"""The program: command line, server process, GraphQL API and inbox endpoint."""
