"""JSON Schemas of declared models: refused schemas, the fields that templates can use, and the findings of items."""

import asyncio
from typing import Any

import orjson
import pytest

from ringback.models.json_schema.compiler import compile_stored, find_compiled, run_in_schema_thread
from ringback.models.json_schema.field_paths import MAX_FIELDS
from ringback.models.json_schema.findings import Finding, quote_path
from ringback.models.json_schema.schema import MAX_FINDINGS, CheckBudget, check_schema
from ringback.models.json_schema.subschemas import SchemaFault
from tests.support.cpu import ordinary_seconds

TEXT = {"type": "string"}


def schema(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", **keywords}


def schema_findings(json_schema: Any) -> list[tuple[str, str]]:
    with pytest.raises(SchemaFault) as caught:
        check_schema(json_schema)
    return [(quote_path(finding.path), finding.message) for finding in caught.value.findings]


def item_findings(json_schema: dict[str, Any], item: Any) -> list[tuple[str, str]]:
    findings = check_schema(json_schema).check(item, len(orjson.dumps(item)), CheckBudget())
    return [(quote_path(finding.path), finding.message) for finding in findings]


def listed_fields(**keywords: Any) -> list[tuple[str, str]]:
    return [(f.path, f.type) for f in check_schema(schema(**keywords)).fields]


def reference_chain(length: int, leaf: Any, link: Any) -> dict[str, Any]:
    """Return a schema with `length` definitions, each of which refers to the next through `link`."""
    defs = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(length)}
    return schema(**{"$ref": "#/$defs/d0", "$defs": {**defs, f"d{length}": leaf}})


