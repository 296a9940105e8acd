"""What one operation may ask for: limits on its shape, on its cost and on its variables.

Shape (depth, aliases, root fields) is what the document says with its fragments spread out; cost is what executing it
may read: each object selected counts one, a connection multiplies what is below it by `first`, and a plain list of
objects by LIST_SIZE. What has no limit in the text, such as fragments that spread others twice, is counted once per
fragment and multiplied, never walked again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLOutputType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_composite_type,
    is_introspection_type,
    type_from_ast,
)

from ringback.graphql_api.errors import ApiError
from ringback.graphql_api.relay import MAX_PAGE
from ringback.models.settings import Settings

#: Levels of selection sets, fragments included: what walks them does so by recursion.
MAX_NESTING = 200
#: How many objects a plain list, such as an event's attempts, is taken to hold.
LIST_SIZE = 5
#: Entries of one list in the variables, of plain values and of objects: more than any argument takes.
MAX_VALUES, MAX_OBJECTS = 10_000, 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's limits; see the settings RINGBACK_API_MAX_…."""

    body_bytes: int = 1_048_576
    tokens: int = 5_000
    depth: int = 20
    aliases: int = 100
    root_fields: int = 50
    cost: int = 10_000
    subscriptions_per_connection: int = 100
    subscriptions_per_token: int = 4_000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings say."""
        return cls(
            body_bytes=settings.api_max_body_bytes,
            tokens=settings.api_max_tokens,
            depth=settings.api_max_depth,
            aliases=settings.api_max_aliases,
            root_fields=settings.api_max_root_fields,
            cost=settings.api_max_cost,
            subscriptions_per_connection=settings.api_max_subscriptions_per_connection,
            subscriptions_per_token=settings.api_max_subscriptions_per_token,
        )


def exceeded(limit: str, allowed: int, message: str) -> ApiError:
    """The refusal of what is over a limit; `limit` names it for programs."""
    return ApiError("LIMIT_EXCEEDED", message, limit=limit, allowed=allowed)


def too_deep(limits: Limits) -> ApiError:
    """The refusal of a document that cannot even be measured."""
    return exceeded("depth", limits.depth, f"The document is nested too deeply; {limits.depth:,} levels are allowed.")


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of a selection set, fragments spread out: levels, those of fields, aliases at all levels, fields at the first."""

    nesting: int = 0
    depth: int = 0
    aliases: int = 0
    fields: int = 0


def check_shape(document: DocumentNode, limits: Limits) -> None:
    """Raises ApiError (LIMIT_EXCEEDED) when an operation is too deep, or has too many aliases or root fields.

    Needs no schema, so it comes before the validation, whose costly rules then see small documents only. Fragments
    that spread themselves are left to it.
    """
    shapes = _Shapes({d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)})
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            shape = shapes.of(definition.selection_set)
            if shape.nesting > MAX_NESTING:
                raise too_deep(limits)
            _check("depth", shape.depth, limits.depth, "levels of fields")
            _check("aliases", shape.aliases, limits.aliases, "aliases")
            if isinstance(definition, OperationDefinitionNode):
                _check("rootFields", shape.fields, limits.root_fields, "root fields")


def _check(limit: str, found: int, allowed: int, what: str) -> None:
    if found > allowed:
        counted = f"{found:,}" if found < 10**9 else "over a thousand million"
        raise exceeded(limit, allowed, f"The document has {counted} {what}; {allowed:,} are allowed.")


