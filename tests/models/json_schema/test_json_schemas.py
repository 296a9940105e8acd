"""JSON Schemas of declared models: which are refused and where, what fields they have, and what items get told."""

from typing import Any

import orjson
import pytest

from ringback.models.json_schema.field_paths import MAX_FIELDS
from ringback.models.json_schema.findings import quote_path
from ringback.models.json_schema.schema import MAX_FINDINGS, MAX_LOOKS, CheckBudget, JsonSchema, check_schema, load
from ringback.models.json_schema.subschemas import SchemaFault
from tests.support.cpu import ordinary_seconds

TEXT = {"type": "string"}


def schema(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", **keywords}


def faults(of: Any) -> list[tuple[str, str]]:
    with pytest.raises(SchemaFault) as refused:
        check_schema(of)
    return [(quote_path(f.path), f.message) for f in refused.value.findings]


def found(of: dict[str, Any], item: Any) -> list[tuple[str, str]]:
    findings = check_schema(of).check(item, len(orjson.dumps(item)), CheckBudget())
    return [(quote_path(f.path), f.message) for f in findings]


def fields(**keywords: Any) -> list[tuple[str, str]]:
    return [(f.path, f.type) for f in check_schema(schema(**keywords)).fields]


def chain(length: int, leaf: Any, link: Any) -> dict[str, Any]:
    """A schema whose definitions lead one to the next."""
    defs = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(length)}
    return schema(**{"$ref": "#/$defs/d0", "$defs": {**defs, f"d{length}": leaf}})


def nested(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


TYPES = '"array", "boolean", "integer", "null", "number", "object", "string"'
LOCAL = "must begin with #: nothing is fetched; put what it refers to into $defs"
PATTERN = "no pattern that can be used: neither look-around nor back-references, and no huge repetitions"


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (True, [("", 'must be an object, such as {"type": "object", "properties": {…}}')]),
        ([], [("", 'must be an object, such as {"type": "object", "properties": {…}}')]),
        ({}, [(".type", 'must be "object": what is published are objects')]),
        ({"type": "array"}, [(".type", 'must be "object": what is published are objects')]),
        ({"type": ["object", "null"]}, [(".type", 'must be "object": what is published are objects')]),
        ({"type": "objekt"}, [(".type", f"must be one of {TYPES}")]),
        (schema(properties={"a": 5}), [(".properties.a", "not a boolean or an object, but a number")]),
        (schema(properties={"a": {"minimum": "x"}}, required="a"),
         [(".properties.a.minimum", "not a number, but a string"), (".required", "not a list, but a string")]),
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
         [('.properties.a["$id"]', "may stand only at the top of the schema")]),
        (schema(properties={"a": {"$ref": "#/$defs/no"}}),
         [('.properties.a["$ref"]', "leads to no subschema: '#/$defs/no'")]),
        (schema(properties={"a": {"$ref": "#no"}}), [('.properties.a["$ref"]', "leads to no subschema: '#no'")]),
        (schema(properties={"a": {"$ref": "#/required"}}, required=["a"]),
         [('.properties.a["$ref"]', "leads to no subschema: '#/required'")]),
        (schema(**{"$ref": "#"}), [("", "refers to itself in a circle: it would never be decided")]),
        (schema(properties={"x": {"allOf": [{"$ref": "#/$defs/a"}]}},
                **{"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}),
         [(".properties.x", "refers to itself in a circle: it would never be decided")]),
        (schema(properties={"a": {"pattern": "(?=x)y"}}), [(".properties.a.pattern", PATTERN)]),
        (schema(properties={"a": {"pattern": r"(a)\1"}}), [(".properties.a.pattern", PATTERN)]),
        (schema(properties={"a": {"pattern": "("}}), [(".properties.a.pattern", PATTERN)]),
        (schema(properties={"a": {"pattern": "((a{100}){100}){100}"}}), [(".properties.a.pattern", PATTERN)]),
        (schema(description="x" * 262_144), [("", "has 262,178 bytes; 262,144 are allowed")]),
        (schema(properties={f"p{n}": {} for n in range(2_000)}), [("", "has more than 2,000 subschemas")]),
        (nested(400, {}), [("", "is nested too deeply")]),
        (chain(300, TEXT, lambda ref: ref),
         [("", "has more than 256 subschemas for the same value, references followed")]),
        (chain(12, TEXT, lambda ref: {"allOf": [ref, ref]}),
         [("", "has more than 256 subschemas for the same value, references followed")]),
    ],
)  # fmt: skip
@pytest.mark.measures_cpu
def test_a_schema_that_is_refused(of: Any, expected: list[tuple[str, str]]) -> None:
    assert faults(of) == expected
    assert ordinary_seconds(lambda: faults(of)) < 5


def test_a_schema_of_nothing_but_mistakes_is_refused_quickly() -> None:
    assert len(faults(schema(properties={f"p{n}": n for n in range(15_000)}))) == 1
    assert len(faults(schema(properties={f"p{n}": n for n in range(500)}))) == MAX_FINDINGS