def nest(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


TYPES = '"array", "boolean", "integer", "null", "number", "object", "string"'
LOCAL = "must start with #, because nothing is fetched. Copy the subschema into $defs"
PATTERN = (
    "is not a supported pattern. Check its syntax, and use no look-around, no back-references "
    "and no very large repetitions"
)
CIRCLE = "refers to itself for the same value. Remove the circular reference"


@pytest.mark.parametrize(
    ("json_schema", "expected"),
    [
        (True, [("", 'must be an object, such as {"type": "object", "properties": {…}}')]),
        ([], [("", 'must be an object, such as {"type": "object", "properties": {…}}')]),
        ({}, [(".type", 'must be "object", because published items are objects')]),
        ({"type": "array"}, [(".type", 'must be "object", because published items are objects')]),
        ({"type": ["object", "null"]}, [(".type", 'must be "object", because published items are objects')]),
        ({"type": "objekt"}, [(".type", f"must be one of {TYPES}")]),
        (schema(properties={"a": 5}), [(".properties.a", "must be a boolean or an object, not a number")]),
        (schema(properties={"a": {"minimum": "x"}}, required="a"),
         [(".properties.a.minimum", "must be a number, not a string"),
          (".required", "must be an array, not a string")]),
        (schema(**{"$schema": "http://json-schema.org/draft-07/schema#"}),
         [('["$schema"]', "must be https://json-schema.org/draft/2020-12/schema, or be left out")]),
        (schema(**{"$schema": "http://127.0.0.1:9/of-my-own", "$vocabulary": {"http://127.0.0.1:9/v": True}}),
         [('["$schema"]', "must be https://json-schema.org/draft/2020-12/schema, or be left out")]),
        (schema(properties={"a": {"$ref": "http://127.0.0.1:9/x"}}), [('.properties.a["$ref"]', LOCAL)]),
        (schema(properties={"a": {"$ref": "file:///etc/passwd"}}), [('.properties.a["$ref"]', LOCAL)]),
        (schema(properties={"a": {"$ref": "other.json"}}), [('.properties.a["$ref"]', LOCAL)]),
        (schema(properties={"a": {"$dynamicRef": "http://127.0.0.1:9/#x"}}), [('.properties.a["$dynamicRef"]', LOCAL)]),
        (schema(**{"$defs": {"a": {"not": {"items": {"$ref": "urn:x"}}}}}), [('["$defs"].a.not.items["$ref"]', LOCAL)]),
        (schema(properties={"a": {"$id": "http://127.0.0.1:9/y", "$ref": "#"}}),
         [('.properties.a["$id"]', "is allowed only at the top of the schema")]),
        (schema(properties={"a": {"dependencies": {"b": {"pattern": "c"}}}}),
         [(".properties.a.dependencies",
           "is not a keyword of draft 2020-12. Use dependentRequired or dependentSchemas")]),
        (schema(properties={"a": {"$ref": "#/$defs/no"}}),
         [('.properties.a["$ref"]', "refers to '#/$defs/no', which is not a subschema of this schema")]),
        (schema(properties={"a": {"$ref": "#no"}}),
         [('.properties.a["$ref"]', "refers to '#no', which is not a subschema of this schema")]),
        (schema(properties={"a": {"$ref": "#/required"}}, required=["a"]),
         [('.properties.a["$ref"]', "refers to '#/required', which is not a subschema of this schema")]),
        (schema(**{"$ref": "#"}), [("", CIRCLE)]),
        (schema(properties={"x": {"allOf": [{"$ref": "#/$defs/a"}]}},
                **{"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}),
         [(".properties.x", CIRCLE)]),
        (schema(properties={"a": {"pattern": "(?=x)y"}}), [(".properties.a.pattern", PATTERN)]),
        (schema(properties={"a": {"pattern": r"(a)\1"}}), [(".properties.a.pattern", PATTERN)]),
        (schema(properties={"a": {"pattern": "("}}), [(".properties.a.pattern", PATTERN)]),
        (schema(properties={"a": {"pattern": "((a{100}){100}){100}"}}), [(".properties.a.pattern", PATTERN)]),
        (schema(description="x" * 262_144), [("", "has 262,178 bytes; 262,144 are allowed")]),
        (schema(properties={f"p{n}": {} for n in range(2_000)}), [("", "has more than 2,000 subschemas")]),
        (nest(400, {}), [("", "is nested too deeply")]),
        (reference_chain(300, TEXT, lambda ref: ref),
         [("", "applies more than 256 subschemas to one value, references included")]),
        (reference_chain(12, TEXT, lambda ref: {"allOf": [ref, ref]}),
         [("", "applies more than 256 subschemas to one value, references included")]),
    ],
)  # fmt: skip
@pytest.mark.measures_cpu
def test_a_schema_that_is_refused(json_schema: Any, expected: list[tuple[str, str]]) -> None:
    assert schema_findings(json_schema) == expected
    assert ordinary_seconds(lambda: schema_findings(json_schema)) < 5


def test_a_schema_full_of_mistakes_is_refused_quickly() -> None:
    assert len(schema_findings(schema(properties={f"p{n}": n for n in range(15_000)}))) == 1
    assert len(schema_findings(schema(properties={f"p{n}": n for n in range(200)}))) == MAX_FINDINGS


def test_a_schema_with_too_many_edges_is_refused() -> None:
    parts: list[dict[str, Any]] = [{"properties": {f"p{part}.{n}": {} for n in range(19)}} for part in range(90)]
    assert schema_findings(schema(allOf=parts)) == [
        ("", "has too many subschemas that refer to one another. Simplify it")
    ]


@pytest.mark.measures_cpu
def test_definitions_that_refer_to_one_another_compile_quickly() -> None:
    definitions = {f"d{n}": {"properties": {f"p{m}": {"$ref": f"#/$defs/d{m}"} for m in range(40)}} for n in range(40)}
    assert ordinary_seconds(lambda: check_schema(schema(**{"$ref": "#/$defs/d0", "$defs": definitions}))) < 5


@pytest.mark.parametrize(
    "json_schema",
    [
        schema(**{"$schema": "https://json-schema.org/draft/2020-12/schema#", "$id": "https://part.example/schema"}),
        schema(**{"$vocabulary": {"http://127.0.0.1:9/v": True}}),
        schema(**{"$dynamicRef": "#node", "$defs": {"n": {"$dynamicAnchor": "node", "properties": {"a": TEXT}}}}),
        schema(properties={"$ref": {"const": {"$ref": "http://127.0.0.1:9/"}}, "b": {"format": "no-such-format"}}),
        schema(properties={"a": {"pattern": r"^[\p{L} ]{1,100}$"}, "b": {"pattern": "^(a+)+$"}}),
        schema(properties={"a": {"$ref": "#/definitions/x~1y%20z"}}, definitions={"x/y z": TEXT}),
    ],
)  # fmt: skip
def test_a_schema_that_is_accepted(json_schema: dict[str, Any]) -> None:
    assert item_findings(json_schema, {}) == []


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, [("item.*", "json")]),
        ({"additionalProperties": False}, []),
        ({"properties": {"a": TEXT}}, [("item.a", "string")]),
        ({"properties": {"a": TEXT}, "additionalProperties": True}, [("item.a", "string"), ("item.*", "json")]),
        ({"properties": {"a": TEXT}, "patternProperties": {"^x": TEXT}}, [("item.a", "string"), ("item.*", "string")]),
        ({"properties": {"a": TEXT}, "unevaluatedProperties": TEXT}, [("item.a", "string"), ("item.*", "string")]),
        ({"patternProperties": {"^x": TEXT}, "additionalProperties": {"type": "integer"}}, [("item.*", "json")]),
        ({"properties": {"a": False, "b": True}}, [("item.b", "json")]),
        ({"properties": {"a b": TEXT, "c-d": TEXT, "e.f": schema(properties={"[]": TEXT})}},
         [('item["a b"]', "string"), ("item.c-d", "string"), ('item["e.f"]', "object"),
          ('item["e.f"]["[]"]', "string")]),
        ({"properties": {
            "a": {"type": ["string", "null"]}, "b": {"type": ["string", "integer"]}, "c": {"enum": [1, 2, None]},
            "d": {"const": "x"}, "e": {"type": "string", "format": "uuid"}, "f": {"format": "date", "type": "string"},
            "g": {"type": ["integer", "number"]}, "h": {"type": "boolean"}, "i": {"anyOf": [TEXT, {"type": "null"}]},
            "j": {"minimum": 3}, "k": {"items": TEXT}, "l": {"required": ["x"]}}},
         [("item.a", "string"), ("item.b", "json"), ("item.c", "integer"), ("item.d", "string"), ("item.e", "id"),
          ("item.f", "date"), ("item.g", "float"), ("item.h", "boolean"), ("item.i", "string"), ("item.j", "json"),
          ("item.k", "list"), ("item.k[]", "string"), ("item.l", "object"), ("item.l.*", "json")]),
        ({"properties": {"a": {"type": "array", "prefixItems": [TEXT, {"type": "array", "items": schema(
            properties={"x": TEXT})}]}, "b": {"type": "array"}, "c": {"type": "array", "items": {}},
            "d": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            "e": {"type": "array", "items": {"type": "object"}}}},
         [("item.a", "list"), ("item.a[]", "json"), ("item.a[][].x", "string"), ("item.b", "list"), ("item.c", "list"),
          ("item.c[]", "json"),
                   ("item.d", "list"), ("item.d[]", "list"), ("item.d[][]", "integer"), ("item.e", "list"),
          ("item.e[].*", "json")]),
        ({"allOf": [{"properties": {"a": TEXT}}, {"$ref": "#/$defs/b"}],
          "oneOf": [{"properties": {"c": schema(properties={"x": TEXT})}}, {"properties": {"c": schema(
              properties={"y": TEXT})}}],
          "if": {"properties": {"k": {"const": 1}}}, "then": {"properties": {"d": TEXT}},
          "dependentSchemas": {"a": {"properties": {"e": TEXT}}}, "not": {"required": ["z"]},
          "$defs": {"b": {"properties": {"b": TEXT}, "title": "B"}}},
         [("item.a", "string"), ("item.b", "string"), ("item.c", "object"), ("item.c.x", "string"),
          ("item.c.y", "string"), ("item.e", "string"), ("item.k", "integer"), ("item.d", "string")]),
        ({"properties": {"name": TEXT, "parent": {"$ref": "#"}}},
         [("item.name", "string"), ("item.parent", "object"), ("item.parent.name", "string"),
          ("item.parent.parent", "object"), ("item.parent.parent.*", "json")]),
        ({"properties": {"tree": {"$ref": "#node"}}, "$defs": {"node": {"$anchor": "node", "type": "object",
          "properties": {"v": TEXT, "kids": {"type": "array", "items": {"$ref": "#node"}}}}}},
         [("item.tree", "object"), ("item.tree.v", "string"), ("item.tree.kids", "list"),
          ("item.tree.kids[].v", "string"),
          ("item.tree.kids[].kids", "list"), ("item.tree.kids[].kids.*", "json")]),
    ],
)  # fmt: skip
def test_fields(keywords: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert listed_fields(**keywords) == expected


DECIMAL = {"type": "string", "format": "decimal"}
NUMBER = {"type": "number"}


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (DECIMAL, "decimal"),
        ({"type": ["string", "number"], "format": "decimal"}, "decimal"),
        ({"type": ["string", "integer", "null"], "format": "decimal"}, "decimal"),
        ({"anyOf": [NUMBER, DECIMAL]}, "decimal"),
        ({"oneOf": [{"$ref": "#/$defs/decimal"}, {"type": "null"}, {"type": "integer"}]}, "decimal"),
        ({"type": "string", "$ref": "#/$defs/decimal"}, "decimal"),
        ({"allOf": [{"type": ["string", "null"]}, {"format": "decimal"}]}, "decimal"),
        ({"type": "string", "anyOf": [{"format": "decimal", "maxLength": 9}, {"format": "decimal"}]}, "decimal"),
        ({"type": ["string", "boolean", "number"], "format": "decimal"}, "json"),
        ({"anyOf": [{"const": "on request"}, DECIMAL]}, "decimal or string"),
        ({"anyOf": [{"type": ["string", "number"]}, DECIMAL]}, "decimal or string"),
        ({"allOf": [{"anyOf": [TEXT, DECIMAL]}, TEXT]}, "decimal or string"),
        ({"allOf": [TEXT, {"anyOf": [TEXT, DECIMAL]}, DECIMAL]}, "decimal"),
        ({"anyOf": [{"format": "date"}, {"format": "date-time"}], "type": "string"}, "string"),
        ({"type": "string", "not": {"format": "decimal"}}, "string"),
        ({"type": "string", "if": {"minLength": 2}, "then": {"format": "decimal"}}, "string"),
        ({"type": "number", "format": "decimal"}, "float"),
        ({"allOf": [NUMBER, {"type": "integer"}]}, "integer"),
        ({"enum": [1, 1.5]}, "float"),
        ({"type": "string", "enum": ["a", None, 1]}, "string"),
        ({"anyOf": [TEXT, {"minLength": 3}]}, "json"),
        ({"allOf": [TEXT, NUMBER]}, "json"),
    ],
)
def test_the_type_of_a_field_is_what_its_alternatives_have_in_common(keywords: dict[str, Any], expected: str) -> None:
    assert listed_fields(properties={"a": keywords}, **{"$defs": {"decimal": DECIMAL}}) == [("item.a", expected)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (DECIMAL, {"type": ["null", "number"]}, "decimal"),
        (DECIMAL, TEXT, "decimal or string"),
        (DECIMAL, True, "json"),
        (TEXT, False, "string"),
    ],
)
def test_a_field_of_alternative_objects(first: Any, second: Any, expected: str) -> None:
    alternatives = [{"properties": {"a": first}}, {"properties": {"a": second}}]
    assert listed_fields(oneOf=alternatives) == [("item.a", expected)]
    assert listed_fields(properties={"a": TEXT}, anyOf=alternatives) == [("item.a", "string")]


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"prefixItems": [TEXT, DECIMAL]}, "decimal or string"),
        ({"prefixItems": [NUMBER, NUMBER], "items": False}, "float"),
        ({"prefixItems": [DECIMAL], "items": DECIMAL}, "decimal"),
        ({"prefixItems": [DECIMAL], "items": True}, "json"),
        ({"items": DECIMAL}, "decimal"),
        ({"allOf": [{"items": TEXT}, {"items": {"format": "decimal"}}]}, "decimal"),
        ({"anyOf": [{"items": TEXT}, {"items": DECIMAL}]}, "decimal or string"),
    ],
)
def test_the_type_of_elements(keywords: dict[str, Any], expected: str) -> None:
    fields = listed_fields(properties={"a": {"type": "array", **keywords}})
    assert fields == [("item.a", "list"), ("item.a[]", expected)]


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"additionalProperties": DECIMAL}, [("item.a.*", "decimal")]),
        ({"patternProperties": {"^[A-Z]{3}$": DECIMAL, "^[a-z]{3}$": NUMBER}}, [("item.a.*", "decimal")]),
        ({"additionalProperties": True}, [("item.a.*", "json")]),
        ({"additionalProperties": DECIMAL, "properties": {"b": TEXT}},
         [("item.a.b", "string"), ("item.a.*", "decimal")]),
        ({"additionalProperties": schema(properties={"price": DECIMAL})},
         [("item.a.*", "object"), ("item.a.*.price", "decimal")]),
        ({"additionalProperties": {"type": "array", "items": DECIMAL}},
         [("item.a.*", "list"), ("item.a.*[]", "decimal")]),
    ],
)  # fmt: skip
def test_the_type_of_fields_of_any_name(keywords: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert listed_fields(properties={"a": schema(**keywords)}) == [("item.a", "object"), *expected]


def test_fields_are_described() -> None:
    compiled = check_schema(
        schema(properties={"a": {"title": "T", "allOf": [{"description": "D"}]}, "b": {"title": "T"}})
    )
    assert [f.description for f in compiled.fields] == ["D", "T"]


def test_the_fields_of_a_huge_schema_are_bounded() -> None:
    """Two fields at each of sixty levels."""
    compiled = check_schema(reference_chain(60, TEXT, lambda ref: schema(properties={"a": ref, "b": ref})))
    assert MAX_FIELDS <= len(compiled.fields) < 3 * MAX_FIELDS
    assert {f.path for f in compiled.fields} >= {"item.a", "item.b", "item.a.a"}
    deep = check_schema(schema(properties=nest(40, {"properties": {}})))
    assert max(len(f.path.split(".")) for f in deep.fields) < 15


def test_top_level_names() -> None:
    compiled = check_schema(schema(properties={"a": TEXT, "b": False}, allOf=[{"properties": {"c": TEXT}}]))
    assert set(compiled.names) == {"a", "c"}


ONE_RULE_A_FIELD = schema(
    properties={
        "enum": {"enum": ["a", "b"]}, "const": {"const": 1}, "many": {"multipleOf": 3}, "pattern": {"pattern": "^a$"},
        "mail": {"format": "email"}, "unique": {"uniqueItems": True}, "contains": {"contains": TEXT},
        "not": {"not": TEXT}, "few": {"minItems": 2}, "long": {"maxLength": 2}, "short": {"minLength": 2},
        "less": {"exclusiveMaximum": 2}, "big": {"exclusiveMinimum": 2}, "full": {"maxProperties": 1},
        "never": False, "whole": {"type": "integer"},
        "names": {"propertyNames": {"maxLength": 1}},
        "closed": {"properties": {"a": {}}, "additionalProperties": False},
        "strict": {"unevaluatedProperties": False}, "either": {"oneOf": [{"minimum": 1}, {"maximum": 5}]},
        "any": {"anyOf": [TEXT, {"type": "null"}]},
        "maybe": {"anyOf": [schema(properties={"x": TEXT}), {"type": "null"}]},
        "empty": {"additionalProperties": False}, "row": {"prefixItems": [True], "items": False},
        "tail": {"prefixItems": [True], "unevaluatedItems": False},
        "two": {"oneOf": [schema(required=["a"]), schema(required=["b"])]},
    },
    dependentRequired={"enum": ["const"]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"enum": "c", "const": 1}, [(".enum", 'must be one of "a", "b"')]),
        ({"enum": "a"}, [(".const", "is missing")]),
        ({"const": 2}, [(".const", "must be 1")]),
        ({"many": 2}, [(".many", "must be a multiple of 3")]),
        ({"pattern": "b"}, [(".pattern", "must match the pattern ^a$")]),
        ({"mail": "b"}, [(".mail", "must be a valid email")]),
        ({"unique": [1, 1]}, [(".unique", "must not contain the same element twice")]),
        ({"contains": [1]}, [(".contains", "has too few or too many elements that match the schema's `contains`")]),
        ({"not": ""}, [(".not", "is not allowed by the schema's `not`")]),
        ({"few": [1]}, [(".few", "must have at least 2 elements")]),
        ({"long": "abc"}, [(".long", "must have at most 2 characters")]),
        ({"short": "a"}, [(".short", "must have at least 2 characters")]),
        ({"less": 2}, [(".less", "must be less than 2")]),
        ({"big": 2}, [(".big", "must be more than 2")]),
        ({"full": {"a": 1, "b": 2}}, [(".full", "must have at most 1 fields")]),
        ({"never": 1}, [(".never", "is not a field of this model")]),
        ({"names": {"ab": 1}},
         [(".names", "has a field with an invalid name: the name must have at most 1 characters")]),
        ({"closed": {"a": 1, "b": 2, "c d": 3}},
         [(".closed.b", "is not a field of this model"), ('.closed["c d"]', "is not a field of this model")]),
        ({"empty": {"a": 1}}, [(".empty", "must have no fields")]),
        ({"row": [1, 2]}, [(".row[1]", "is not allowed by the schema")]),
        ({"tail": [1, 2]}, [(".tail", "is not allowed by the schema's `unevaluatedItems`")]),
        ({"strict": {"a": 1}}, [(".strict.a", "is not a field of this model")]),
        ({"strict": {f"a{n}": 1 for n in range(12)}},
         [*((f".strict.a{n}", "is not a field of this model") for n in range(10)),
          (".strict", "has 2 more fields that this model does not have")]),
        ({"either": 3},
         [(".either", "matches more than one alternative of the schema's `oneOf`, but must match exactly one")]),
        ({"any": 1}, [(".any", "must be a string or null, not a number")]),
        ({"maybe": {"x": 1}}, [(".maybe.x", "must be a string, not a number")]),
        ({"two": {}}, [(".two", "matches none of the schema's 2 alternatives")]),
        ({"whole": 1.5}, [(".whole", "must be an integer, not a decimal number")]),
        ({"two": 5}, [(".two", "must be an object, not a number")]),
        ([], [("", "must be an object, not an array")]),
    ],
)  # fmt: skip
def test_findings_of_an_item(item: Any, expected: list[tuple[str, str]]) -> None:
    assert item_findings(ONE_RULE_A_FIELD, item) == expected


