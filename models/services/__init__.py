"""The operations behind the API, one module per kind of object, each with all of its rules."""