def test_an_entangled_schema_is_refused() -> None:
    parts: list[dict[str, Any]] = [{"properties": {f"p{part}.{n}": {} for n in range(19)}} for part in range(90)]
    assert faults(schema(allOf=parts)) == [("", "is too entangled: too many subschemas refer to one another")]


@pytest.mark.measures_cpu
def test_many_models_that_refer_to_one_another_are_accepted_quickly() -> None:
    every = {f"d{n}": {"properties": {f"p{m}": {"$ref": f"#/$defs/d{m}"} for m in range(40)}} for n in range(40)}
    assert ordinary_seconds(lambda: check_schema(schema(**{"$ref": "#/$defs/d0", "$defs": every}))) < 5


@pytest.mark.parametrize(
    "of",
    [
        schema(**{"$schema": "https://json-schema.org/draft/2020-12/schema#", "$id": "https://part.example/schema"}),
        schema(**{"$vocabulary": {"http://127.0.0.1:9/v": True}}),
        schema(**{"$dynamicRef": "#node", "$defs": {"n": {"$dynamicAnchor": "node", "properties": {"a": TEXT}}}}),
        schema(properties={"$ref": {"const": {"$ref": "http://127.0.0.1:9/"}}, "b": {"format": "no-such-format"}}),
        schema(properties={"a": {"pattern": r"^[\p{L} ]{1,100}$"}, "b": {"pattern": "^(a+)+$"}}),
        schema(properties={"a": {"$ref": "#/definitions/x~1y%20z"}}, definitions={"x/y z": TEXT}),
    ],
)  # fmt: skip
def test_a_schema_that_is_accepted(of: dict[str, Any]) -> None:
    assert found(of, {}) == []


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, [("item.*", "json")]),
        ({"additionalProperties": False}, []),
        ({"properties": {"a": TEXT}}, [("item.a", "string")]),
        ({"properties": {"a": TEXT}, "additionalProperties": True}, [("item.a", "string"), ("item.*", "json")]),
        ({"properties": {"a": TEXT}, "patternProperties": {"^x": TEXT}}, [("item.a", "string"), ("item.*", "json")]),
        ({"properties": {"a": TEXT}, "unevaluatedProperties": TEXT}, [("item.a", "string"), ("item.*", "json")]),
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
    assert fields(**keywords) == expected


def test_fields_are_described() -> None:
    of = check_schema(schema(properties={"a": {"title": "T", "allOf": [{"description": "D"}]}, "b": {"title": "T"}}))
    assert [f.description for f in of.fields] == ["D", "T"]


def test_fields_without_end_end() -> None:
    """Two ways at each of sixty levels."""
    of = check_schema(chain(60, TEXT, lambda ref: schema(properties={"a": ref, "b": ref})))
    assert MAX_FIELDS <= len(of.fields) < 3 * MAX_FIELDS
    assert {f.path for f in of.fields} >= {"item.a", "item.b", "item.a.a"}
    deep = check_schema(schema(properties=nested(40, {"properties": {}})))
    assert max(len(f.path.split(".")) for f in deep.fields) < 15


def test_names() -> None:
    of = check_schema(schema(properties={"a": TEXT, "b": False}, allOf=[{"properties": {"c": TEXT}}]))
    assert (set(of.names), of.is_open) == ({"a", "c"}, False)
    assert check_schema(schema()).is_open