def test_a_path_is_written_as_in_liquid() -> None:
    assert quote_path(("a_b", 2, "c d", "x-y", 'q"')) == '.a_b[2]["c d"].x-y["q\\""]'
    assert len(quote_path(("x" * 10_000,))) == 500


def test_a_long_field_name_is_cut() -> None:
    ((path, _),) = item_findings(schema(properties={"a": {}}, additionalProperties=False), {"x y" * 50_000: 1})
    assert path == '["' + "x y" * 166


@pytest.mark.measures_cpu
def test_a_costly_item_is_refused_by_its_depth() -> None:
    """Two branches for each value: every level doubles the visits."""
    recursive = schema(anyOf=[{"properties": {"a": {"$ref": "#"}}, "required": ["y"]},
                       {"properties": {"a": {"$ref": "#"}}}])  # fmt: skip
    assert item_findings(recursive, nest(8, {})) == []
    ((path, message),) = item_findings(recursive, nest(60, {}))
    assert (path, message) == ("", "is too large or nested too deeply to be checked against its schema")
    assert ordinary_seconds(lambda: item_findings(recursive, nest(60, {}))) < 1
    # With one branch for each value the cost of a value does not depend on the depth.
    plain = schema(properties={"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}})
    assert item_findings(plain, nest(60, None)) == []
    assert item_findings(plain, nest(60, 5)) == [(".a" * 60, "must be an object or null, not a number")]


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "(a*)*b", r"(\w+\d?){10}[^\w]", r"(.{0,100}a){8}[^\w]", r"(a?){100}a{100}$"]
)
@pytest.mark.measures_cpu
def test_a_pattern_cannot_hang(pattern: str) -> None:
    compiled = check_schema(schema(properties={"a": {"pattern": pattern}}))
    item = {"a": "xa" + "ab1" * 80_000 + "!"}
    assert ordinary_seconds(lambda: compiled.check(item, 240_010, CheckBudget())) < 2


