"""URL and header rules, the address policy, request signing, and encryption of secrets."""
