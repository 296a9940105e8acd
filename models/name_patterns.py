"""The operator's regular expressions for names, matched by Rust's regex engine in time linear in the name."""

from pydantic_core import SchemaError, SchemaValidator, core_schema


class NamePattern:
    """A regular expression that matches some part of a name, in upper or lower case.

    Raises ValueError for one that is malformed, or uses look-around or back-references, which take unlimited time.
    """

    def __init__(self, pattern: str) -> None:
        try:
            schema = core_schema.str_schema(pattern=f"(?i){pattern}", regex_engine="rust-regex")
            self.matches = SchemaValidator(schema).isinstance_python
        except SchemaError as error:
            raise ValueError(_reason(error)) from error


def _reason(error: SchemaError) -> str:
    """Return the last line of the engine's message, which draws the pattern before it."""
    return str(error).strip().rpartition("error: ")[2].rpartition("SchemaError: ")[2].rstrip(".")
