"""URL and header rules, the address policy, inbox URLs of this server, request signing, and encryption of secrets."""
