"""Limits on what a client can make the listener hold before a request is known to come from a token."""
