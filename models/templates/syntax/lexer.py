"""The lexer: cuts a template into python-liquid's tokens in one pass, and checks that its blocks are balanced.

python-liquid's own lexer uses regular expressions that take quadratic time or worse on hostile text: 32 KB of `{{`, or
of spaces inside `{{ }}`, keep it busy for minutes. This one only searches forward. Because it sees the blocks before
they are parsed, it can name the tag that was never closed. It also handles comments and `raw`.
"""

import re
from dataclasses import dataclass
from typing import cast

from liquid import Token
from liquid.token import TOKEN_CONTENT, TOKEN_EXPRESSION, TOKEN_OUTPUT, TOKEN_TAG

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import MAX_BRACKETS, MAX_NESTING, MAX_PARTS
from ringback.models.templates.errors import describe_unknown, error_at

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
#: Tags that require an expression.
_WITH_EXPRESSION = {
    "assign",
    "capture",
    "case",
    "cycle",
    "decrement",
    "echo",
    "elsif",
    "for",
    "if",
    "increment",
    "unless",
    "when",
}
#: Tags that allow no expression.
_WITHOUT_EXPRESSION = {"break", "continue", "else", "ifchanged", *_ENDS}
_TAGS = _WITH_EXPRESSION | _WITHOUT_EXPRESSION
_VERBATIM = {"comment", "raw"}
#: Liquid tags that are not supported: they load files, or a webhook has no use for them.
REFUSED_TAGS = {"doc", "include", "layout", "liquid", "render", "tablerow"}

_OPENING = re.compile(r"(?:\{\{|\{%)-?")
_NAME = re.compile(r"\s*(#|\w*)\s*")
_END_RAW = re.compile(r"\{%-?\s*endraw\s*(?P<trim>-?)%\}")
_COMMENT = re.compile(r"\{%-?\s*(?:(?P<end>end)?comment|(?P<raw>raw))\s*(?P<trim>-?)%\}")
_PART = re.compile(r"""\"[^\"]*\"|'[^']*'|\w+|[^\w\s]""")

_TOO_MUCH_MARKUP = f"The template has more than {MAX_PARTS:,} names, literals and signs in its markup. Shorten it"


def scan(source: str) -> list[Token]:
    """Return the tokens of a template. Raises TemplateError for broken markup and unbalanced blocks."""
    return _Scanner(source).run()


def count_parts(source: str, start: int, end: int) -> int:
    """Return the number of names, literals and signs in `source[start:end]`.

    Raises TemplateError for more than MAX_PARTS, or for more than MAX_BRACKETS opening brackets.
    """
    brackets = parts = 0
    for part in _PART.finditer(source, start, end):
        parts += 1
        brackets += part[0] in "(["
        if brackets > MAX_BRACKETS:
            message = f"The expression has more than {MAX_BRACKETS} opening brackets. Split it with 'assign'"
            raise error_at(source, part.start(), message)
        if parts > MAX_PARTS:
            raise error_at(source, part.start(), _TOO_MUCH_MARKUP)
    return parts


@dataclass(slots=True)
class _Block:
    """An open block. `has_else` is set once its `else` has been read."""

    name: str
    index: int
    has_else: bool = False