class _Shapes:
    """Measures selection sets; a fragment is measured once."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, _Shape] = {}

    def of(self, selections: SelectionSetNode | None) -> _Shape:
        nesting = depth = aliases = fields = 0
        for selection in selections.selections if selections else ():
            if isinstance(selection, FieldNode):
                below = self.of(selection.selection_set)
                aliases += selection.alias is not None
                part = _Shape(below.nesting, below.depth + 1, below.aliases, 1)
            elif isinstance(selection, InlineFragmentNode):
                part = self.of(selection.selection_set)
            else:
                part = self._of_fragment(selection)
            nesting = max(nesting, part.nesting + 1)
            depth = max(depth, part.depth)
            aliases += part.aliases
            fields += part.fields
        return _Shape(nesting, depth, aliases, fields)

    def _of_fragment(self, spread: Any) -> _Shape:
        name = spread.name.value
        if name not in self._known:
            self._known[name] = _Shape()  # what it is worth to itself
            fragment = self._fragments.get(name)
            self._known[name] = self.of(fragment.selection_set) if fragment else _Shape()
        return self._known[name]


@dataclass(frozen=True, slots=True)
class _Size:
    """How many nodes a page has: what `first` says, by itself or through a variable."""

    literal: int
    variable: str | None = None

    def of(self, variables: Mapping[str, Any]) -> int:
        value = variables.get(self.variable, self.literal) if self.variable else self.literal
        # What is out of range is refused when the page is read, with a better sentence.
        return min(max(value, 1), MAX_PAGE) if isinstance(value, int) else 1


@dataclass(slots=True)
class Cost:
    """How many objects a selection set may read: a sum of parts, each multiplied by the size of a list."""

    fixed: int = 0
    parts: "list[tuple[_Size, Cost]]" = field(default_factory=list)

    def of(self, variables: Mapping[str, Any]) -> int:
        """The cost with these (coerced) variables."""
        return self._of(variables, {})

    def _of(self, variables: Mapping[str, Any], known: dict[int, int]) -> int:
        cost = known.get(id(self))
        if cost is None:
            cost = self.fixed + sum(size.of(variables) * part._of(variables, known) for size, part in self.parts)
            known[id(self)] = cost
        return cost


def cost_of(schema: GraphQLSchema, operation: OperationDefinitionNode, document: DocumentNode) -> Cost:
    """The cost of an operation of a valid document."""
    root = schema.get_root_type(operation.operation)
    assert root is not None, "the document is valid"
    return _Costs(schema, document).of(operation.selection_set, root)


class _Costs:
    """Adds up the cost of selection sets; a fragment is added up once."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._known: dict[str, Cost] = {}

    def of(self, selections: SelectionSetNode, parent: GraphQLNamedType) -> Cost:
        cost = Cost()
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                self._add_field(cost, selection, parent)
            elif isinstance(selection, FragmentSpreadNode):
                cost.parts.append((_Size(1), self._of_fragment(selection.name.value)))
            elif isinstance(selection, InlineFragmentNode):
                on = selection.type_condition
                inner = self._schema.type_map[on.name.value] if on else parent
                cost.parts.append((_Size(1), self.of(selection.selection_set, inner)))
        return cost

    def _of_fragment(self, name: str) -> Cost:
        if name not in self._known:
            fragment = self._fragments[name]
            self._known[name] = self.of(
                fragment.selection_set, self._schema.type_map[fragment.type_condition.name.value]
            )
        return self._known[name]

    def _add_field(self, cost: Cost, node: FieldNode, parent: Any) -> None:
        definition = self._schema.get_field(parent, node.name.value)
        if definition is None or node.selection_set is None:
            return
        named = get_named_type(definition.type)
        if is_introspection_type(named) or not is_composite_type(named):
            return
        below = self.of(node.selection_set, named)
        cost.fixed += 1
        if named.name.endswith("Connection") and "first" in definition.args:
            cost.parts.append((_first(node, definition.args["first"].default_value), below))
        else:
            is_list_of_objects = _is_list(definition.type) and "id" in getattr(named, "fields", {})
            in_page = parent.name.endswith("Connection")
            cost.parts.append((_Size(LIST_SIZE if is_list_of_objects and not in_page else 1), below))


def _first(node: FieldNode, default: Any) -> _Size:
    given = next((a.value for a in node.arguments or () if a.name.value == "first"), None)
    if isinstance(given, IntValueNode):
        return _Size(int(given.value[:9]))
    if isinstance(given, VariableNode):
        return _Size(default or 1, given.name.value)
    return _Size(default or 1 if not isinstance(given, NullValueNode) else 1)


def _is_list(type_: GraphQLOutputType) -> bool:
    inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    return isinstance(inner, GraphQLList)


def check_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> None:
    """Raises ApiError (LIMIT_EXCEEDED) for a list among the variables that is longer than any argument takes.

    Coercing a value costs far more than looking at it, and happens before any resolver can refuse.
    """
    if not variables:
        return
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in variables:
            type_ = type_from_ast(schema, definition.type)
            _check_lists(variables[name], type_, f"${name}")


def _check_lists(value: Any, type_: Any, path: str) -> None:
    while isinstance(type_, GraphQLNonNull):
        type_ = type_.of_type
    if isinstance(type_, GraphQLList) and isinstance(value, list):
        of_objects = isinstance(get_named_type(type_), GraphQLInputObjectType)
        allowed = MAX_OBJECTS if of_objects else MAX_VALUES
        if len(value) > allowed:
            message = f"{path}: has {len(value):,} entries; {allowed:,} are allowed."
            raise exceeded("listEntries", allowed, message)
        if of_objects:
            for index, entry in enumerate(value):
                _check_lists(entry, type_.of_type, f"{path}[{index}]")
    elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
        for name, known in _listed(type_):
            if name in value:
                _check_lists(value[name], known, f"{path}.{name}")


def _listed(type_: GraphQLInputObjectType) -> Iterable[tuple[str, Any]]:
    """The fields of an input type that may hold lists."""
    found = type_.extensions.get("ringback_listed")
    if found is None:
        found = [
            (name, f.type)
            for name, f in type_.fields.items()
            if "[" in str(f.type) or isinstance(get_named_type(f.type), GraphQLInputObjectType)
        ]
        type_.extensions["ringback_listed"] = found
    return found
