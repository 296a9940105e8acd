"""Attacks with the JSON Schemas of declared models, and with items that are checked against them."""

import json
import random
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.contract import operations
from tests.support.bystander import MAX_DELAY_MS, MAX_MEMORY_MB, measure_attack, read_resident_mb
from tests.support.program import Program

pytestmark = pytest.mark.alone

DECLARE = """
mutation ($input: DeclareModelInput!) { declareModel(input: $input) { model { name } errors { field message } } }
"""
PUBLISH = """
mutation ($input: PublishChangesInput!) { publishChanges(input: $input) { changes { objectId } errors { message } } }
"""
INSERT = """
INSERT INTO ringback_declared_model (name, label, description, json_schema, sample, created_at, updated_at)
VALUES (?, 'Hostile', '', ?, '{}', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00')
"""
MODELS = 40


def schema(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", **keywords}


def properties(keyword: str, values: Sequence[Any]) -> dict[str, Any]:
    return schema(properties={f"p{n}": {keyword: value} for n, value in enumerate(values)})


def nest_unevaluated(depth: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"properties": {"x": {}}}
    for _ in range(depth):
        nested = {"allOf": [nested], "unevaluatedProperties": False}
    return schema(properties={"a": nested})


#: Schemas that took much memory or time to compile before they were limited. Each takes a model's number.
HOSTILE_SCHEMAS = [
    lambda model: properties("pattern", [f"(a{{1,200}}){{1,200}}{model}{n}" for n in range(20)]),
    lambda model: properties("pattern", [rf"\p{{L}}{{60}}{model}{n}" for n in range(20)]),
    lambda model: properties("pattern", [r"\s" * 300 + str(model)]),
    lambda model: properties("pattern", [rf"^[\p{{L}} ]{{1,90}}{model}$"]),
    lambda model: properties("pattern", [f"^{model}x{n}$" for n in range(700)]),
    lambda model: properties("enum", [[f"{model}-{n}" for n in range(20_000)]]),
    lambda model: schema(patternProperties={rf"\p{{L}}{{9}}{model}{n}": True for n in range(100)}),
    lambda model: schema(properties={"x" * 1_000: schema(properties={f"{model}{n}": {} for n in range(1_500)})}),
]


def declaration(name: str, json_schema: Any) -> dict[str, Any]:
    return {"name": name, "label": "Hostile", "jsonSchema": json_schema, "sample": {}}


def change(model: str, item: Any) -> dict[str, Any]:
    return {"model": model, "action": "CREATED", "objectId": "1", "item": item}


def memory_of(program: Program) -> float:
    assert program.process is not None
    return read_resident_mb(program.process.pid)


def check_log(program: Program) -> None:
    log = program.log()
    assert "Traceback" not in log and "INTERNAL" not in log, log


def test_declaring_hostile_models(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        with measure_attack(program) as cost:
            for model in range(MODELS):
                hostile = HOSTILE_SCHEMAS[model % len(HOSTILE_SCHEMAS)](model)
                program.query(DECLARE, {"input": declaration(f"hostile_{model}", hostile)})
                program.query(PUBLISH, {"input": {"changes": [change(f"hostile_{model}", {"p0": "a"})]}})
        cost.check()
        assert cost.longest_ms < 1_000
        check_log(program)


def test_a_start_with_hostile_models(tmp_path: Path) -> None:
    """The models were declared before schemas were limited, by a version that did not store their fields."""
    program = Program(tmp_path)
    program.start()
    program.stop()
    program.start()
    control_seconds, control_mb = program.start_seconds, memory_of(program)
    program.stop()
    with closing(sqlite3.connect(program.data_dir / "ringback.db")) as db:
        for model in range(MODELS):
            db.execute(INSERT, (f"hostile_{model}", json.dumps(HOSTILE_SCHEMAS[model % 2](model))))
        db.commit()

    with program:
        started_seconds, started_mb = program.start_seconds, memory_of(program)
        status, _, _ = program.request("GET", "/readyz")
        models = program.query("{ webhookModels { name fields { path } } }")["webhookModels"]
        with measure_attack(program) as cost:
            for model in range(MODELS):
                refused = program.query(PUBLISH, {"input": {"changes": [change(f"hostile_{model}", {"p0": "a"})]}})
                (error,) = refused["publishChanges"]["errors"]
                assert error["message"].startswith(f"The schema of the model hostile_{model} cannot be used any more: ")
        cost.check()
        used_mb = memory_of(program)
        check_log(program)

    print(
        f"start {control_seconds:.1f} → {started_seconds:.1f} s, {control_mb:.0f} → {started_mb:.0f} → {used_mb:.0f} MB"
    )
    assert status == 200
    assert {f"hostile_{model}" for model in range(MODELS)} <= {model["name"] for model in models}
    assert started_seconds < control_seconds + program.allowed(1.0)
    assert started_mb < control_mb + MAX_MEMORY_MB


#: Schemas and items whose check took seconds to forever before it was limited.
COSTLY = {
    "pattern": (properties("pattern", ["(a|b)*a(a|b){6000}[^ab]"]), {"p0": "ab" * 20_000}),
    "enum": (schema(properties={"a": {"items": {"enum": [{"a": n} for n in range(5_000)]}}}),
             {"a": [{"a": 4_999}] * 2_000}),
    "fractions": (schema(properties={"a": {"items": {"multipleOf": 1e-300}}}), {"a": [1e300] * 10_000}),
    "errors": (schema(properties={"a": {"items": {"anyOf": [{"type": "string", "enum": ["x" * 20] * 30}] * 200}}}),
               {"a": [1] * 240}),
    "subschemas": (schema(properties={"a": {"items": {"allOf": [{"minimum": n} for n in range(200)]}}}),
                   {"a": [300] * 1_500}),
    "required": (properties("required", [[f"n{n}" for n in range(2_000)]]), {"p0": {"a": "x" * 190_000}}),
    "objects": (properties("required", [[f"n{n}" for n in range(500)]]), {"p0": {"a": [{"": "x" * 20}] * 700}}),
    "dependentRequired": (schema(dependentRequired={"a": [f"n{n}" for n in range(2_000)]}), {"a": "x" * 190_000}),
    "long names": (schema(additionalProperties={"items": {"type": "string"}}), {"x" * 100_000: [1] * 2_000}),
}  # fmt: skip


@pytest.mark.parametrize("case", COSTLY)
def test_publishing_costly_items(program: Program, case: str) -> None:
    json_schema, item = COSTLY[case]
    declared = program.query(DECLARE, {"input": declaration("costly", json_schema)})
    assert declared["declareModel"]["errors"] == []
    size = len(json.dumps(item))
    changes = [change("costly", item)] * min(100, 200_000 // size)

    with measure_attack(program) as cost:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            program.query(PUBLISH, {"input": {"changes": changes}})
            time.sleep(0.02)

    cost.check()
    assert cost.longest_ms < 4 * MAX_DELAY_MS
    check_log(program)


def test_declaring_a_wrong_schema_with_a_long_name(program: Program) -> None:
    """Each of its errors held the path of its value: 1.2 GB together."""
    wrong = schema(properties={"x" * 200_000: {"allOf": [1] * 400}})
    with measure_attack(program) as cost:
        declared = program.query(DECLARE, {"input": declaration("wrong", wrong)})

    assert len(declared["declareModel"]["errors"]) == 1
    cost.check()


def test_redeclaring_a_model_whose_webhooks_have_long_templates(program: Program) -> None:
    """All templates used to be parsed within the transaction, while every other write waited: 12 s for 10 webhooks."""
    full = schema(properties={"a": {"type": "string"}, "b": {"type": "string"}})
    program.query(DECLARE, {"input": declaration("costly", full)})
    headers = [{"name": f"X-{n}", "value": "{{item.a}}" * 300} for n in range(50)]
    webhook = {"model": "costly", "actions": ["CREATED"], "url": "https://hooks.example/", "headers": headers}
    for _ in range(4):
        made = program.query(
            operations()["CreateWebhook"], {"input": {**webhook, "bodyTemplate": "{{item.a}}x" * 1_500}}
        )
        assert made["createWebhook"]["errors"] == []
    less = declaration("costly", schema(properties={"a": {"type": "string"}}))
    waits: list[float] = []

    with measure_attack(program) as cost, ThreadPoolExecutor(1) as attacker:
        redeclared = attacker.submit(program.query, DECLARE, {"input": less})
        while not redeclared.done():
            started = time.monotonic()
            program.query(operations()["CreateInbox"], {"input": {}})
            waits.append(time.monotonic() - started)
            time.sleep(0.02)

    assert redeclared.result()["declareModel"]["errors"] == []
    cost.check()
    assert max(waits) < 4 * MAX_DELAY_MS / 1_000


def test_dependencies_are_refused(program: Program) -> None:
    """jsonschema-rs applies this keyword of older drafts. Its subschemas would escape every limit."""
    subschemas = {f"a{n}": {"properties": {f"x{n}": {"pattern": rf"[a-z]*{n}\pL{{50}}"}}} for n in range(100)}
    with measure_attack(program) as cost:
        declared = program.query(DECLARE, {"input": declaration("older", schema(dependencies=subschemas))})

    (error,) = declared["declareModel"]["errors"]
    assert "dependencies is not a keyword of draft 2020-12" in error["message"]
    cost.check()


def test_publishing_many_changed_fields(program: Program) -> None:
    """Each changed field used to read all fields of its model, and each unknown one was compared with all names."""
    names = ["".join(random.Random(n).choices("abcd", k=100)) for n in range(1_500)]
    open_model = schema(properties={"a": schema(properties={name: {} for name in names})}, additionalProperties=True)
    closed_model = schema(properties={name: {} for name in names}, additionalProperties=False)
    for name, json_schema in (("open", open_model), ("closed", closed_model)):
        declared = program.query(DECLARE, {"input": declaration(name, json_schema)})
        assert declared["declareModel"]["errors"] == []
    updated = {"action": "UPDATED", "objectId": "1", "item": {}}
    known = {**updated, "model": "open", "changedFields": ["x"] * 1_000}
    unknown = {**updated, "model": "closed", "changedFields": [f"{name[1:]}e" for name in names[:100]]}

    with measure_attack(program) as cost:
        program.query(PUBLISH, {"input": {"changes": [known] * 9}})
        program.query(PUBLISH, {"input": {"changes": [unknown]}})

    cost.check()
    assert cost.longest_ms < 4 * MAX_DELAY_MS


def test_nested_unevaluated_properties(program: Program) -> None:
    """Compiling them is quick. The check of the smallest item took three times as long with each of 25 levels."""
    with measure_attack(program) as cost:
        declared = program.query(DECLARE, {"input": declaration("nested", nest_unevaluated(25))})

    assert "unevaluatedProperties" in declared["declareModel"]["errors"][0]["message"]
    cost.check()