def test_of_a_large_item_only_the_first_error_is_listed() -> None:
    plain = check_schema(schema(properties={"a": {"items": TEXT}}))
    with_alternatives = check_schema(schema(properties={"a": {"items": {"anyOf": [TEXT, {"type": "null"}]}}}))
    large = {"a": [1] * 60_000}
    size = len(orjson.dumps(large))

    (first,) = plain.check(large, size, CheckBudget())
    (unlisted,) = with_alternatives.check(large, size, CheckBudget())

    assert (first.path, first.message) == (("a", 0), "must be a string, not a number")
    assert unlisted.message == "does not match the schema. The input is too large to list the errors"
    assert plain.check({"a": ["x"] * 60_000}, 240_000, CheckBudget()) == []


def test_listing_findings_is_limited_by_the_budget() -> None:
    compiled = check_schema(schema(properties={"a": {"items": TEXT}}))
    budget = CheckBudget()
    item = {"a": [1] * 2_500}

    findings = [len(compiled.check(item, 5_010, budget)) for _ in range(14)]

    assert findings == [MAX_FINDINGS] * 11 + [1] * 3


LONG = "x" * 100_000
MISSING = [f"n{n}" for n in range(300)]
#: Schemas and items whose errors would take much memory: each holds its value, its path and a part of the schema.
LARGE_ERRORS: dict[str, tuple[dict[str, Any], Any]] = {
    "values": (schema(required=MISSING), {"a": LONG}),
    "objects": (schema(required=MISSING), {"a": [{"": 0}] * 2_000}),
    "dependencies": (schema(dependentRequired={"a": MISSING}), {"a": LONG}),
    "paths": (schema(additionalProperties={"items": TEXT}), {LONG: [1] * 300}),
    "options": (schema(properties={"a": {"items": {"enum": [LONG]}}}), {"a": [1] * 300}),
}


