"""Cuts a template into python-liquid's tokens, in one pass, and checks how its blocks fit together.

python-liquid has a lexer of its own, whose regular expressions need quadratic time and worse on hostile text: 32 KB of
`{{`, or of spaces inside `{{ }}`, keep it busy for minutes. This one only searches forward. It sees the blocks
before they are parsed, so it can name the tag that was never closed. Comments and `raw` are dealt with here.
"""

import re
from dataclasses import dataclass
from typing import cast

from liquid import Token
from liquid.token import TOKEN_CONTENT, TOKEN_EXPRESSION, TOKEN_OUTPUT, TOKEN_TAG

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import MAX_BRACKETS, MAX_NESTING, MAX_PARTS
from ringback.models.templates.errors import problem, unknown

#: Tags that need a closing `end…`, with the tags that divide them.
_BLOCKS: dict[str, tuple[str, ...]] = {
    "capture": (),
    "case": ("when", "else"),
    "for": ("else",),
    "if": ("elsif", "else"),
    "ifchanged": (),
    "unless": ("elsif", "else"),
}
_DIVIDERS = {"else", "elsif", "when"}
_ENDS = {f"end{name}": name for name in _BLOCKS}
#: Tags that cannot do without an expression, and those that cannot have one.
_WITH = {"assign", "capture", "case", "cycle", "decrement", "echo", "elsif", "for", "if", "increment", "unless", "when"}
_WITHOUT = {"break", "continue", "else", "ifchanged", *_ENDS}
_TAGS = _WITH | _WITHOUT
_VERBATIM = {"comment", "raw"}
#: Tags of Liquid that are left out: they load files, or add nothing to a webhook but ways to go wrong.
REFUSED_TAGS = {"doc", "include", "layout", "liquid", "render", "tablerow"}

_OPENING = re.compile(r"(?:\{\{|\{%)-?")
_NAME = re.compile(r"\s*(#|\w*)\s*")
_END_RAW = re.compile(r"\{%-?\s*(?P<end>end)raw\s*(?P<trim>-?)%\}")
_COMMENT = re.compile(r"\{%-?\s*(?P<end>end)?comment\s*(?P<trim>-?)%\}")
_PART = re.compile(r"""\"[^\"]*\"|'[^']*'|\w+|[^\w\s]""")


def scan(source: str) -> list[Token]:
    """Return the tokens of a template; raises TemplateError for markup or blocks that do not fit together."""
    return _Scanner(source).run()


def count_parts(source: str, start: int, end: int) -> int:
    """Return how many names, literals and signs stand between two places; too many of them raise TemplateError."""
    brackets = parts = 0
    for part in _PART.finditer(source, start, end):
        parts += 1
        brackets += part[0] in "(["
        if brackets > MAX_BRACKETS:
            raise problem(f"more than {MAX_BRACKETS} brackets in one expression", source, part.start())
        if parts > MAX_PARTS:
            raise problem("the template has too much markup", source, part.start())
    return parts


@dataclass(slots=True)
class _Block:
    """A block that is still open; `last` once its `else` has been seen."""

    name: str
    index: int
    last: bool = False


