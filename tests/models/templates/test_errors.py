"""Mistakes in templates and conditions: each message says what is wrong and where."""

import inspect

import pytest
from liquid import exceptions as liquid_exceptions

from ringback.models.templates.errors import render_problem, syntax_problem
from ringback.models.templates.template import compile_condition, compile_template
from tests.support.templates import SCOPE, failure, said


@pytest.mark.parametrize(
    ("source", "message", "line", "column"),
    [
        ("{{ item.name", "'{{' is never closed: '}}' is missing", 1, 1),
        ("a\n{% if", "'{%' is never closed: '%}' is missing", 2, 1),
        ("x\n {% if a %}\n{% endfor %}", "'endfor' does not belong into the 'if' opened in line 2", 3, 4),
        ("x\n {% if a %}", "'if' is never closed: '{% endif %}' is missing", 2, 5),
        ("{% endif %}", "'endif' has no open block that it belongs to", 1, 4),
        (
            "{% if a %}{% else %}{% elsif b %}{% endif %}",
            "'elsif' comes after the 'else' of the 'if' opened in line 1",
            1,
            24,
        ),
        ("{% raw %}", "'raw' is never closed: '{% endraw %}' is missing", 1, 4),
        ("{% comment %}{% if %}", "'comment' is never closed: '{% endcomment %}' is missing", 1, 4),
        ("{% fro a in b %}", "unknown tag 'fro': did you mean 'for'?", 1, 4),
        ("{% macro 'a' %}", "unknown tag 'macro'", 1, 4),
        ("{% include 'x' %}", "the tag 'include' is not available here", 1, 4),
        ("{% render 'x' %}", "the tag 'render' is not available here", 1, 4),
        ("{% tablerow x in y %}", "the tag 'tablerow' is not available here", 1, 4),
        ("{% liquid echo 1 %}", "the tag 'liquid' is not available here", 1, 4),
        ("{% %}", "the tag has no name", 1, 4),
        ("{% break %}", "'break' stands outside of a loop", 1, 4),
        ("{{ }}", "'{{ }}' needs an expression", 1, 3),
        ("{% if %}{% endif %}", "'if' needs an expression", 1, 7),
        ("{% if a %}{% else if b %}{% endif %}", "'else' takes nothing after its name", 1, 19),
        ("{% if a == %}{% endif %}", "the expression is not complete", 1, 11),
        ("é\r\n{{ item.name | }}", "the expression is not complete", 2, 15),
        ("{% for x in %}{% endfor %}", "the expression is not complete", 1, 12),
        ("{% for x.y in z %}{% endfor %}", "a plain name is needed here, not a path", 1, 8),
        (
            "{% for x in z by: 3 %}{% endfor %}",
            "after the list, only 'limit:', 'offset:' and 'reversed' may follow",
            1,
            15,
        ),
        ("{{ a b }}", "unexpected 'b'", 1, 6),
        ("{{ 'a }}", "a quote is opened here and never closed", 1, 4),
        ("{% if a = b %}{% endif %}", "unexpected '=': did you mean '=='?", 1, 9),
        ("{% if a && b %}{% endif %}", "unexpected '&': use 'and'", 1, 9),
        ("{% if a || b %}{% endif %}", "unexpected '||': use 'or'", 1, 9),
        ("{% if not a %}{% endif %}", "Liquid has no 'not': use '== false', '!=' or the tag 'unless'", 1, 7),
        ("{% if (a) %}{% endif %}", "Liquid has no parentheses in conditions: use nested 'if' tags", 1, 7),
        ("{{ a if b }}", "Liquid has no inline 'if': use the tag 'if'", 1, 6),
        ("{{ a {{ b }}", "unexpected '{': braces cannot stand inside an expression", 1, 6),
        ("{{ " + "9" * 5000 + " }}", "a number has too many digits", 1, 4),
    ],
)
def test_syntax_errors_say_what_and_where(source: str, message: str, line: int, column: int) -> None:
    assert said(failure(lambda: compile_template(source))) == (message, line, column)