WORDS = schema(
    properties={
        "enum": {"enum": ["a", "b"]}, "const": {"const": 1}, "many": {"multipleOf": 3}, "pattern": {"pattern": "^a$"},
        "mail": {"format": "email"}, "unique": {"uniqueItems": True}, "contains": {"contains": TEXT},
        "not": {"not": TEXT}, "few": {"minItems": 2}, "long": {"maxLength": 2}, "short": {"minLength": 2},
        "less": {"exclusiveMaximum": 2}, "big": {"exclusiveMinimum": 2}, "full": {"maxProperties": 1},
        "never": False,
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
        ({"mail": "b"}, [(".mail", "not a valid email")]),
        ({"unique": [1, 1]}, [(".unique", "must not hold the same element twice")]),
        ({"contains": [1]}, [(".contains", "must have as many elements as the schema's `contains` asks for")]),
        ({"not": ""}, [(".not", "not what the schema's `not` allows")]),
        ({"few": [1]}, [(".few", "must have at least 2 elements")]),
        ({"long": "abc"}, [(".long", "must have at most 2 characters")]),
        ({"short": "a"}, [(".short", "must have at least 2 characters")]),
        ({"less": 2}, [(".less", "must be less than 2")]),
        ({"big": 2}, [(".big", "must be more than 2")]),
        ({"full": {"a": 1, "b": 2}}, [(".full", "must have at most 1 fields")]),
        ({"never": 1}, [(".never", "not a field of this model")]),
        ({"names": {"ab": 1}},
         [(".names", "has a field whose name is not allowed: the name must have at most 1 characters")]),
        ({"closed": {"a": 1, "b": 2, "c d": 3}},
         [(".closed.b", "not a field of this model"), ('.closed["c d"]', "not a field of this model")]),
        ({"empty": {"a": 1}}, [(".empty", "must have no fields")]),
        ({"row": [1, 2]}, [(".row[1]", "not allowed by the schema")]),
        ({"tail": [1, 2]}, [(".tail", "not what the schema's `unevaluatedItems` allows")]),
        ({"strict": {"a": 1}}, [(".strict.a", "not a field of this model")]),
        ({"strict": {f"a{n}": 1 for n in range(12)}},
         [*((f".strict.a{n}", "not a field of this model") for n in range(10)),
          (".strict", "2 more are no fields of this model")]),
        ({"either": 3}, [(".either", "fits more than one of the alternatives of which the schema allows one")]),
        ({"any": 1}, [(".any", "not a string or null, but a number")]),
        ({"maybe": {"x": 1}}, [(".maybe.x", "not a string, but a number")]),
        ({"two": {}}, [(".two", "fits none of the 2 alternatives that the schema allows")]),
        ({"two": 5}, [(".two", "not an object, but a number")]),
        ([], [("", "not an object, but a list")]),
    ],
)  # fmt: skip
def test_what_is_said_of_an_item(item: Any, expected: list[tuple[str, str]]) -> None:
    assert found(WORDS, item) == expected


def test_a_path_is_written_as_the_item_names_it() -> None:
    assert quote_path(("a_b", 2, "c d", "x-y", 'q"')) == '.a_b[2]["c d"].x-y["q\\""]'
    assert len(quote_path(("x" * 10_000,))) == 500


def test_every_field_name_in_brackets_is_quoted_within_bounds() -> None:
    ((path, _),) = found(schema(properties={"a": {}}, additionalProperties=False), {"x y" * 50_000: 1})
    assert path == '["' + "x y" * 166


@pytest.mark.measures_cpu
def test_a_recursive_schema_checks_what_it_can_afford() -> None:
    """Two branches for each value: every level doubles the looks."""
    of = schema(anyOf=[{"properties": {"a": {"$ref": "#"}}, "required": ["y"]},
                       {"properties": {"a": {"$ref": "#"}}}])  # fmt: skip
    assert found(of, nested(8, {})) == []
    ((path, message),) = found(of, nested(60, {}))
    assert (path, message) == ("", "is too large, or nested too deeply, to be checked by its schema")
    assert ordinary_seconds(lambda: found(of, nested(60, {}))) < 1
    # One way for each value costs the same at any depth.
    plain = schema(properties={"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}})
    assert found(plain, nested(60, None)) == []
    assert found(plain, nested(60, 5)) == [(".a" * 60, "not an object or null, but a number")]


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "(a*)*b", r"(\w+\d?){10}[^\w]", r"(.{0,100}a){8}[^\w]", r"(a?){100}a{100}$"]
)
@pytest.mark.measures_cpu
def test_a_pattern_cannot_hang(pattern: str) -> None:
    of = check_schema(schema(properties={"a": {"pattern": pattern}}))
    item = {"a": "xa" + "ab1" * 80_000 + "!"}
    assert ordinary_seconds(lambda: of.check(item, 240_010, CheckBudget())) < 2


def test_only_so_much_time_is_spent_on_telling_where() -> None:
    of = check_schema(schema(properties={"a": {"items": TEXT}}))
    large = {"a": [1] * 60_000}
    size = len(orjson.dumps(large))
    patience = CheckBudget()
    assert [f.message for f in of.check(large, size, patience)] == [
        "does not fit the schema; the input is too large to tell where"
    ]
    # What is spent is spent.
    small = {"a": [1] * 10_000}
    assert len(of.check(small, 20_000, CheckBudget())) == MAX_FINDINGS
    patience = CheckBudget()
    findings = [len(of.check(small, 20_000, patience)) for _ in range(6)]
    assert findings == [MAX_FINDINGS] * 4 + [1] * 2
    assert of.check({"a": ["x"] * 60_000}, 240_000, patience) == []


def test_the_cost_of_an_item_is_bounded() -> None:
    wide = check_schema(schema(allOf=[{"properties": {"a": {"allOf": [{}] * 200}}}]))
    assert wide.check({"a": "x"}, 10, CheckBudget()) == []
    (finding,) = wide.check({"a": ["x"] * (MAX_LOOKS // 200)}, MAX_LOOKS // 50, CheckBudget())
    assert finding.is_limit


def test_a_stored_schema_is_compiled_once() -> None:
    text = orjson.dumps(schema(properties={"a": TEXT})).decode()
    assert isinstance(load(text), JsonSchema)
    assert load(text) is load(str(text.encode(), "utf-8"))
    assert load(text.replace("a", "b")) is not load(text)
