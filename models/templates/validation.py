"""Validation of templates and conditions when a webhook is saved.

Only certain mistakes are reported: syntax errors, filters that do not exist or never accept their arguments, names that
the model does not have, comparisons of different types, and limits that a sample object already exceeds. Everything
else depends on the data.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from liquid import Expression, Node, Token
from liquid.builtin.expressions import FilteredExpression, Literal, Nil, Path
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.for_tag import ForNode
from liquid.template import BoundTemplate

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import LimitReached, Meter
from ringback.models.templates.decimal_fields import DECIMAL_TYPES, DecimalFields
from ringback.models.templates.errors import describe_unknown, error_at
from ringback.models.templates.field_paths import (
    FORLOOP,
    NO_TYPES,
    OPEN,
    FieldShape,
    build_root,
    describe_unknown_field,
    look_up,
)
from ringback.models.templates.filters.allow_list import FILTERS
from ringback.models.templates.formatting import format_path
from ringback.models.templates.mixed_types import Operand, describe_mixed_types, kind_of_literal, kind_of_type
from ringback.models.templates.scope import EventFacts, build_scope
from ringback.models.templates.syntax.comparisons import Compared, list_compared
from ringback.models.templates.syntax.environment import STATIC
from ringback.models.templates.syntax.fast_path import BoundFilter
from ringback.models.templates.syntax.parser import parse_condition, parse_template
from ringback.models.templates.template import Template

#: Problems reported for one text. An author with more of them fixes these first.
MAX_PROBLEMS = 20

_SAMPLE_EVENT = EventFacts(
    id="evt_00000000000000000000000000",
    model="Sample",
    action="updated",
    changed_fields=("id",),
    created_at="2026-01-01T00:00:00Z",
)


def check_template(
    source: str,
    *,
    fields: Collection[str],
    sample: Mapping[str, object],
    types: Mapping[str, str] = NO_TYPES,
    meter: Meter | None = None,
) -> list[TemplateError]:
    """Return the mistakes in a template, in the order of the text.

    `fields` are the model's field paths as in Liquid, with `[]` for the elements of a list and a final `.*` for unknown
    structure: "item.phone", "item.items[].price", "item.meta.*". `types` are the types of fields by their paths, as
    `FieldInfo` names them. `sample` is a plausible `item`. Pass `meter` to share one time limit with other templates.
    """
    problems = find_problems(source, fields=fields, types=types)
    if problems:
        return problems
    return _render_sample(Template(parse_template(source), source), sample, DecimalFields(types), meter)


def check_condition(
    expression: str, *, fields: Collection[str], types: Mapping[str, str] = NO_TYPES
) -> list[TemplateError]:
    """Return the mistakes in a condition, as `check_template` does."""
    return find_problems(expression, fields=fields, types=types, is_condition=True)


def find_problems(
    source: str, *, fields: Collection[str], types: Mapping[str, str] = NO_TYPES, is_condition: bool = False
) -> list[TemplateError]:
    """Return the mistakes in a template or condition that show without a sample, in the order of the text."""
    root = build_root(fields, types)
    try:
        if is_condition:
            return _find_condition_problems(source, root).in_order()
        return _find_template_problems(parse_template(source), source, root).in_order()
    except TemplateError as error:
        return [error]


def find_unknown_paths(source: str, *, fields: Collection[str], is_condition: bool = False) -> set[str]:
    """Return the paths in a template or condition that the model does not have, such as "item.phone".

    A text that cannot be parsed has none.
    """
    try:
        if is_condition:
            return _find_condition_problems(source, build_root(fields)).paths
        return _find_template_problems(parse_template(source), source, build_root(fields)).paths
    except TemplateError:
        return set()


@dataclass(frozen=True, order=True, slots=True)
class _Problem:
    """A mistake at a character index of the source; sorts by its place."""

    index: int
    message: str


class _Problems:
    """Up to MAX_PROBLEMS mistakes in one source, each reported once for its key.

    `paths` are the paths that the model does not have.
    """

    def __init__(self, source: str) -> None:
        self.paths: set[str] = set()
        self._source = source
        self._problems: dict[str, _Problem] = {}

    def accepts(self, key: str) -> bool:
        """Return whether to add a problem. Its message may be slow to write, so callers ask first."""
        return key not in self._problems and len(self._problems) < MAX_PROBLEMS

    def add(self, key: str, token: Token, message: str) -> None:
        self._problems[key] = _Problem(index=token.start_index, message=message)

    def in_order(self) -> list[TemplateError]:
        problems = sorted(self._problems.values())
        return [error_at(self._source, problem.index, problem.message) for problem in problems]


def _find_template_problems(bound: BoundTemplate, source: str, root: FieldShape) -> _Problems:
    problems = _Problems(source)
    # The order in which loops and branches run is unknown, so a name assigned anywhere is allowed everywhere.
    for name, places in bound.analyze().locals.items():
        root.names[name] = _ASSIGNED_ONCE if len(places) == 1 else OPEN
    _TreeWalk(problems).visit_nodes(bound.nodes, root)
    return problems


def _find_condition_problems(expression: str, root: FieldShape) -> _Problems:
    parsed = parse_condition(expression)
    problems = _Problems(expression)
    _TreeWalk(problems).visit_expression(parsed, root)
    return problems


#: The value of a name that is assigned once, before that place of the template.
_ASSIGNED_ONCE = FieldShape(is_open=True)
#: Filters that return numbers only.
_NUMBER_FILTERS = {
    "abs",
    "at_least",
    "at_most",
    "ceil",
    "divided_by",
    "floor",
    "minus",
    "modulo",
    "plus",
    "round",
    "size",
    "sum",
    "times",
}


class _TreeWalk:
    """A walk through a syntax tree that reports problems. `root` holds the names that are valid at each node."""

    def __init__(self, problems: _Problems) -> None:
        self._problems = problems

    def visit_nodes(self, nodes: Iterable[Node], root: FieldShape) -> None:
        for node in nodes:
            for expression in node.expressions():
                self.visit_expression(expression, root)
            if isinstance(node, AssignNode) and root.names.get(str(node.name)) is _ASSIGNED_ONCE:
                assigned_type = _find_assigned_type(node.expression, root)
                root.names[str(node.name)] = FieldShape(is_open=True, type=assigned_type)
            if isinstance(node, ForNode):
                self.visit_nodes([node.block], _names_inside_loop(node, root))
                if node.default:
                    self.visit_nodes([node.default], root)
            else:
                self.visit_nodes(node.children(STATIC), root)

    def visit_expression(self, expression: Expression, root: FieldShape) -> None:
        if isinstance(expression, Path):
            self.check_path(expression, root)
        if isinstance(expression, FilteredExpression):
            for call in expression.filters or ():
                assert isinstance(call, BoundFilter), "`hardening` binds all filters"
                self.check_filter(call)
        for compared in list_compared(expression):
            self.check_comparison(compared, root)
        for child in expression.children():
            self.visit_expression(child, root)

    def check_path(self, path: Path, root: FieldShape) -> None:
        segments = _to_segments(path)
        shape, unknown_at = look_up(root, segments)
        if unknown_at is None:
            return
        key = format_path(segments)
        if self._problems.accepts(key):
            self._problems.paths.add(key)
            self._problems.add(key, path.token, describe_unknown_field(root, shape, segments, unknown_at))

    def check_comparison(self, compared: Compared, root: FieldShape) -> None:
        left, right = _to_operand(compared.left, root), _to_operand(compared.right, root)
        message = describe_mixed_types(left, right, is_order=compared.is_order)
        if message is None:
            return
        written = compared.right if isinstance(compared.right, Literal) else compared.left
        if self._problems.accepts(message):
            self._problems.add(message, written.token, message)

    def check_filter(self, call: BoundFilter) -> None:
        if call.name not in FILTERS:
            key = f"| {call.name}"
            if self._problems.accepts(key):
                self._problems.add(key, call.token, describe_unknown("filter", call.name, FILTERS))
            return
        misuse = _find_misuse(call)
        if misuse is not None and self._problems.accepts(f"| {misuse}"):
            self._problems.add(f"| {misuse}", call.token, misuse)


def _names_inside_loop(node: ForNode, root: FieldShape) -> FieldShape:
    """Return the names that are valid inside a loop: the outer ones, `forloop`, and the loop variable."""
    iterable = node.expression.iterable
    element = OPEN
    if isinstance(iterable, Path):
        shape, unknown_at = look_up(root, _to_segments(iterable))
        if unknown_at is None and shape.element is not None:
            element = shape.element
    return FieldShape(names=root.names | {"forloop": FORLOOP, str(node.expression.identifier): element})


def _find_misuse(call: BoundFilter) -> str | None:
    """Return why a known filter never accepts its arguments, or None."""
    if call.misuse is not None:
        return call.misuse
    if call.name == "date":
        return _find_unknown_zone(call)
    if not all(isinstance(argument.value, Literal | Nil) for argument in call.args):
        return None
    return FILTERS[call.name].find_bad_argument(*call.evaluate_args(STATIC))


def _find_unknown_zone(call: BoundFilter) -> str | None:
    """Return why the time zone of a `date` does not exist, or None. Its format may be unknown."""
    zone = call.args[1].value if len(call.args) > 1 else None
    if not isinstance(zone, Literal):
        return None
    return FILTERS["date"].find_bad_argument(["", zone.value], {})


def _to_operand(expression: Expression, root: FieldShape) -> Operand:
    """Return how a side of a comparison is written, and its kind."""
    if isinstance(expression, Path):
        type_name = _find_type(expression, root)
        text = format_path(_to_segments(expression))
        return Operand(text, kind_of_type(type_name), is_decimal=type_name in DECIMAL_TYPES)
    if isinstance(expression, Literal):
        return Operand(str(expression), kind_of_literal(expression.value), literal=expression.value)
    return Operand("", None)


def _find_assigned_type(expression: Expression, root: FieldShape) -> str:
    """Return the type of a value that is assigned, empty if it is unknown."""
    assert isinstance(expression, FilteredExpression), "`assign` takes nothing else"
    if expression.filters:
        return "integer" if expression.filters[-1].name in _NUMBER_FILTERS else ""
    return _find_type(expression.left, root) if isinstance(expression.left, Path) else ""


def _find_type(path: Path, root: FieldShape) -> str:
    """Return the type of the value at a path, empty if it is unknown."""
    shape, unknown_at = look_up(root, _to_segments(path))
    return shape.type if unknown_at is None else ""


def _to_segments(path: Path) -> list[object]:
    """Return a path as names and indexes. A path in brackets becomes a nested list, as `format_path` expects."""
    return [_to_segments(segment) if isinstance(segment, Path) else segment for segment in path.path]


def _render_sample(
    template: Template, sample: Mapping[str, object], decimals: DecimalFields, meter: Meter | None
) -> list[TemplateError]:
    """Render a sample object. Return the error if it exceeds a limit; other failures depend on the data."""
    try:
        template.render(build_scope(sample, _SAMPLE_EVENT), decimals, meter=meter)
    except TemplateError as error:
        if isinstance(error.__cause__, LimitReached):
            return [error]
    return []
