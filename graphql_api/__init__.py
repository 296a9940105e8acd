"""How it is reached: the GraphQL surface, the inbox and the command line."""