@pytest.mark.parametrize("case", LARGE_ERRORS)
def test_errors_that_take_much_memory_are_not_listed(case: str) -> None:
    json_schema, item = LARGE_ERRORS[case]
    assert len(item_findings(json_schema, item)) == 1


def test_errors_of_a_schema_with_long_names_are_not_listed() -> None:
    assert len(schema_findings(schema(properties={LONG: {"allOf": [1] * 300}}))) == 1


def test_all_errors_of_an_order_are_listed() -> None:
    line = {"properties": dict.fromkeys(("sku", "price", "country", "note", "tax", "total"), TEXT)}
    item = {"lines": [dict.fromkeys(line["properties"], 1)] * 16}

    assert len(item_findings(schema(properties={"lines": {"items": line}}), item)) == 96


def test_the_checks_of_one_call_are_limited_together() -> None:
    compiled = check_schema(schema(properties={"a": {"items": {"allOf": [{"minimum": n} for n in range(200)]}}}))
    item = {"a": [300] * 1_500}
    budget = CheckBudget()

    findings = [compiled.check(item, 6_010, budget) for _ in range(12)]

    refused = Finding(
        (), "is not checked, because the other items of this call took long. Send fewer in one call", is_limit=True
    )
    assert findings[0] == []
    assert findings[-1] == [refused]


