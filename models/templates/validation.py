"""What can be said about a template when a webhook is saved, before any event fails because of it.

Only what is certain is reported: text that cannot be read, filters that do not exist or are given arguments they never
take, names that the model does not have, and limits that a sample object already reaches. The rest depends on data.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from liquid import Expression, Node, Token
from liquid.builtin.expressions import FilteredExpression, Literal, Nil, Path
from liquid.builtin.tags.for_tag import ForNode
from liquid.template import BoundTemplate

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import LimitReached
from ringback.models.templates.environment import STATIC
from ringback.models.templates.errors import problem, unknown
from ringback.models.templates.fast_path import BoundFilter
from ringback.models.templates.field_paths import FORLOOP, OPEN, FieldShape, complaint, follow, root_of
from ringback.models.templates.filters import FILTERS
from ringback.models.templates.formatting import path_text
from ringback.models.templates.parser import parse_condition, parse_template
from ringback.models.templates.scope import EventFacts, scope
from ringback.models.templates.template import Template

#: Most problems reported for one text: who has more starts again anyway.
MAX_PROBLEMS = 20

_EVENT = EventFacts(
    id="evt_00000000000000000000000000",
    model="Sample",
    action="updated",
    changed_fields=("id",),
    created_at="2026-01-01T00:00:00Z",
)


def check_template(source: str, *, fields: Collection[str], sample: Mapping[str, object]) -> list[TemplateError]:
    """Return what is wrong with a template, in the order of the text; empty when it can be saved.

    `fields` are the paths of the model as Liquid writes them, with `[]` for the elements of a list and a last `.*` for
    unknown structure: "item.phone", "item.items[].price", "item.meta.*". `sample` is a plausible `item`. Pure.
    """
    try:
        bound, found = _walked(source, fields)
    except TemplateError as error:
        return [error]
    return found.in_order() or _reached_limit(Template(bound, source), sample)


def check_condition(expression: str, *, fields: Collection[str]) -> list[TemplateError]:
    """Return what is wrong with a condition, as `check_template` does."""
    try:
        return _walked_condition(expression, fields).in_order()
    except TemplateError as error:
        return [error]


def unknown_paths(source: str, *, fields: Collection[str], is_condition: bool = False) -> set[str]:
    """Return the paths in a template (or a condition) that the model does not have, such as "item.phone"."""
    try:
        found = _walked_condition(source, fields) if is_condition else _walked(source, fields)[1]
    except TemplateError:
        return set()
    return found.paths()


def _walked(source: str, fields: Collection[str]) -> "tuple[BoundTemplate, _Findings]":
    bound = parse_template(source)
    found = _Findings(source)
    root = root_of(fields)
    # Nobody knows in which order loops and branches run, so a name that is assigned anywhere is known everywhere.
    root.names.update(dict.fromkeys(bound.analyze().locals, OPEN))
    _Walk(found).nodes(bound.nodes, root)
    return bound, found


def _walked_condition(expression: str, fields: Collection[str]) -> "_Findings":
    parsed = parse_condition(expression)
    found = _Findings(expression)
    _Walk(found).expression(parsed, root_of(fields))
    return found


class _Findings:
    """Problems in the order of the text, each thing once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, thing: str, token: Token, describe: Callable[[], str]) -> None:
        """Add a problem if it is news; describing it takes time, since it looks for names that are near."""
        if thing not in self._found and len(self._found) < MAX_PROBLEMS:
            self._found[thing] = (token.start_index, describe())

    def paths(self) -> set[str]:
        return {thing for thing in self._found if not thing.startswith("|")}

    def in_order(self) -> list[TemplateError]:
        return [problem(message, self._source, index) for index, message in sorted(self._found.values())]


class _Walk:
    """Goes through a syntax tree with the names that are known at each place."""

    def __init__(self, found: _Findings) -> None:
        self._found = found

    def nodes(self, nodes: Iterable[Node], root: FieldShape) -> None:
        for node in nodes:
            for expression in node.expressions():
                self.expression(expression, root)
            if isinstance(node, ForNode):
                self.nodes([node.block], self.inside(node, root))
                self.nodes([node.default] if node.default else [], root)
            else:
                self.nodes(node.children(STATIC), root)

    def inside(self, node: ForNode, root: FieldShape) -> FieldShape:
        """Return the names inside a loop: those outside, `forloop`, and one element of what is looped over."""
        iterable = node.expression.iterable
        element = OPEN
        if isinstance(iterable, Path):
            shape, unknown_at = follow(root, _segments(iterable))
            element = OPEN if unknown_at is not None else shape.element or OPEN
        return FieldShape(names=root.names | {"forloop": FORLOOP, str(node.expression.identifier): element})

    def expression(self, expression: Expression, root: FieldShape) -> None:
        if isinstance(expression, Path):
            self.path(expression, root)
        if isinstance(expression, FilteredExpression):
            for call in expression.filters or ():
                assert isinstance(call, BoundFilter), "parsing puts them there"
                self.filter(call)
        for child in expression.children():
            self.expression(child, root)

    def path(self, path: Path, root: FieldShape) -> None:
        segments = _segments(path)
        shape, place = follow(root, segments)
        if place is not None:
            self._found.add(path_text(segments), path.token, lambda: complaint(root, shape, segments, place))

    def filter(self, call: BoundFilter) -> None:
        if call.name not in FILTERS:
            self._found.add(f"| {call.name}", call.token, lambda: unknown("filter", call.name, FILTERS))
        elif fault := self.fault(call):
            self._found.add(f"| {fault}", call.token, lambda: fault)

    def fault(self, call: BoundFilter) -> str | None:
        """Return why the arguments of a known filter can never work, or None."""
        if call.misuse or not all(isinstance(one.value, Literal | Nil) for one in call.args):
            return call.misuse
        return FILTERS[call.name].refusal(*call.evaluate_args(STATIC))


def _segments(path: Path) -> list[object]:
    """Return a path as names and indexes; a path in brackets becomes a list, so that it prints as it was written."""
    return [_segments(one) if isinstance(one, Path) else one for one in path.path]


def _reached_limit(template: Template, sample: Mapping[str, object]) -> list[TemplateError]:
    try:
        template.render(scope(sample, _EVENT))
    except TemplateError as error:
        return [error] if isinstance(error.__cause__, LimitReached) else []
    return []
