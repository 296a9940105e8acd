"""Messages about mistakes in templates and conditions, with line and column."""

import inspect

import pytest
from liquid import exceptions as liquid_exceptions

from ringback.models.templates.errors import translate_render_error, translate_syntax_error
from ringback.models.templates.template import compile_condition, compile_template
from tests.support.templates import SCOPE, catch_message, located_message


@pytest.mark.parametrize(
    ("source", "message", "line", "column"),
    [
        ("{{ item.name", "'{{' is never closed. Add '}}'", 1, 1),
        ("a\n{% if", "'{%' is never closed. Add '%}'", 2, 1),
        (
            "x\n {% if a %}\n{% endfor %}",
            "'endfor' is not allowed in the 'if' opened on line 2. Add '{% endif %}' first",
            3,
            4,
        ),
        ("x\n {% if a %}", "'if' is never closed. Add '{% endif %}'", 2, 5),
        ("{% endif %}", "'endif' is outside any block. Open its block before it, or remove it", 1, 4),
        (
            "{% if a %}{% else %}{% elsif b %}{% endif %}",
            "'elsif' comes after the 'else' of the 'if' opened on line 1. Move it before the 'else'",
            1,
            24,
        ),
        ("{% raw %}", "'raw' is never closed. Add '{% endraw %}'", 1, 4),
        ("{% comment %}{% if %}", "'comment' is never closed. Add '{% endcomment %}'", 1, 4),
        ("{% fro a in b %}", "Unknown tag 'fro'. Did you mean 'for'?", 1, 4),
        ("{% macro 'a' %}", "Unknown tag 'macro'", 1, 4),
        ("{% include 'x' %}", "The tag 'include' is not supported. Remove it", 1, 4),
        ("{% render 'x' %}", "The tag 'render' is not supported. Remove it", 1, 4),
        ("{% tablerow x in y %}", "The tag 'tablerow' is not supported. Remove it", 1, 4),
        ("{% liquid echo 1 %}", "The tag 'liquid' is not supported. Remove it", 1, 4),
        ("{% %}", "The tag has no name. Write one after '{%'", 1, 4),
        ("{% break %}", "'break' is outside a loop. Move it between 'for' and 'endfor', or remove it", 1, 4),
        ("{{ }}", "'{{ }}' needs an expression", 1, 3),
        ("{% if %}{% endif %}", "'if' needs an expression", 1, 7),
        ("{% if a %}{% else if b %}{% endif %}", "'else' takes no expression. Remove the text after it", 1, 19),
        ("{% if a == %}{% endif %}", "The expression is incomplete", 1, 11),
        ("é\r\n{{ item.name | }}", "The expression is incomplete", 2, 15),
        ("{% for x in %}{% endfor %}", "The expression is incomplete", 1, 12),
        ("{% for x.y in z %}{% endfor %}", "A plain name is required here, not a path", 1, 8),
        (
            "{% for x in z by: 3 %}{% endfor %}",
            "Only 'limit:', 'offset:' and 'reversed' may follow the list",
            1,
            15,
        ),
        ("{{ a b }}", "Unexpected 'b'", 1, 6),
        ("{{ 'a }}", "The quote opened here is never closed", 1, 4),
        ("{% if a = b %}{% endif %}", "Unexpected '='. Did you mean '=='?", 1, 9),
        ("{% if a && b %}{% endif %}", "Unexpected '&'. Use 'and'", 1, 9),
        ("{% if a || b %}{% endif %}", "Unexpected '||'. Use 'or'", 1, 9),
        ("{% if not a %}{% endif %}", "Liquid has no 'not'. Use '== false', '!=' or the tag 'unless'", 1, 7),
        ("{% if (a) %}{% endif %}", "Liquid has no parentheses in conditions. Use nested 'if' tags", 1, 7),
        ("{{ a if b }}", "Liquid has no inline 'if'. Use the tag 'if'", 1, 6),
        ("{{ a {{ b }}", "Unexpected '{'. Braces cannot be used inside an expression", 1, 6),
        ("{{ " + "9" * 5000 + " }}", "The number has too many digits", 1, 4),
    ],
)
def test_syntax_errors_have_a_message_and_a_place(source: str, message: str, line: int, column: int) -> None:
    assert catch_message(lambda: compile_template(source)) == (message, line, column)