def test_a_stored_schema_is_compiled_once() -> None:
    text = orjson.dumps(schema(properties={"a": TEXT})).decode()
    assert compile_stored(text) is compile_stored(str(text.encode(), "utf-8")) is find_compiled(text)
    assert compile_stored(text.replace("a", "b")) is not compile_stored(text)


def test_compiled_schemas_are_forgotten_when_they_take_much_memory() -> None:
    texts = [orjson.dumps(schema(properties={"a": {"pattern": rf"^\p{{L}}{{50}}{n}$"}})).decode() for n in range(5)]

    for text in texts:
        compile_stored(text)

    assert find_compiled(texts[0]) is None
    assert find_compiled(texts[-1]) is not None


def test_large_schemas_do_not_evict_small_ones() -> None:
    small = orjson.dumps(schema(properties={"small": TEXT})).decode()
    compile_stored(small)

    for n in range(4):
        compile_stored(orjson.dumps(schema(properties={"a": {"pattern": rf"^\p{{L}}{{90}}{n}$"}})).decode())

    assert find_compiled(small) is not None


async def test_schemas_take_turns_in_the_thread() -> None:
    order: list[str] = []
    calls = [run_in_schema_thread("often", order.append, f"often {n}") for n in range(20)]

    await asyncio.gather(*calls, run_in_schema_thread("seldom", order.append, "seldom"))

    assert order.index("seldom") <= 2