@pytest.mark.parametrize(
    ("source", "message", "column"),
    [
        ("{{ 1 | url_encod }}", "unknown filter 'url_encod': did you mean 'url_encode'?", 8),
        ("{{ 1 | zzzzz }}", "unknown filter 'zzzzz'", 8),
        ("{{ 'a' | upcase: 1 }}", "'upcase' takes no argument, not 1", 10),
        ("{{ 'a' | append }}", "'append' takes 1 argument, not 0", 10),
        ("{{ 'a' | slice: 1, 2, 3 }}", "'slice' takes 1 to 2 arguments, not 3", 10),
        ("{{ 'a' | upcase: environment: 5 }}", "'upcase' has no argument named 'environment'", 10),
        ("{{ 'a' | upcase: context: item }}", "'upcase' has no argument named 'context'", 10),
        ("{{ 5 | divided_by: 0 }}", "'divided_by' does not accept 0", 8),
        ("{{ 'a' | slice: 'b' }}", "'slice' does not accept b", 10),
        ("{{ item.items | sort }}", "'sort' cannot work with this value", 17),
        ("{{ 'a' | base64_decode }}", "'base64_decode' cannot work with this value", 10),
        ("{% if 1 < 'a' %}{% endif %}", "'<' and '>' compare two numbers or two texts", 9),
        ("{% if 1 contains 'a' %}{% endif %}", "'contains' needs a text or a list on its left", 9),
        ("{% for i in item.tags limit: 'x' %}{% endfor %}", "a whole number is needed here", 30),
        ("{{ surrogate }}", "the text holds characters that cannot be written as UTF-8", 4),
    ],
)
def test_render_errors_say_what_and_where(source: str, message: str, column: int) -> None:
    template = compile_template(source)
    assert said(failure(lambda: template.render({**SCOPE, "surrogate": "\ud800"}))) == (message, 1, column)


def test_no_message_of_python_liquid_is_passed_on() -> None:
    for _, kind in inspect.getmembers(liquid_exceptions, inspect.isclass):
        if issubclass(kind, liquid_exceptions.LiquidError) and kind is not liquid_exceptions.UndefinedError:
            error = kind("TOKEN internal", token=None)
            assert "internal" not in str(render_problem(error, None))
            assert "internal" not in str(syntax_problem(error, "x", 0))
    assert str(render_problem(KeyError("internal"), None)) == "this cannot be rendered with these values"
    assert said(syntax_problem(RecursionError(), "x", 0)) == ("this is nested too deeply", 1, 1)


@pytest.mark.parametrize(
    ("expression", "message", "line", "column"),
    [
        ("true %}x{% if true", "unexpected '%': tags cannot stand inside an expression", 1, 6),
        ("true -%}{% endif %}{% include 'x' %}", "unexpected '-'", 1, 6),
        ("{{ item.paid }}", "unexpected '{': braces cannot stand inside an expression", 1, 1),
        ("", "the condition is empty", 1, 1),
        (" \n", "the condition is empty", 1, 1),
        ("a\nb", "unexpected 'b'", 2, 1),
        ("item.name and\n", "the expression is not complete", 1, 14),
        ("item.name | size > 3", "unexpected '|': a filter cannot stand here", 1, 11),
        ("item.name = 3", "unexpected '=': did you mean '=='?", 1, 11),
        ("a and " * 200 + "a", "this expression is nested too deeply", 1, 595),
    ],
)
def test_condition_errors_are_placed_in_the_text_of_the_author(
    expression: str, message: str, line: int, column: int
) -> None:
    assert said(failure(lambda: compile_condition(expression))) == (message, line, column)


def test_condition_that_cannot_be_decided() -> None:
    condition = compile_condition("item.count >\n 'a'")
    message = "'<' and '>' compare two numbers or two texts"
    assert said(failure(lambda: condition.holds(SCOPE))) == (message, 1, 12)
