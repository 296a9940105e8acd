"""What can be said about a template when a webhook is saved, before any event fails because of it.

Only what is certain is reported: text that cannot be read, filters that do not exist or are given arguments they never
take, names that the model does not have, and limits that a sample object already reaches. The rest depends on data.
"""

from collections.abc import Collection, Iterable, Mapping

from liquid import Expression, Node, RenderContext, Token
from liquid.builtin.expressions import Filter as FilterCall
from liquid.builtin.expressions import FilteredExpression, KeywordArgument, Literal, Nil, Path, PositionalArgument
from liquid.builtin.tags.for_tag import ForNode
from liquid.template import BoundTemplate

from ..errors import TemplateError
from .compiled import Template
from .environment import ENVIRONMENT
from .fields import FORLOOP, OPEN, Shape, complaint, follow, root_of
from .filters import FILTERS
from .limits import LimitReached
from .parsing import parse_condition, parse_template
from .problems import problem, unknown
from .scope import EventFacts, scope
from .values import path_text

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
    context = RenderContext(bound)
    root = root_of(fields)
    for name in _assigned(bound.nodes, context):
        root.names[name] = OPEN
    _Walk(found, context).nodes(bound.nodes, root)
    return bound, found


def _walked_condition(expression: str, fields: Collection[str]) -> "_Findings":
    parsed = parse_condition(expression)
    found = _Findings(expression)
    _Walk(found, RenderContext(BoundTemplate(ENVIRONMENT, []))).expression(parsed, root_of(fields))
    return found


class _Findings:
    """Problems in the order of the text, each thing once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: dict[str, tuple[int, str]] = {}

    def wants(self, thing: str) -> bool:
        """Return whether a problem with this is news; looking for names that are near is the expensive part."""
        return thing not in self._found and len(self._found) < MAX_PROBLEMS

    def add(self, thing: str, message: str, token: Token) -> None:
        self._found[thing] = (token.start_index, message)

    def paths(self) -> set[str]:
        return {thing for thing in self._found if not thing.startswith("|")}

    def in_order(self) -> list[TemplateError]:
        return [problem(message, self._source, index) for index, message in sorted(self._found.values())]


class _Walk:
    """Goes through a syntax tree with the names that are known at each place."""

    def __init__(self, found: _Findings, context: RenderContext) -> None:
        self._found = found
        self._context = context

    def nodes(self, nodes: Iterable[Node], root: Shape) -> None:
        for node in nodes:
            for expression in node.expressions():
                self.expression(expression, root)
            if isinstance(node, ForNode):
                self.nodes([node.block], self.inside(node, root))
                self.nodes([node.default] if node.default else [], root)
            else:
                self.nodes(node.children(self._context), root)

    def inside(self, node: ForNode, root: Shape) -> Shape:
        """Return the names inside a loop: those outside, `forloop`, and one element of what is looped over."""
        iterable = node.expression.iterable
        element = OPEN
        if isinstance(iterable, Path):
            shape, unknown_at = follow(root, _segments(iterable))
            element = OPEN if unknown_at is not None else shape.element or OPEN
        return Shape(names=root.names | {"forloop": FORLOOP, str(node.expression.identifier): element})

    def expression(self, expression: Expression, root: Shape) -> None:
        if isinstance(expression, Path):
            self.path(expression, root)
        if isinstance(expression, FilteredExpression):
            for call in expression.filters or ():
                self.filter(call)
        for child in expression.children():
            self.expression(child, root)

    def path(self, path: Path, root: Shape) -> None:
        segments = _segments(path)
        shape, place = follow(root, segments)
        if place is not None and self._found.wants(written := path_text(segments)):
            self._found.add(written, complaint(root, shape, segments, place), path.token)

    def filter(self, call: FilterCall) -> None:
        wrong = self.misuse(call) if call.name in FILTERS else call.name
        if wrong and self._found.wants(f"| {wrong}"):
            message = wrong if call.name in FILTERS else unknown("filter", call.name, FILTERS)
            self._found.add(f"| {wrong}", message, call.token)

    def misuse(self, call: FilterCall) -> str | None:
        """Return why the arguments of a known filter can never work, or None."""
        named = {one.name: one.value for one in call.args if isinstance(one, KeywordArgument)}
        placed = [one.value for one in call.args if isinstance(one, PositionalArgument)]
        wrong = FILTERS[call.name].misuse(len(placed), named)
        if wrong or not all(isinstance(one, Literal | Nil) for one in (*placed, *named.values())):
            return wrong
        return FILTERS[call.name].refuses(
            tuple(one.evaluate(self._context) for one in placed),
            {name: one.evaluate(self._context) for name, one in named.items()},
        )


def _assigned(nodes: Iterable[Node], context: RenderContext) -> set[str]:
    """Return every name that is assigned anywhere: nobody knows in which order loops and branches run."""
    names: set[str] = set()
    for node in nodes:
        names.update(str(name) for name in node.template_scope())
        names |= _assigned(node.children(context), context)
    return names


def _segments(path: Path) -> list[object]:
    """Return a path as names and indexes; a path in brackets becomes a list, so that it prints as it was written."""
    return [_segments(one) if isinstance(one, Path) else one for one in path.path]


def _reached_limit(template: Template, sample: Mapping[str, object]) -> list[TemplateError]:
    try:
        template.render(scope(sample, _EVENT))
    except TemplateError as error:
        return [error] if isinstance(error.__cause__, LimitReached) else []
    return []
