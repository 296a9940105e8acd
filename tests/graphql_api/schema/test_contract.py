"""The schema implements the public contract, equals the exported file, and is fully described."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    get_named_type,
    parse,
    validate,
)

from ringback.graphql_api.schema.build import sdl
from tests.contract import NOT_YET, operations, served

ROOT = Path(__file__).parents[3]
EXPORTED = (ROOT / "schema.graphql").read_text()
TABS = (ROOT / "web" / "src" / "tabs.js").read_text()


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema(EXPORTED)


def test_the_exported_schema_is_what_the_code_exports() -> None:
    assert sdl() == EXPORTED, "run make schema"


@pytest.mark.parametrize("name", sorted(served()))
def test_an_operation_of_the_contract_validates(schema: GraphQLSchema, name: str) -> None:
    assert validate(schema, parse(served()[name])) == []


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_an_operation_listed_as_not_yet_served_does_not_validate(schema: GraphQLSchema, name: str) -> None:
    assert validate(schema, parse(operations()[name])) != []


def test_the_contract_is_complete() -> None:
    assert len(operations()) == 46
    assert operations().keys() >= NOT_YET


def test_the_prepared_tabs_of_graphiql_are_valid(schema: GraphQLSchema) -> None:
    documents = re.findall(r"query: `([^`]*)`", TABS)
    variables = re.findall(r"variables: `([^`]*)`", TABS)
    assert len(documents) == len(variables) == 12
    for document, given in zip(documents, variables, strict=True):
        parsed = parse(document)
        assert validate(schema, parsed) == [], document
        names = {v.variable.name.value for d in parsed.definitions for v in getattr(d, "variable_definitions", ())}
        values = json.loads("\n".join(line for line in given.splitlines() if not line.strip().startswith("//")))
        assert values.keys() <= names, document


def find_undescribed(schema: GraphQLSchema) -> Iterator[str]:
    for type_ in schema.type_map.values():
        if type_.name.startswith("__"):
            continue
        if not type_.description:
            yield type_.name
        if isinstance(type_, GraphQLEnumType):
            yield from (f"{type_.name}.{name}" for name, value in type_.values.items() if not value.description)
        if isinstance(type_, (GraphQLObjectType, GraphQLInputObjectType)):
            for name, field in type_.fields.items():
                if not field.description:
                    yield f"{type_.name}.{name}"
                arguments = getattr(field, "args", {})
                yield from (f"{type_.name}.{name}({a}:)" for a, arg in arguments.items() if not arg.description)


def test_every_element_has_a_description(schema: GraphQLSchema) -> None:
    built_in = {"Boolean", "Float", "ID", "Int", "String"}
    assert sorted(set(find_undescribed(schema)) - built_in) == []


def root_fields(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLField]]:
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        assert root is not None
        yield from root.fields.items()


def test_every_root_field_has_a_valid_example(schema: GraphQLSchema) -> None:
    for name, field in root_fields(schema):
        (example,) = re.findall(r"\n\n```graphql\n(.*)\n```$", field.description or "", re.DOTALL) or [None]
        assert example is not None, f"{name} has no example: see graphql_api/fields/root_fields.py"
        document = parse(example)
        assert validate(schema, document) == [], name
        (operation,) = document.definitions
        assert isinstance(operation, OperationDefinitionNode)
        assert [s.name.value for s in operation.selection_set.selections if isinstance(s, FieldNode)] == [name]


def test_ids_cursors_and_filters_have_an_example(schema: GraphQLSchema) -> None:
    """The description of an argument or input field without obvious values has an example as code."""
    without_obvious_values = {"ID", "DateTime", "JSON"}
    for type_ in schema.type_map.values():
        given: dict[str, Any] = {}
        if isinstance(type_, GraphQLInputObjectType):
            given = {f"{type_.name}.{name}": field for name, field in type_.fields.items()}
        elif isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            fields = type_.fields.items()
            given = {f"{type_.name}.{name}({a}:)": arg for name, field in fields for a, arg in field.args.items()}
        for name, value in given.items():
            if (
                get_named_type(value.type).name in without_obvious_values
                or name.endswith("(after:)")
                or "Filter." in name
            ):
                assert "`" in (value.description or ""), name


def test_root_fields_are_nullable(schema: GraphQLSchema) -> None:
    """So an error in one root field leaves the data of the others."""
    assert schema.query_type and schema.mutation_type and schema.subscription_type
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        strict = [name for name, field in root.fields.items() if isinstance(field.type, GraphQLNonNull)]
        assert strict == [], root.name


def test_only_errors_and_accepted_are_required_in_a_payload(schema: GraphQLSchema) -> None:
    assert schema.mutation_type
    for name, mutation in schema.mutation_type.fields.items():
        payload = mutation.type
        assert isinstance(payload, GraphQLObjectType)
        assert payload.name == name[0].upper() + name[1:] + "Payload"
        assert str(payload.fields["errors"].type) == "[InputError!]!"
        strict = {f for f, field in payload.fields.items() if isinstance(field.type, GraphQLNonNull)}
        assert strict - {"errors", "accepted"} == set(), name


def test_an_update_requires_only_the_id(schema: GraphQLSchema) -> None:
    inputs = [t for t in schema.type_map.values() if re.fullmatch(r"Update\w+Input", t.name)]
    assert [t.name for t in inputs] == [
        "UpdateCustomerOrderInput", "UpdateLeadInput", "UpdateSiteSettingsInput", "UpdateWebhookInput",
    ]  # fmt: skip
    for type_ in inputs:
        assert isinstance(type_, GraphQLInputObjectType)
        required = {name for name, field in type_.fields.items() if isinstance(field.type, GraphQLNonNull)}
        assert required == ({"id"} if "id" in type_.fields else set()), type_.name
        defaults = {name: field.ast_node.default_value for name, field in type_.fields.items() if field.ast_node}
        assert {name for name, value in defaults.items() if value is not None} == set(), "an update has no defaults"


@pytest.mark.parametrize(
    ("where", "declared"),
    [
        ("CreateWebhookInput.method", "HttpMethod! = POST"),
        ("CreateWebhookInput.isActive", "Boolean! = true"),
        ("CreateWebhookInput.sendJson", "Boolean! = false"),
        ("CreateWebhookInput.bodyTemplate", 'String! = ""'),
        ("CreateWebhookInput.contentType", "String"),
        ("CreateWebhookInput.headers", "[HeaderInput!]! = []"),
        ("CreateWebhookInput.condition", "String"),
        ("CreateWebhookInput.retryDelaysSeconds", "[Int!]! = [5, 240, 480]"),
        ("CreateWebhookInput.timeoutSeconds", "Float! = 3"),
        ("CreateWebhookInput.successPolicy", "SuccessPolicy! = STATUS_200"),
        ("WebhookFilter.includeDeleted", "Boolean = false"),
        ("CreateCustomerOrderInput.status", "OrderStatus! = NEW"),
        ("OrderItemInput.price", "Decimal!"),
        ("TestFireWebhookInput.action", "Action! = CREATED"),
        ("TestFireWebhookInput.item", "JSON"),
        ("InboxResponseInput.statusCode", "Int! = 200"),
        ("InboxResponseInput.body", 'String! = ""'),
        ("InboxResponseInput.contentType", 'String! = "text/plain"'),
        ("InboxResponseInput.delayMs", "Int! = 0"),
        ("DeclareModelInput.name", "String!"),
        ("DeclareModelInput.label", "String!"),
        ("DeclareModelInput.description", "String"),
        ("DeclareModelInput.jsonSchema", "JSON!"),
        ("DeclareModelInput.sample", "JSON!"),
        ("DeclareModelInput.force", "Boolean! = false"),
        ("PublishChangesInput.changes", "[ChangeInput!]!"),
        ("ChangeInput.model", "String!"),
        ("ChangeInput.action", "Action!"),
        ("ChangeInput.objectId", "String!"),
        ("ChangeInput.item", "JSON!"),
        ("ChangeInput.changedFields", "[String!]"),
        ("ChangeInput.idempotencyKey", "String"),
        ("CreateApiTokenInput.webhookIds", "[ID!]"),
        ("CreateApiTokenInput.expiresAt", "DateTime"),
    ],
)
def test_inputs_are_declared_as_the_contract_says(schema: GraphQLSchema, where: str, declared: str) -> None:
    type_name, name = where.split(".")
    declaration = re.search(rf"^input {type_name} {{.*?^  {name}: (.*?)$", EXPORTED, re.DOTALL | re.MULTILINE)
    assert declaration is not None
    assert declaration.group(1).removesuffix(" = null") == declared


def test_a_connection_has_the_arguments_first_and_after(schema: GraphQLSchema) -> None:
    for type_ in schema.type_map.values():
        if not isinstance(type_, GraphQLObjectType):
            continue
        for name, field in type_.fields.items():
            if str(field.type).rstrip("!").endswith("Connection"):
                assert str(field.args["first"].type) == "Int!", f"{type_.name}.{name}"
                assert field.args["first"].ast_node.default_value.value == "20", f"{type_.name}.{name}"
                assert str(field.args["after"].type) == "String", f"{type_.name}.{name}"
