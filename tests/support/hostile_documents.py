"""Documents that hostile clients send, each with the code that refuses it ("" for a harmless one) and the limit."""

from collections.abc import Iterable


def many(count: int, text: str) -> str:
    """Repeat a text, `%d` in it counting up from 0."""
    return " ".join(text.replace("%d", str(number)) for number in range(count))


def net(levels: int, width: int) -> str:
    """Return fragments each of which spreads the next one several times."""
    parts = [f"fragment F{level} on Query {{ {f'...F{level + 1} ' * width} }}" for level in range(levels)]
    return "\n".join(["{ ...F0 }", *parts, f"fragment F{levels} on Query {{ __typename }}"])


def aliased_net(levels: int) -> str:
    """Return fragments each of which spreads the next one twice, between aliases."""
    parts = [
        f"fragment F{level} on Webhook {{ a{level}: id ...F{level + 1} b{level}: id ...F{level + 1} }}"
        for level in range(levels)
    ]
    return "\n".join(["{ webhooks { nodes { ...F0 } } }", *parts, f"fragment F{levels} on Webhook {{ id }}"])


def each_spreads(count: int, others: Iterable[int]) -> str:
    """Return fragments each of which spreads the same others."""
    spreads = " ".join(f"...F{other}" for other in others)
    return "{ ...F0 } " + many(count, f"fragment F%d on Query {{ __typename {spreads} }}")


def of_type(inner: str, levels: int) -> str:
    """Return a selection that asks for the same again of each type within a type."""
    return f"{inner} ofType {{ {of_type(inner, levels - 1)} }}" if levels else inner


VALUES = "enumValues { name }"
SELF = f"fields {{ args {{ type {{ {of_type('name ' + VALUES, 6)} }} }} type {{ {of_type('name ' + VALUES, 6)} }} }}"
LIMIT, INVALID, UNPARSABLE = "LIMIT_EXCEEDED", "GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED"

