"""Translation of python-liquid's errors to TemplateErrors with a message for the template's author.

python-liquid's own messages name token kinds and Python types, so they are never passed on. A message here is one or
two sentences without the last full stop, because TemplateError appends the line and column.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from liquid import Token
from liquid.exceptions import LiquidError, LiquidTypeError, LiquidValueError, UndefinedError
from liquid.token import TOKEN_GT, TOKEN_ILLEGAL, TOKEN_LT

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import Refusal

#: Characters of the author's text that one message quotes.
_MAX_QUOTE = 60

_TOO_DEEP = "The template is nested too deeply. Simplify it"
_INCOMPLETE = "The expression is incomplete"

#: How python-liquid's syntax messages start, and the messages for the author.
_SYNTAX = {
    "disallowed not": "Liquid has no 'not'. Use '== false', '!=' or the tag 'unless'",
    "disallowed parentheses": "Liquid has no parentheses in conditions. Use nested 'if' tags",
    "disallowed ternary": "Liquid has no inline 'if'. Use the tag 'if'",
    "expected 'reversed'": "Only 'limit:', 'offset:' and 'reversed' may follow the list",
    "expected a comma": "Arguments must be separated by commas",
    "expected an identifier, found a path": "A plain name is required here, not a path",
    "expected at least one argument": "At least one value is required here",
    "missing or unexpected path segment": "A name is missing here",
}

#: Signs from other languages, and the Liquid to use instead.
_HINTS = {
    "!": "Use '!=' or '== false'",
    "&": "Use 'and'",
    "%": "Tags cannot be used inside an expression",
    "=": "Did you mean '=='?",
    "===": "Use '=='",
    "==!": "Use '!='",
    "{": "Braces cannot be used inside an expression",
    "|": "Filters cannot be used here",
    "||": "Use 'or'",
}


def error_at(source: str, index: int, message: str) -> TemplateError:
    """Return a TemplateError for the character at `index` (from 0) of the author's text."""
    line = source.count("\n", 0, index) + 1
    column = index - source.rfind("\n", 0, index)
    return TemplateError(message, line, column)


def translate_syntax_error(error: Exception, source: str, end: int) -> TemplateError:
    """Translate an error raised while parsing.

    `end` is the index to report when the error has no token: the end of the expression that was being parsed.
    """
    if isinstance(error, RecursionError):
        return error_at(source, end, _TOO_DEEP)
    if not isinstance(error, LiquidError):
        return error_at(source, end, "This is not valid Liquid")
    token = error.token
    if token is None or token.start_index < 0:
        return error_at(source, end, _syntax_message(error, None))
    return error_at(source, token.start_index, _syntax_message(error, token))


def translate_render_error(error: Exception, token: Token | None) -> TemplateError:
    """Translate an error raised while rendering. `token` is the place to report if the error has none."""
    if isinstance(error, LiquidError) and error.token is not None and error.token.start_index >= 0:
        token = error.token
    message = _render_message(error)
    if token is None:
        return TemplateError(message)
    return error_at(token.source, token.start_index, message)


def describe_unknown(kind: str, name: str, known_names: Iterable[str]) -> str:
    """Return a message such as "Unknown filter 'url_encod'. Did you mean 'url_encode'?"."""
    message = f"Unknown {kind} '{quote(name)}'"
    suggestion = find_nearest(name, known_names)
    if suggestion is None:
        return message
    return f"{message}. Did you mean '{suggestion}'?"


def find_nearest(name: str, known_names: Iterable[str]) -> str | None:
    """Return the known name that the author probably meant, or None."""
    if len(name) > _MAX_QUOTE:  # difflib is quadratic, and no real name is that long
        return None
    return next(iter(get_close_matches(name, known_names, n=1)), None)


def quote(text: str) -> str:
    """Return `text` on one line, cut to a length that fits a message."""
    line = " ".join(text.split())
    if len(line) <= _MAX_QUOTE:
        return line
    return line[: _MAX_QUOTE - 1] + "…"


def _syntax_message(error: LiquidError, token: Token | None) -> str:
    if isinstance(error, Refusal):
        return str(error.message)
    if isinstance(error, LiquidValueError):
        return "The number has too many digits"
    original = str(error.message)
    for start, message in _SYNTAX.items():
        if original.startswith(start):
            return message
    if token is None:
        return _INCOMPLETE
    if token.kind == TOKEN_ILLEGAL and token.value in ("'", '"'):
        return "The quote opened here is never closed"
    unexpected = f"Unexpected '{quote(token.value)}'"
    hint = _HINTS.get(token.value)
    if hint is None:
        return unexpected
    return f"{unexpected}. {hint}"


def _render_message(error: Exception) -> str:
    if isinstance(error, Refusal | UndefinedError):
        return str(error.message)
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeError):
        return "The text contains characters that cannot be encoded as UTF-8"
    if isinstance(error, LiquidTypeError) and error.token is not None:
        if error.token.kind in (TOKEN_LT, TOKEN_GT):
            return "'<' and '>' compare two numbers or two strings"
        return "An integer is required here"
    return "The template cannot be rendered with these values"
