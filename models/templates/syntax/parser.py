"""Parsing of templates and conditions; nothing else calls python-liquid's parser."""

from liquid import Token, TokenStream
from liquid.builtin.expressions import BooleanExpression, tokenize
from liquid.parser import get_parser
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EXPRESSION

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import MAX_SOURCE_BYTES
from ringback.models.templates.errors import error_at, translate_syntax_error
from ringback.models.templates.syntax.environment import ENVIRONMENT
from ringback.models.templates.syntax.hardening import harden, harden_expression
from ringback.models.templates.syntax.lexer import count_parts, scan


def parse_template(source: str) -> BoundTemplate:
    """Return the syntax tree of a template, with its limits built in. Raises TemplateError."""
    _check_size(source)
    stream = TokenStream(iter(scan(source)))
    try:
        nodes = get_parser(ENVIRONMENT).parse(stream)
        harden(nodes)
    except Exception as error:
        raise translate_syntax_error(error, source, _find_expression_end(stream)) from error
    return BoundTemplate(ENVIRONMENT, nodes)


def parse_condition(expression: str) -> BooleanExpression:
    """Return the syntax tree of a boolean expression without markup. Raises TemplateError.

    The expression parser reads the text directly, so a condition cannot contain tags.
    """
    _check_size(expression)
    end = len(expression.rstrip())
    if not end:
        raise error_at(expression, 0, "The condition is empty. Enter an expression, such as item.id != nil")
    start = end - len(expression.strip())
    if expression.startswith(("{{", "{%"), start):
        raise error_at(expression, start, "A condition has no braces. Leave out {{ }} and {% %}: item.id != nil")
    count_parts(expression, 0, end)
    tokens = tokenize(expression, Token(TOKEN_EXPRESSION, expression, 0, expression))
    try:
        parsed = BooleanExpression.parse(ENVIRONMENT, TokenStream(tokens))
        harden_expression(parsed)
    except Exception as error:
        raise translate_syntax_error(error, expression, end) from error
    return parsed


def _check_size(source: str) -> None:
    # JSON may contain lone surrogates. They are refused when the text is rendered.
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > MAX_SOURCE_BYTES:
        raise TemplateError(f"The text has {size:,} bytes; {MAX_SOURCE_BYTES:,} are allowed. Shorten it")


def _find_expression_end(stream: TokenStream) -> int:
    """Return the end of the expression that the parser has just read or is about to read."""
    previous = stream.tokens[max(stream.pos - 1, 0) : stream.pos]
    for token in (stream.current, *previous):
        if token.kind == TOKEN_EXPRESSION:
            return token.start_index + len(token.value)
    return max(stream.current.start_index, 0)