DOCUMENTS: dict[str, tuple[str, str, str | None]] = {
    "100,000 tokens": ("{ " + "a " * 100_000 + "}", LIMIT, "tokens"),
    "a mebibyte of comments": ("#\n" * 500_000 + "{ __typename }", LIMIT, "tokens"),
    "one comment": ("#" + "x" * 1_000_000 + "\n{ __typename }", "", None),
    "a mebibyte of lines": ("\n" * 1_000_000 + "{ nope a b c d e f }", INVALID, None),
    "a mebibyte of lines that does not parse": ("\n" * 1_000_000 + "{", UNPARSABLE, None),
    "a mebibyte of commas": ("," * 1_000_000 + "{ __typename }", "", None),
    "a mebibyte of text": ('{ webhook(id: "' + "x" * 1_000_000 + '") { id } }', "", None),
    "escapes": ('{ webhook(id: "' + "\\u0041" * 170_000 + '") { id } }', "", None),
    "a block of text": ('{ webhook(id: """' + "\n x" * 330_000 + '""") { id } }', "", None),
    "quotes in a block": ('{ webhook(id: """' + '\\"""' * 250_000 + '""") { id } }', "", None),
    "root fields": ("{ " + many(4_900, "f%d") + " }", LIMIT, "rootFields"),
    "unknown fields": ("{ viewer { token { " + many(4_900, "f%d") + " } } }", INVALID, None),
    "the same field": ("{ viewer { token { " + "name " * 4_900 + " } } }", LIMIT, "validation"),
    "__typename": ("{ viewer { token { " + "__typename " * 4_900 + " } } }", LIMIT, "validation"),
    "overlapping fragments": (
        "{ viewer { token { " + many(450, "...F%d") + "} } } " + many(450, "fragment F%d on ApiToken { name id }"),
        LIMIT, "validation",
    ),
    "1,500 overlapping fragments": (
        "{ viewer { token { " + many(1_500, "...F%d") + "} } } " + many(1_500, "fragment F%d on ApiToken { name id }"),
        LIMIT, "tokens",
    ),
    "overlapping inline fragments": (
        "{ viewer { token { " + "... on ApiToken { name role id } " * 500 + "} } }", LIMIT, "validation",
    ),
    "two long lists of fields": (
        '{ node(id: "x") { ... on Webhook { ' + "model " * 2_000 + "} ... on Event { " + "item " * 2_000 + " } } }",
        LIMIT, "validation",
    ),
    "nested fields": ("{ viewer " * 1_600 + "{ x }" + "}" * 1_600, LIMIT, "depth"),
    "fields nested less deeply": ("{ viewer " * 190 + "{ x }" + "}" * 190, LIMIT, "depth"),
    "nested lists": ("{ webhook(id: " + "[" * 2_400 + "]" * 2_400 + ") { id } }", LIMIT, "depth"),
    "nested objects": ("{ webhook(id: " + "{a:" * 1_600 + "1" + "}" * 1_600 + ") { id } }", LIMIT, "depth"),
    "a nested type": ("query($a: " + "[" * 2_400 + "Int" + "]" * 2_400 + ") { __typename }", LIMIT, "depth"),
    "nested inline fragments": ("{" + "...{" * 1_200 + "__typename" + "}" * 1_200 + "}", LIMIT, "depth"),
    "a chain of fragments": (net(600, 1), LIMIT, "depth"),
    "a shorter chain": (net(190, 1), "", None),
    "a net of fragments": (net(400, 2), LIMIT, "depth"),
    "a wider net": (net(150, 3), LIMIT, "rootFields"),
    "a net with aliases": (aliased_net(100), LIMIT, "aliases"),
    "a ring of fragments": ("{ ...F0 } " + many(500, "fragment F%d on Query { ...F0 }"), INVALID, None),
    "fragments that spread all": (each_spreads(40, range(40)), LIMIT, "rootFields"),
    "fragments without an end": ("{ ...F0 } fragment F0 on Query { ...F0 }", INVALID, None),
    "variables": ("query(" + many(1_200, "$v%d: Int") + ") { __typename }", INVALID, None),
    "variables in use": (
        "query(" + many(600, "$v%d: Int") + ") { webhooks(filter: {models: [" + many(600, "$v%d")
        + "]}) { nodes { id } } }",
        INVALID, None,
    ),
    "arguments": ("{ webhooks(" + many(1_200, "a%d: 1") + ") { nodes { id } } }", INVALID, None),
    "the same argument": ("{ webhooks(" + "first: 1 " * 1_600 + ") { nodes { id } } }", INVALID, None),
    "directives": ("{ __typename " + "@include(if: true) " * 600 + "}", INVALID, None),
    "unknown directives": ("{ __typename " + "@x " * 2_400 + "}", INVALID, None),
    "operations": (many(900, "query Q%d { __typename }"), "BAD_REQUEST", None),
    "the same operation": ("query Q { __typename } " * 900, INVALID, None),
    "operations with fragments": (
        many(300, "query Q%d { ...F0 }") + net(190, 1).removeprefix("{ ...F0 }"), "BAD_REQUEST", None,
    ),
    "a deep introspection": (
        "{ __schema { types { " + "fields { type { " * 3 + "name" + " } }" * 3 + " } } }", INVALID, None,
    ),
    "a wide introspection": (f"{{ __schema {{ types {{ fields {{ type {{ {of_type(SELF, 4)} }} }} }} }} }}", "", None),
    "many introspections": (
        "{ " + many(50, "a%d: __schema { types { name fields { name args { name type { name } } } } }") + "}",
        LIMIT, "introspection",
    ),
    "introspection with aliases": (
        "{ __schema { " + many(99, "a%d: types { fields { type { fields { name type { name } } } } }") + "} }",
        LIMIT, "introspection",
    ),
    "a long name": ("{ " + "x" * 1_000_000 + " }", INVALID, None),
    "a long alias": ("{ " + "x" * 1_000_000 + ": __typename }", "", None),
    "a long type": ("query($a: " + "X" * 1_000_000 + ") { __typename }", INVALID, None),
    "a long enum": ("{ webhooks(filter: {isActive: " + "X" * 1_000_000 + "}) { nodes { id } } }", INVALID, None),
    "a huge whole number": ("{ webhooks(first: " + "9" * 1_000_000 + ") { nodes { id } } }", INVALID, None),
    "a huge fraction": ("{ webhooks(first: " + "9" * 500_000 + "." + "9" * 500_000 + ") { nodes { id } } }", INVALID,
        None),
    "a huge exponent": ("{ webhooks(first: 1e" + "9" * 1_000_000 + ") { nodes { id } } }", INVALID, None),
    "emoji": ('{ webhook(id: "' + "\U0001f600" * 250_000 + '") { id } }', "", None),
    "names in other letters": ("{ " + "я" * 500_000 + " }", UNPARSABLE, None),
    "a list of texts": ("{ webhooks(filter: {models: [" + '"a" ' * 4_900 + "]}) { nodes { id } } }", "", None),
    "a list of wrong values": ("{ webhooks(filter: {models: [" + "1 " * 4_900 + "]}) { nodes { id } } }", INVALID,
        None),
    "unknown fields of an input": ("{ webhooks(filter: {" + many(1_600, "f%d: 1") + "}) { nodes { id } } }", INVALID,
        None),
    "NUL": ("\0" * 1_000_000, UNPARSABLE, None),
    "byte order marks": ("\ufeff" * 100_000 + "{ __typename }", "", None),
}  # fmt: skip