PATTERNS_TOO_LARGE = (
    "makes the patterns of this schema too large. Shorten it, or use maxLength or enum "
    "instead of large repetitions and long lists"
)


@pytest.mark.parametrize(
    "patterns",
    [
        [f"(a{{1,100}}){{1,100}}{n}" for n in range(20)],
        [rf"\p{{L}}{{30}}{n}" for n in range(20)],
        [f"^{n}$" for n in range(1_000)],
        ["|".join(f"abc{n}" for n in range(5_000))],
        [r"\w" * 300],
    ],
    ids=["repetitions", "unicode", "many", "long", "escapes"],
)
@pytest.mark.measures_cpu
def test_patterns_that_take_much_memory_or_time_are_refused(patterns: list[str]) -> None:
    json_schema = schema(properties={f"p{n}": {"pattern": pattern} for n, pattern in enumerate(patterns)})

    ((path, message),) = schema_findings(json_schema)

    assert path.endswith(".pattern")
    assert message == PATTERNS_TOO_LARGE
    assert ordinary_seconds(lambda: schema_findings(json_schema)) < 0.5


def test_a_pattern_that_occurs_often_counts_once() -> None:
    properties = {f"p{n}": {"pattern": r"^[\p{L} ]{1,100}$"} for n in range(100)}
    assert item_findings(schema(properties=properties), {"p0": "Ada"}) == []


