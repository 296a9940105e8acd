"""Fuzzed JSON Schemas and items on the started program: an answer always comes, soon, and takes little memory."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.proof.test_attack_declared_models import DECLARE, PUBLISH, change, check_log, declaration
from tests.support.bystander import measure_attack
from tests.support.program import Program

pytestmark = pytest.mark.alone

#: Schemas that are declared. Making one takes as long as declaring it.
EXAMPLES = 150
_ATOMS = ["a", ".", r"\w", r"\s", r"\p{L}", "[^a-c]", "(?i)k", "é", r"\u0041", "$", "^", "(", "[", "\\"]
_REPEATS = ["", "*", "+?", "{1,30}", "{200}", "{1,1000}", "{99999}"]
_NAMES = st.sampled_from(["a", "b", "$ref", "", "x y"])

patterns = st.recursive(
    st.sampled_from(_ATOMS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(_REPEATS)).map(lambda part: f"({part[0]}){part[1]}"),
        st.lists(inner, max_size=30).map("".join),
        st.lists(inner, max_size=9).map("|".join),
        st.tuples(inner, st.integers(1, 50)).map(lambda part: (part[0] * part[1])[:2_000]),
    ),
    max_leaves=6,
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a", "ab" * 1_000, "é" * 300, "2026-01-31", "ä.ö.example"]),
)
items = st.recursive(
    scalars | st.tuples(scalars, st.integers(1, 500)).map(lambda part: [part[0]] * part[1]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(_NAMES, inner, max_size=4),
    ),
    max_leaves=8,
)


def _keywords(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Return schemas with some keywords, which hold the schemas of `inner`."""
    lists, maps = st.lists(inner, min_size=1, max_size=6), st.dictionaries(_NAMES, inner, max_size=4)
    numbers = st.sampled_from([0, 1, 3, 0.01, 1e-300, 1e300, 2**62])
    repeated = st.integers(1, 200).map(lambda count: [{"enum": ["a", count]}] * count)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", "number", ["string", "null"]]),
            "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#a", "http://127.0.0.1:9/"]),
            "allOf": st.one_of(lists, repeated), "anyOf": lists, "oneOf": repeated, "not": inner, "if": inner,
            "properties": maps, "patternProperties": st.dictionaries(patterns, inner, max_size=2),
            "additionalProperties": inner, "unevaluatedProperties": inner, "unevaluatedItems": inner,
            "propertyNames": inner, "items": inner, "prefixItems": lists, "contains": inner,
            "dependentSchemas": maps, "required": st.lists(_NAMES, unique=True, max_size=4),
            "pattern": patterns, "format": st.sampled_from(["idn-email", "regex", "uri", "date-time", "none"]),
            "enum": st.lists(scalars, min_size=1, max_size=9), "const": items, "uniqueItems": st.booleans(),
            "multipleOf": numbers, "maxItems": numbers, "maxLength": numbers,
        },
    )  # fmt: skip


schemas = st.recursive(st.booleans() | _keywords(st.booleans()), _keywords, max_leaves=6)


@st.composite
def model_schemas(draw: st.DrawFn) -> dict[str, object]:
    """Return the schema of a model, whose references can be right."""
    drawn = draw(schemas)
    keywords = drawn if isinstance(drawn, dict) else {}
    return {**keywords, "type": "object", "$defs": {"a": draw(schemas), "b": draw(schemas)}}


def test_fuzzed_schemas_and_items(own_program: Program) -> None:
    accepted = refused = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(model_schemas(), st.lists(st.dictionaries(_NAMES, items, max_size=4), min_size=1, max_size=8))
    def declare_and_publish(json_schema: dict[str, object], published: list[dict[str, object]]) -> None:
        nonlocal accepted, refused
        status, answer = own_program.post(
            {"query": DECLARE, "variables": {"input": declaration("fuzzed", json_schema)}}
        )
        assert status < 500, answer
        declared = (answer.get("data") or {}).get("declareModel")
        if declared is None or declared["model"] is None:
            refused += 1
            return
        accepted += 1
        changes = {"changes": [change("fuzzed", item) for item in published]}
        status, answer = own_program.post({"query": PUBLISH, "variables": {"input": changes}})
        assert status < 500, answer

    with measure_attack(own_program) as cost:
        declare_and_publish()

    print(f"{accepted} schemas accepted, {refused} refused")
    cost.check()
    assert cost.longest_ms < 1_000
    assert accepted > 10
    assert refused > 10
    check_log(own_program)
