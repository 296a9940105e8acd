"""The HTTP/1.1 client: one guarded request on a pooled connection; the only code that imports aiohttp."""
