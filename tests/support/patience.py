"""How long a test waits for something that must happen."""

#: Seconds after which a wait counts as hanging. It bounds a failure; no test measures time by it.
PATIENCE_SECONDS = 60.0