class _Scanner:
    """One pass over one source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens: list[Token] = []
        self.blocks: list[_Block] = []
        self.parts = 0
        self.trim = False  # the markup before ended in "-"

    def run(self) -> list[Token]:
        at = 0
        while opening := _OPENING.search(self.source, at):
            self.content(at, opening.start(), trim=opening[0].endswith("-"))
            self.count(2, opening.start())
            at = self.markup(opening)
        self.content(at, len(self.source), trim=False)
        if self.blocks:
            block = self.blocks[-1]
            raise self.problem(f"'{block.name}' is never closed: '{{% end{block.name} %}}' is missing", block.index)
        return self.tokens

    def content(self, start: int, end: int, *, trim: bool) -> None:
        text = self.source[start:end]
        if self.trim:
            text = text.lstrip()
        if trim:
            text = text.rstrip()
        if text:
            self.count(1, start)
            self.emit(TOKEN_CONTENT, text, start)

    def markup(self, opening: re.Match[str]) -> int:
        """Emit one output or tag, and return where the text goes on."""
        start = opening.end()
        closing = "}}" if opening[0].startswith("{{") else "%}"
        found = self.source.find(closing, start)
        if found < 0:
            raise self.problem(f"'{opening[0]}' is never closed: '{closing}' is missing", opening.start())
        self.trim = found > start and self.source[found - 1] == "-"
        end = found - self.trim
        if closing == "}}":
            self.emit(TOKEN_OUTPUT, self.source[opening.start() : found + 2], opening.start())
            self.expression(start, end, needed_by="{{ }}")
            return found + 2
        return self.tag(start, end, found + 2)

    def tag(self, start: int, end: int, after: int) -> int:
        named = cast("re.Match[str]", _NAME.match(self.source, start, end))  # every part of it may be empty
        name, index = named[1], named.start(1)
        if name in _VERBATIM:
            return self.verbatim(name, index, after)
        if name == "#":
            return after
        if name in REFUSED_TAGS:
            raise self.problem(f"the tag '{name}' is not available here", index)
        if name not in _TAGS:
            raise self.problem(unknown("tag", name, _TAGS | _VERBATIM) if name else "the tag has no name", index)
        self.fit(name, index)
        self.emit(TOKEN_TAG, name, index)
        if name in _WITH:
            self.expression(named.end(), end, needed_by=name)
        elif self.source[named.end() : end].strip():
            raise self.problem(f"'{name}' takes nothing after its name", named.end())
        return after

    def expression(self, start: int, end: int, *, needed_by: str) -> None:
        text = self.source[start:end]
        value = text.strip()
        if not value:
            raise self.problem(f"'{needed_by}' needs an expression", start)
        self.count(count_parts(self.source, start, end), start)
        self.emit(TOKEN_EXPRESSION, value, start + len(text) - len(text.lstrip()))

    def verbatim(self, name: str, index: int, after: int) -> int:
        """Pass over a comment, or take the inside of `raw` as it is; return where the text goes on."""
        depth = 1
        for mark in (_END_RAW if name == "raw" else _COMMENT).finditer(self.source, after):
            depth += -1 if mark["end"] else 1
            if depth == 0:
                self.trim = bool(mark["trim"])
                if name == "raw" and mark.start() > after:
                    self.emit(TOKEN_CONTENT, self.source[after : mark.start()], after)
                return mark.end()
        raise self.problem(f"'{name}' is never closed: '{{% end{name} %}}' is missing", index)

    def fit(self, name: str, index: int) -> None:
        """Keep account of the open blocks, and refuse a tag that has no business in the innermost one."""
        block = self.blocks[-1] if self.blocks else None
        if name in _BLOCKS:
            if len(self.blocks) == MAX_NESTING:
                raise self.problem(f"more than {MAX_NESTING} blocks inside each other", index)
            self.blocks.append(_Block(name, index))
        elif name in _ENDS:
            if block is None or block.name != _ENDS[name]:
                raise self.misplaced(name, index, block)
            self.blocks.pop()
        elif name in _DIVIDERS:
            if block is None or name not in _BLOCKS[block.name] or (block.last and block.name != "case"):
                raise self.misplaced(name, index, block)
            block.last = name == "else"
        elif name in ("break", "continue") and not any(outer.name == "for" for outer in self.blocks):
            raise self.problem(f"'{name}' stands outside of a loop", index)

    def misplaced(self, name: str, index: int, block: _Block | None) -> TemplateError:
        if block is None:
            return self.problem(f"'{name}' has no open block that it belongs to", index)
        line = self.source.count("\n", 0, block.index) + 1
        opened = f"the '{block.name}' opened in line {line}"
        if name in _BLOCKS[block.name]:
            return self.problem(f"'{name}' comes after the 'else' of {opened}", index)
        return self.problem(f"'{name}' does not belong into {opened}", index)

    def count(self, parts: int, index: int) -> None:
        self.parts += parts
        if self.parts > MAX_PARTS:
            raise self.problem("the template has too much markup", index)

    def emit(self, kind: str, value: str, index: int) -> None:
        self.tokens.append(Token(kind, value, index, self.source))

    def problem(self, message: str, index: int) -> TemplateError:
        return problem(message, self.source, index)
