"""The database's history, applied by `ringback migrate` and at the start of every command that needs it."""
