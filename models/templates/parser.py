"""Text to syntax tree: the one way into python-liquid's parser."""

from liquid import Token, TokenStream
from liquid.builtin.expressions import BooleanExpression, tokenize
from liquid.parser import get_parser
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EXPRESSION

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import MAX_SOURCE_BYTES
from ringback.models.templates.environment import ENVIRONMENT
from ringback.models.templates.errors import problem, syntax_problem
from ringback.models.templates.hardening import harden, harden_expression
from ringback.models.templates.lexer import count_parts, scan


def parse_template(source: str) -> BoundTemplate:
    """Return the syntax tree of a template, ready to be rendered under the limits; raises TemplateError."""
    _refuse_large(source)
    stream = TokenStream(iter(scan(source)))
    try:
        nodes = get_parser(ENVIRONMENT).parse(stream)
        harden(nodes)
    except Exception as error:
        raise syntax_problem(error, source, _standing(stream)) from error
    return BoundTemplate(ENVIRONMENT, nodes)


def parse_condition(expression: str) -> BooleanExpression:
    """Return the syntax tree of a bare boolean expression; raises TemplateError.

    The text goes straight to the expression parser, never through a template, so no tag can be smuggled in.
    """
    _refuse_large(expression)
    end = len(expression.rstrip())
    if not end:
        raise problem("the condition is empty", expression, 0)
    count_parts(expression, 0, end)
    try:
        parsed = BooleanExpression.parse(
            ENVIRONMENT, TokenStream(tokenize(expression, Token(TOKEN_EXPRESSION, expression, 0, expression)))
        )
        harden_expression(parsed)
    except Exception as error:
        raise syntax_problem(error, expression, end) from error
    return parsed


def _refuse_large(source: str) -> None:
    # A lone surrogate may come in with JSON; it is refused when it is rendered.
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        raise TemplateError(f"the text is larger than {MAX_SOURCE_BYTES} bytes")


def _standing(stream: TokenStream) -> int:
    """Return the end of the expression that the parser has just read, or is about to read."""
    for token in (stream.current, *stream.tokens[max(stream.pos - 1, 0) : stream.pos]):
        if token.kind == TOKEN_EXPRESSION:
            return token.start_index + len(token.value)
    return max(stream.current.start_index, 0)
