"""Every failure of python-liquid becomes a TemplateError here, with a message for the author and a place in the text.

python-liquid speaks of token kinds and Python types; its messages are not passed on.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from liquid import Token
from liquid.exceptions import LiquidError, LiquidTypeError, LiquidValueError, UndefinedError
from liquid.token import TOKEN_CONTAINS, TOKEN_GT, TOKEN_ILLEGAL, TOKEN_LT

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import Refusal

#: Longest piece of the author's text that is quoted in a message, in characters.
_MAX_QUOTE = 60

_TOO_DEEP = "this is nested too deeply"

# What python-liquid says (the start of it), and what we say.
_SYNTAX = {
    "disallowed not": "Liquid has no 'not': use '== false', '!=' or the tag 'unless'",
    "disallowed parentheses": "Liquid has no parentheses in conditions: use nested 'if' tags",
    "disallowed ternary": "Liquid has no inline 'if': use the tag 'if'",
    "expected 'reversed'": "after the list, only 'limit:', 'offset:' and 'reversed' may follow",
    "expected a comma": "arguments are separated by commas",
    "expected an identifier, found a path": "a plain name is needed here, not a path",
    "expected at least one argument": "at least one value is needed here",
    "missing or unexpected path segment": "a name is missing here",
}

# What people write by habit from other languages, and the Liquid for it.
_HABITS = {
    "!": "use '!=', or '== false'",
    "&": "use 'and'",
    "%": "tags cannot stand inside an expression",
    "=": "did you mean '=='?",
    "===": "use '=='",
    "==!": "use '!='",
    "{": "braces cannot stand inside an expression",
    "|": "a filter cannot stand here",
    "||": "use 'or'",
}


def problem(message: str, source: str, index: int) -> TemplateError:
    """Return a TemplateError for the character at `index` (from 0) of the author's text."""
    line = source.count("\n", 0, index) + 1
    column = index - source.rfind("\n", 0, index)
    return TemplateError(message, line, column)


def syntax_problem(error: Exception, source: str, end: int) -> TemplateError:
    """Translate what python-liquid raised while parsing; `end` is the place for an expression that ends too early."""
    if not isinstance(error, LiquidError):
        return problem(_TOO_DEEP if isinstance(error, RecursionError) else "this cannot be read as Liquid", source, end)
    token = error.token
    known = token is not None and token.start_index >= 0
    index = token.start_index if token is not None and known else end
    if isinstance(error, Refusal):
        return problem(str(error.message), source, index)
    if isinstance(error, LiquidValueError):
        return problem("a number has too many digits", source, index)
    said = str(error.message)
    for start, ours in _SYNTAX.items():
        if said.startswith(start):
            return problem(ours, source, index)
    if token is None or not known:
        return problem("the expression is not complete", source, end)
    if token.kind == TOKEN_ILLEGAL and token.value in ("'", '"'):
        return problem("a quote is opened here and never closed", source, index)
    hint = _HABITS.get(token.value)
    return problem(f"unexpected '{quote(token.value)}'" + (f": {hint}" if hint else ""), source, index)


def render_problem(error: Exception, token: Token | None) -> TemplateError:
    """Translate what was raised while rendering; `token` is where the render stood, if the error does not know."""
    if isinstance(error, LiquidError) and error.token is not None and error.token.start_index >= 0:
        token = error.token
    message = _render_message(error)
    return TemplateError(message) if token is None else problem(message, token.source, token.start_index)


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """Return "unknown filter 'url_encod': did you mean 'url_encode'?", or its first half when nothing is near."""
    near = nearest(word, known)
    return f"unknown {what} '{quote(word)}'" + (f": did you mean '{near}'?" if near else "")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was probably meant to be."""
    # difflib is quadratic, and no name in use is that long.
    return next(iter(get_close_matches(word, known, n=1)), None) if len(word) <= _MAX_QUOTE else None


def quote(text: str) -> str:
    """Return `text` on one line and short enough for a message."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_QUOTE else line[: _MAX_QUOTE - 1] + "…"


def _render_message(error: Exception) -> str:
    if isinstance(error, Refusal | UndefinedError):
        return str(error.message)
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeError):
        return "the text holds characters that cannot be written as UTF-8"
    if isinstance(error, LiquidTypeError) and error.token is not None:
        if error.token.kind in (TOKEN_LT, TOKEN_GT):
            return "'<' and '>' compare two numbers or two texts"
        if error.token.kind == TOKEN_CONTAINS:
            return "'contains' needs a text or a list on its left"
        return "a whole number is needed here"
    return "this cannot be rendered with these values"