def nest_unevaluated(depth: int, keyword: str) -> dict[str, Any]:
    nested: dict[str, Any] = {"properties": {"x": {}}}
    for _ in range(depth):
        nested = {"allOf": [nested], keyword: False}
    return nested


@pytest.mark.parametrize("keyword", ["unevaluatedProperties", "unevaluatedItems"])
def test_nested_unevaluated_keywords_are_refused(keyword: str) -> None:
    """jsonschema-rs evaluates what is below each three times, so 60 levels would take forever."""
    message = "nests unevaluatedProperties or unevaluatedItems too deeply. Keep only the outermost"
    assert schema_findings(schema(properties={"a": nest_unevaluated(60, keyword)}))[-1][1] == message
    assert item_findings(schema(properties={"a": nest_unevaluated(3, keyword)}), {"a": {"x": 1}}) == []


NAMES = [f"n{n}" for n in range(2_000)]
COSTLY: dict[str, tuple[dict[str, Any], Any]] = {
    "subschemas": ({"items": {"allOf": [{"minimum": n} for n in range(200)]}}, [300] * 40_000),
    "enum": ({"items": {"enum": [*range(20_000), "x"]}}, ["x"] * 2_000),
    "enum of objects": ({"items": {"enum": [{"a": n} for n in range(5_000)]}}, [{"a": 4_999}] * 2_000),
    "dependencies": ({"items": {"dependentRequired": {name: ["a"] for name in NAMES}}}, [{}] * 20_000),
    "true": ({"items": {"allOf": [True] * 20_000}}, [1] * 20_000),
    "fractions": ({"items": {"multipleOf": 1e-300}}, [1e300] * 20_000),
    "unique": ({"items": {"uniqueItems": True}}, [[[n] * 15] * 15 for n in range(600)]),
    "pattern": ({"pattern": "(a|b)*a(a|b){6000}[^ab]"}, "ab" * 20_000),
    "names": ({"patternProperties": {f"[ab]*a[ab]{{9}}{n}$": True for n in range(200)}}, {"ab" * 5_000: 1}),
    "domains": ({"items": {"format": "idn-hostname"}}, ["ä.ö.ü.example" * 3] * 6_000),
}


@pytest.mark.parametrize("case", COSTLY)
@pytest.mark.measures_cpu
def test_a_costly_item_is_refused_instead_of_checked(case: str) -> None:
    keywords, value = COSTLY[case]
    compiled = check_schema(schema(properties={"a": keywords}))
    item = {"a": value}
    size = len(orjson.dumps(item))

    (finding,) = compiled.check(item, size, CheckBudget())

    assert finding.is_limit
    assert finding.message == "is too large or nested too deeply to be checked against its schema"
    assert ordinary_seconds(lambda: compiled.check(item, size, CheckBudget())) < 2


def test_an_ordinary_item_is_far_below_the_limits() -> None:
    """An order with 500 lines, all of whose keywords are in use."""
    line = {
        "type": "object",
        "required": ["sku", "price"],
        "properties": {
            "sku": {"pattern": "^[A-Z]{3}-[0-9]{4}$"},
            "price": {"type": "number", "multipleOf": 0.01},
            "country": {"enum": [f"C{n}" for n in range(250)]},
            "note": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
        },
    }
    compiled = check_schema(schema(properties={"lines": {"items": line, "uniqueItems": True}}))
    one = {"sku": "ABC-1234", "price": 9.99, "country": "C249", "note": "x" * 100}
    item = {"lines": [{**one, "sku": f"ABC-{n:04}"} for n in range(500)]}

    findings = compiled.check(item, len(orjson.dumps(item)), CheckBudget())

    assert findings == []


def test_the_characters_of_fields_are_limited() -> None:
    properties: dict[str, Any] = {f"p{n}": {} for n in range(1_000)}
    fields = check_schema(schema(properties={"x" * 1_000: schema(properties=properties)})).fields
    assert [info.path for info in fields] == [f"item.{'x' * 1_000}", f"item.{'x' * 1_000}.*"]