class _Scanner:
    """One pass over one source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens: list[Token] = []
        self.blocks: list[_Block] = []
        self.parts = 0
        self.trims_next = False  # the markup before ended in "-"

    def run(self) -> list[Token]:
        position = 0
        while opening := _OPENING.search(self.source, position):
            self.scan_content(position, opening.start(), trims_end=opening[0].endswith("-"))
            self.add_parts(2, opening.start())
            position = self.scan_markup(opening)
        self.scan_content(position, len(self.source), trims_end=False)
        if self.blocks:
            raise self.unclosed_error(self.blocks[-1].name, self.blocks[-1].index)
        return self.tokens

    def scan_content(self, start: int, end: int, *, trims_end: bool) -> None:
        text = self.source[start:end]
        if self.trims_next:
            text = text.lstrip()
        if trims_end:
            text = text.rstrip()
        if text:
            self.add_parts(1, start)
            self.emit(TOKEN_CONTENT, text, start)

    def scan_markup(self, opening: re.Match[str]) -> int:
        """Emit one output or tag, and return the index after it."""
        start = opening.end()
        is_output = opening[0].startswith("{{")
        closing = "}}" if is_output else "%}"
        closing_at = self.source.find(closing, start)
        if closing_at < 0:
            raise self.error(f"'{opening[0]}' is never closed. Add '{closing}'", opening.start())
        after = closing_at + len(closing)
        self.trims_next = closing_at > start and self.source[closing_at - 1] == "-"
        end = closing_at - self.trims_next
        if not is_output:
            return self.scan_tag(start, end, after)
        self.emit(TOKEN_OUTPUT, self.source[opening.start() : after], opening.start())
        self.scan_expression(start, end, owner="{{ }}")
        return after

    def scan_tag(self, start: int, end: int, after: int) -> int:
        head = cast("re.Match[str]", _NAME.match(self.source, start, end))  # the pattern matches the empty string too
        name, index = head[1], head.start(1)
        if name in _VERBATIM:
            return self.scan_verbatim(name, index, after)
        if name == "#":
            return after
        if name in REFUSED_TAGS:
            raise self.error(f"The tag '{name}' is not supported. Remove it", index)
        if not name:
            raise self.error("The tag has no name. Write one after '{%'", index)
        if name not in _TAGS:
            raise self.error(describe_unknown("tag", name, _TAGS | _VERBATIM), index)
        self.track_block(name, index)
        self.emit(TOKEN_TAG, name, index)
        if name in _WITH_EXPRESSION:
            self.scan_expression(head.end(), end, owner=name)
        elif self.source[head.end() : end].strip():
            raise self.error(f"'{name}' takes no expression. Remove the text after it", head.end())
        return after

    def scan_expression(self, start: int, end: int, *, owner: str) -> None:
        text = self.source[start:end]
        value = text.strip()
        if not value:
            raise self.error(f"'{owner}' needs an expression", start)
        self.add_parts(count_parts(self.source, start, end), start)
        self.emit(TOKEN_EXPRESSION, value, start + len(text) - len(text.lstrip()))

    def scan_verbatim(self, name: str, index: int, after: int) -> int:
        """Skip a comment, or emit the content of `raw` unchanged. Return the index after it."""
        end = _END_RAW.search(self.source, after) if name == "raw" else self.find_comment_end(after)
        if end is None:
            raise self.unclosed_error(name, index)
        self.trims_next = bool(end["trim"])
        if name == "raw" and end.start() > after:
            self.emit(TOKEN_CONTENT, self.source[after : end.start()], after)
        return end.end()

    def find_comment_end(self, position: int) -> re.Match[str] | None:
        """Return the tag that ends a comment. Comments nest, and tags inside `raw` do not count."""
        depth = 1
        has_raw = True
        while mark := _COMMENT.search(self.source, position):
            position = mark.end()
            if mark["raw"]:
                end_raw = _END_RAW.search(self.source, position) if has_raw else None
                has_raw = end_raw is not None  # searched for once, so that the time stays linear
                position = end_raw.end() if end_raw is not None else position
                continue
            depth += -1 if mark["end"] else 1
            if depth == 0:
                return mark
        return None

    def track_block(self, name: str, index: int) -> None:
        """Update the stack of open blocks. Raises TemplateError for a tag that is not allowed in the innermost one."""
        if name in _BLOCKS:
            if len(self.blocks) == MAX_NESTING:
                raise self.error(f"More than {MAX_NESTING} blocks are nested. Reduce the nesting", index)
            self.blocks.append(_Block(name, index))
        elif name in _ENDS:
            self.close_block(name, index)
        elif name in _DIVIDERS:
            self.divide_block(name, index)
        elif name in ("break", "continue") and not any(block.name == "for" for block in self.blocks):
            raise self.error(f"'{name}' is outside a loop. Move it between 'for' and 'endfor', or remove it", index)

    def close_block(self, name: str, index: int) -> None:
        if not self.blocks or self.blocks[-1].name != _ENDS[name]:
            raise self.misplaced_error(name, index)
        self.blocks.pop()

    def divide_block(self, name: str, index: int) -> None:
        block = self.blocks[-1] if self.blocks else None
        if block is None or name not in _BLOCKS[block.name]:
            raise self.misplaced_error(name, index)
        if block.has_else and block.name != "case":
            raise self.misplaced_error(name, index)
        block.has_else = name == "else"

    def misplaced_error(self, name: str, index: int) -> TemplateError:
        if not self.blocks:
            return self.error(f"'{name}' is outside any block. Open its block before it, or remove it", index)
        block = self.blocks[-1]
        line = self.source.count("\n", 0, block.index) + 1
        opened = f"the '{block.name}' opened on line {line}"
        if name in _BLOCKS[block.name]:
            return self.error(f"'{name}' comes after the 'else' of {opened}. Move it before the 'else'", index)
        return self.error(f"'{name}' is not allowed in {opened}. Add '{{% end{block.name} %}}' first", index)

    def unclosed_error(self, name: str, index: int) -> TemplateError:
        return self.error(f"'{name}' is never closed. Add '{{% end{name} %}}'", index)

    def error(self, message: str, index: int) -> TemplateError:
        return error_at(self.source, index, message)

    def add_parts(self, count: int, index: int) -> None:
        self.parts += count
        if self.parts > MAX_PARTS:
            raise self.error(_TOO_MUCH_MARKUP, index)

    def emit(self, kind: str, value: str, index: int) -> None:
        self.tokens.append(Token(kind, value, index, self.source))
