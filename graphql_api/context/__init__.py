"""What a resolver can use: the caller's token, services, DataLoaders, and the live log."""