@pytest.mark.parametrize(
    ("source", "message", "column"),
    [
        ("{{ 1 | url_encod }}", "Unknown filter 'url_encod'. Did you mean 'url_encode'?", 8),
        ("{{ 1 | zzzzz }}", "Unknown filter 'zzzzz'", 8),
        ("{{ 'a' | upcase: 1 }}", "'upcase' takes no arguments; 1 given", 10),
        ("{{ 'a' | append }}", "'append' takes 1 argument; 0 given", 10),
        ("{{ 'a' | slice: 1, 2, 3 }}", "'slice' takes 1 to 2 arguments; 3 given", 10),
        ("{{ 'a' | upcase: environment: 5 }}", "'upcase' has no argument named 'environment'. Remove it", 10),
        ("{{ 'a' | upcase: context: item }}", "'upcase' has no argument named 'context'. Remove it", 10),
        ("{{ 5 | divided_by: 0 }}", "'divided_by' does not accept 0", 8),
        ("{{ 'a' | slice: 'b' }}", "'slice' does not accept b", 10),
        (
            "{{ item.items | sort }}",
            "'sort' cannot be applied to this value. Change the value, or use another filter",
            17,
        ),
        (
            "{{ 'a' | base64_decode }}",
            "'base64_decode' cannot be applied to this value. Change the value, or use another filter",
            10,
        ),
        ("{% if 1 < 'a' %}{% endif %}", "'<' and '>' compare two numbers or two strings", 9),
        ("{% for i in item.tags limit: 'x' %}{% endfor %}", "An integer is required here", 30),
        ("{{ surrogate }}", "The text contains characters that cannot be encoded as UTF-8", 4),
    ],
)
def test_render_errors_have_a_message_and_a_place(source: str, message: str, column: int) -> None:
    template = compile_template(source)
    assert catch_message(lambda: template.render({**SCOPE, "surrogate": "\ud800"})) == (message, 1, column)


def test_messages_of_python_liquid_are_never_passed_on() -> None:
    for _, kind in inspect.getmembers(liquid_exceptions, inspect.isclass):
        if issubclass(kind, liquid_exceptions.LiquidError) and kind is not liquid_exceptions.UndefinedError:
            error = kind("TOKEN internal", token=None)
            assert "internal" not in str(translate_render_error(error, None))
            assert "internal" not in str(translate_syntax_error(error, "x", 0))
    assert (
        str(translate_render_error(KeyError("internal"), None)) == "The template cannot be rendered with these values"
    )
    assert located_message(translate_syntax_error(RecursionError(), "x", 0)) == (
        "The template is nested too deeply. Simplify it",
        1,
        1,
    )


@pytest.mark.parametrize(
    ("expression", "message", "line", "column"),
    [
        ("true %}x{% if true", "Unexpected '%'. Tags cannot be used inside an expression", 1, 6),
        ("true -%}{% endif %}{% include 'x' %}", "Unexpected '-'", 1, 6),
        ("{{ item.paid }}", "A condition has no braces. Leave out {{ }} and {% %}: item.id != nil", 1, 1),
        ("item.paid == {{ 1 }}", "Unexpected '{'. Braces cannot be used inside an expression", 1, 14),
        ("", "The condition is empty. Enter an expression, such as item.id != nil", 1, 1),
        (" \n", "The condition is empty. Enter an expression, such as item.id != nil", 1, 1),
        ("a\nb", "Unexpected 'b'", 2, 1),
        ("item.name and\n", "The expression is incomplete", 1, 14),
        ("item.name | size > 3", "Unexpected '|'. Filters cannot be used here", 1, 11),
        ("item.name = 3", "Unexpected '='. Did you mean '=='?", 1, 11),
        ("a and " * 200 + "a", "The expression has more than 100 nested operators. Split it into several tags", 1, 595),
    ],
)
def test_condition_errors_have_a_message_and_a_place(expression: str, message: str, line: int, column: int) -> None:
    assert catch_message(lambda: compile_condition(expression)) == (message, line, column)


def test_a_condition_that_compares_different_types_fails() -> None:
    condition = compile_condition("item.count >\n 'a'")
    message = "'<' and '>' compare two numbers or two strings"
    assert catch_message(lambda: condition.holds(SCOPE)) == (message, 1, 12)
