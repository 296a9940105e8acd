"""Templates and conditions: what they print, what they refuse, and that nothing in them can hold up a worker."""

import inspect
import json
import time
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest
from liquid import exceptions as liquid_exceptions
from liquid.template import BoundTemplate

from ringback.models.errors import TemplateError
from ringback.models.templates import (
    MAX_OUTPUT_BYTES,
    MAX_SOURCE_BYTES,
    EventFacts,
    check_condition,
    check_template,
    compile_condition,
    compile_template,
    scope,
    unknown_paths,
)
from ringback.models.templates.environment import ENVIRONMENT, Context
from ringback.models.templates.filters import FILTERS
from ringback.models.templates.functions import PRISTINE
from ringback.models.templates.limits import MAX_PAUSE_MS, RENDER_BUDGET_MS, LimitReached, Meter, TimeUp
from ringback.models.templates.problems import render_problem, syntax_problem

EVENT = EventFacts("evt_1", "Order", "updated", ("status", "phone"), "2026-01-02T03:04:05Z")
ITEM: dict[str, object] = {
    "name": "Zoë & Co",
    "phone": "+31 6",
    "status": "DONE",
    "total": "12.50",
    "count": 3,
    "rate": 1.5,
    "paid": True,
    "note": None,
    "customer": None,
    "tags": ["a", "b", "a"],
    "meta": {"k": [1, None, "é"], "ok": False},
    "items": [{"price": "1.00", "q": 2}, {"price": "2.00", "q": 5}],
    "html": "<p>Hi <b>you</b></p><!-- > no --> 1 < 2<script>x()</script><style>p{}</style>!",
}
SCOPE = scope(ITEM, EVENT)
FIELDS = [
    "item.id",
    "item.name",
    "item.phone",
    "item.customer.name",
    "item.items[].price",
    "item.items[].parts[].sku",
    "item.grid[][].v",
    "item.tags[]",
    "item.meta.*",
]
SAMPLE: dict[str, object] = {"id": 1, "name": "n", "phone": "p", "customer": None, "items": [], "tags": [], "meta": {}}


def render(source: str) -> str:
    return compile_template(source).render(SCOPE)


def failure(act: Callable[[], object]) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        act()
    return caught.value


def said(error: TemplateError) -> tuple[str, int | None, int | None]:
    return str(error).split(" (line ")[0], error.line, error.column


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ item.paid }}|{{ item.note }}|{{ item.count }}|{{ item.rate }}|{{ item.total }}", "true||3|1.5|12.50"),
        ("{{ item.phone | url_encode }}", "%2B31+6"),
        ("{{ item.name | url_encode }}", "Zo%C3%AB+%26+Co"),
        ("{{ item.name }}", "Zoë & Co"),
        ("{{ item.tags }}{{ item.meta }}", '["a","b","a"]{"k":[1,null,"é"],"ok":false}'),
        ("{{ item.name | json }}{{ item.note | json }}{{ item.rate | json }}", '"Zoë & Co"null1.5'),
        ("{{ (1..3) }} {{ (1..3) | json }} {{ (1..3) | join: '+' }}", "1..3 [1,2,3] 1+2+3"),
        ("{{ item.paid | append: '!' }}{{ item.note | append: nil }}{{ item.tags | upcase }}", 'true!["A","B","A"]'),
        (
            "{{ event.id }} {{ event.model }}.{{ event.action }} {{ event.created_at }}",
            "evt_1 Order.updated " + EVENT.created_at,
        ),
        ("{{ event.changed_fields | join: ',' }}{{ event.changed_fields.size }}", "status,phone2"),
        ("{{ item.items.first.price }}{{ item.items[-1].q }}{{ item['name'].size }}", "1.0058"),
        ("{% for i in item.items %}{{ forloop.index }}:{{ i.price }} {% endfor %}", "1:1.00 2:2.00 "),
        (
            "{% for i in (1..9) %}{% if i == 2 %}{% continue %}{% elsif i > 3 %}{% break %}{% endif %}{{i}}{%endfor%}",
            "13",
        ),
        ("{% for i in item.meta %}{{ i[0] }},{% else %}none{% endfor %}", "k,ok,"),
        ("{% case item.count %}{% when 1, 3 %}odd{% else %}even{% endcase %}", "odd"),
        ("{% assign x = 'a' %}{% capture y %}{{ x }}{{ x }}{% endcapture %}{{ y }}", "aa"),
        ("{% cycle 'a', 'b' %}{% cycle 'a', 'b' %}{% cycle 'a', 'b' %}", "aba"),
        ("{% increment n %}{% increment n %}{% decrement m %}{% echo n %}", "01-12"),
        ("{% for i in item.tags %}{% ifchanged %}{{ i }}{% endifchanged %}{% endfor %}", "aba"),
        (
            "{% raw %}{{ x }}{% endraw %}{% comment %}{{ {% comment %}{% endcomment %}{% if %}{% endcomment %}{% # %}.",
            "{{ x }}.",
        ),
        ("a \n{%- if true -%} \n b \n{%- endif -%}\n c", "abc"),
        (" {{- 1 -}} \r\n{{ 2 }}\r\n", "12\r\n"),
        ('{"a":{"b":{{ item.count }}}}', '{"a":{"b":3}}'),
        ("", ""),
    ],
)
def test_prints(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize("value", [{"a": [1, 'x\u2028"\\\n']}, [], {}, "é\t", 0, -1.5, True, False, None])
def test_json_is_valid_and_the_same_value(value: object) -> None:
    printed = compile_template("{{ value | json }}").render({"value": value})
    assert json.loads(printed) == value
    assert "\\u00" not in printed


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ item.tags | uniq | join: '' }}", "ab"),
        ("{{ item.items | uniq: 'none' | size }}", "1"),
        ("{{ item.items | map: 'price' | join }}", "1.00 2.00"),
        ("{{ item.items | map: 'none' }}", "[null,null]"),
        ("{{ item.items | where: 'q', 5 }}", '[{"price":"2.00","q":5}]'),
        ("{{ item.items | sum: 'q' }}{{ item.items | sort: 'q' | last | json }}", '7{"price":"2.00","q":5}'),
        ("{{ 'a b  c' | split: ' ' }}{{ 'abc' | split: '' }}{{ '' | split: ',' }}", '["a","b","c"]["a","b","c"][]'),
        ("{{ 'aaa' | replace: 'a', 'bc' }}{{ 'a' | replace: 'a' }}", "bcbcbc"),
        ("{{ 'hello' | slice: 1, 3 }}{{ item.tags | slice: 1, 2 }}{{ item.count | slice: 0 }}", 'ell["b","a"]3'),
        ("{{ item.html | strip_html }}", "Hi you 1 < 2!"),
        ("{{ '12.50' | times: 2 }}{{ 7 | divided_by: 2 }}{{ nil | plus: 1 }}", "25.031"),
        ("{{ false | default: 'x' }}{{ false | default: 'x', allow_false: true }}{{ '' | default: 'y' }}", "xfalsey"),
        ("{{ event.created_at | date: '%d.%m.%Y %H:%M %s' }}", "02.01.2026 03:04 1767323045"),
        ("{{ 'March 14, 2016' | date: '%b %d, %y' }}{{ 0 | date: '%Y' }}", "Mar 14, 161970"),
        (
            "{{ '2026-01-02T03:04:05+02:00' | date: '%H %z' }}{{ 'soon' | date: '%Y' }}{{ nil | date: '%Y' }}",
            "03 +0200soon",
        ),
    ],
)
def test_filters(source: str, text: str) -> None:
    assert render(source) == text


def test_now_is_the_present_in_utc() -> None:
    before, printed, after = int(time.time()), int(render("{{ 'now' | date: '%s' }}")), int(time.time())
    assert before <= printed <= after


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_no_filter_lets_a_python_error_through(name: str) -> None:
    values = ["", "x", 5, -1.5, True, None, [1, "a", None], {"a": 1}, [[1], {"b": 2}], "9" * 5000, "1e400", "\ud800"]
    for arguments in ("", ": a", ": a, b"):
        template = compile_template(f"{{{{ v | {name}{arguments} }}}}")
        for value in values:
            for other in values:
                try:
                    assert isinstance(template.render({"v": value, "a": other, "b": value}), str)
                except TemplateError as error:  # either outcome is right, but no other
                    assert error.line == 1  # noqa: PT017


def test_unknown_names_may_be_tested_but_not_used() -> None:
    assert render("{% if item.fone %}a{% else %}b{% endif %}{{ item.fone | default: 'c' }}") == "bc"
    assert render("{% if item.fone.x > 3 or item.fone contains 'a' %}a{% endif %}") == ""
    assert render("{% assign x = item.fone %}{% if x.y %}{% else %}b{% endif %}") == "b"
    for source in ("\n {{ item.fone.x[0] }}", "\n {{ item.fone.x[0] | upcase }}", "\n {{ 1 | plus: item.fone.x[0] }}"):
        message, line, column = said(failure(lambda source=source: render(source)))
        assert (message, line, column) == ("item.fone.x[0] is not defined", 2, source.index("item"))
    assert render("{% if item[none] or item[item] or item['a b'] %}a{% endif %}") == ""
    assert said(failure(lambda: render("{{ item[item]['a b'] }}"))) == ('item[…]["a b"] is not defined', 1, 4)
    assert said(failure(lambda: render("{% for i in item.fone %}{% endfor %}"))) == ("item.fone is not defined", 1, 13)
    assert said(failure(lambda: render("{{ now }}"))) == ("now is not defined", 1, 4)


def test_steps_through_null_and_past_the_end_are_null() -> None:
    assert render("{{ item.customer.name.first }}{{ item.items[9].price }}{{ item.meta.k[1].x }}") == ""
    assert render("{% for i in item.customer %}x{% else %}none{% endfor %}") == "none"


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
    ("expression", "holds"),
    [
        ('item.status == "DONE" and event.changed_fields contains "status"', True),
        ('item.status == "OPEN" or event.action == "created"', False),
        ("\n item.status\r\n ==\t'DONE'\n", True),
        ("item.fone", False),
        ("item.fone == nil", True),
        ("item.fone > 3", False),
        ("item.customer.name == blank", False),
        ("item.note == nil and item.paid", True),
        ("true or false and false", True),
        ("item.name contains '%}{% if true'", False),
        ("(1..3) contains 2", True),
        ("item.items.size == 2", True),
    ],
)
def test_conditions(expression: str, holds: bool) -> None:
    assert compile_condition(expression).holds(SCOPE) is holds


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


BIG: dict[str, object] = {
    "text": "x" * 200_000,
    "wide": "\N{GRINNING FACE}" * 60_000,
    "open": "<" * 200_000,
    "comments": "<!--" * 50_000,
    "scripts": "<script" * 28_000,
    "entities": "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 6_000,
    "digits": ["9" * 4_300] * 50,
    "rows": [{"a": i, "b": "t" * 20} for i in range(300)],
    "nest": [[["a"] * 10] * 10] * 50,
}
ROUNDS = "{% for i in (1..9000) %}"


def _each(markup: str) -> str:
    return ROUNDS + markup + "{% endfor %}"


HOSTILE = {
    "range joined": "{{ (1..100000000) | join }}",
    "range reversed by filter": "{% assign n = 100000000 %}{{ (1..n) | reverse }}",
    "range looped": "{% for i in (1..100000000) %}x{% endfor %}",
    "range looped backwards": "{% assign n = 100000000 %}{% for i in (1..n) reversed %}{% break %}{% endfor %}",
    "range searched": "{% assign n = 99999999999 %}{% if (1..n) contains 1.5 %}{% endif %}",
    "range kept and searched": "{% assign n = 9999999999 %}{% assign r = (1..n) %}{% if r contains 'a' %}{% endif %}",
    "range beyond the machine": "{% for i in (1..99999999999999999999999999) %}{% endfor %}",
    "loops in loops": _each(_each(_each(""))),
    "loops after loops": _each("") * 1_000,
    "loop full of output": _each("{{ item.rows[0].a }}" * 800),
    "loop full of assigns": _each("{% assign x = item.text %}" * 800),
    "loop full of constants": _each("{% cycle 1, 2, 3 %}" * 900),
    "when with itself": "{% case 1 %}{% when " + "1," * 1_000 + "1 %}" + _each("x") + "{% endcase %}",
    "append doubling": "{% assign s = 'xx' %}" + "{% assign s = s | append: s %}" * 30,
    "capture doubling": "{% assign s = 'xx' %}" + "{% capture s %}{{ s }}{{ s }}{% endcapture %}" * 30,
    "replace growing": "{{ 'aaaaaaaaaa'" + " | replace: 'a', 'aaaaaaaaaa'" * 20 + " }}",
    "replace nothing": "{{ item.text | replace: '', item.rows }}",
    "concat doubling": "{% assign l = 'a,b' | split: ',' %}" + "{% assign l = l | concat: l %}" * 30,
    "join of one long text": "{% assign l = item.text | split: ',' %}"
    + "{% assign l = l | concat: l %}" * 12
    + "{{ l | join }}",
    "print of one long text": "{% assign l = item.text | split: ',' %}"
    + "{% assign l = l | concat: l %}" * 12
    + "{{ l }}",
    "cycle of long texts": _each("{% cycle item.text, item.text, item.text %}"),
    "split to characters": "{{ item.text | split: '' }}",
    "nested lists": _each("{% assign l = item.nest | concat: item.nest %}"),
    "uniq": _each("{% assign l = item.rows | uniq %}"),
    "sort": _each("{% assign l = item.rows | sort: 'b' %}"),
    "where": _each("{% assign l = item.rows | where: 'b', item.text %}"),
    "json": _each("{% assign l = item.rows | json %}"),
    "sum of digits": "{% assign l = item.digits %}" + "{% assign l = l | concat: l %}" * 7 + "{{ l | sum }}",
    "huge numbers": "{% assign n = 99999999 %}" + "{% assign n = n | times: n %}" * 40,
    "huge floats": "{{ 1.7" + " | times: 1000000000000000000.5" * 40 + " }}",
    "wide dates": _each("{{ 'now' | date: '" + "%99999999d" * 9 + "' }}"),
    "long date format": "{{ 'now' | date: item.text }}",
    "dates to guess": _each("{{ i | append: 'a 1 2 3 4 5 6 7 8 9 10' | date: '%Y' }}"),
    "open tags": "{{ item.open | strip_html }}",
    "open comments": "{{ item.comments | strip_html }}",
    "open scripts": "{{ item.scripts | strip_html }}",
    "entities": "{{ item.entities | escape_once }}" * 40,
    "wide characters encoded": "{{ item.wide | url_encode | url_encode }}",
    "long filter chain": "{{ item.wide" + " | upcase" * 3_000 + " }}",
    "too much output": "{{ item.text }}{{ item.text }}",
    "texts compared": _each("{% if item.text contains item.text %}{% endif %}" * 100),
    "braces": "{{" * 32_000,
    "tags": "{%" * 32_000,
    "output of spaces": "{{" + " " * 65_000 + "}}",
    "open output of spaces": "{{" + " " * 65_000,
    "endless tag name": "{%" + "a" * 65_000,
    "open raws": "{% raw %}" * 7_000,
    "open comments in the source": "{% comment %}" * 5_000,
    "parentheses": "{{ " + "(" * 60_000 + " }}",
    "brackets": "{{ " + '["' * 30_000 + " }}",
    "paths in paths": "{{ " + "a[" * 30_000 + " }}",
    "deep blocks": "{% if a %}" * 2_500 + "{% endif %}" * 2_500,
    "deep condition": "{% if " + "a and " * 3_000 + "a %}{% endif %}",
    "very long filter chain": "{{ a" + "|b" * 30_000 + " }}",
    "very many arguments": "{{ a | b: " + "1," * 30_000 + "1 }}",
    "very many outputs": "{{a}}" * 13_000,
    "very many comments": "x{% # %}" * 8_000,
    "open quote": "{{ '" + "a" * 60_000 + " }}",
    "too large": "é" * (MAX_SOURCE_BYTES // 2 + 1),
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_hostile_templates_stop_soon_and_small(source: str) -> None:
    began = time.perf_counter()
    failure(lambda: compile_template(source).render(scope(BIG, EVENT)))
    assert time.perf_counter() - began < 1.5

    tracemalloc.start()
    failure(lambda: compile_template(source).render(scope(BIG, EVENT)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000

    began = time.perf_counter()
    check_template(source, fields=FIELDS, sample=BIG)
    assert time.perf_counter() - began < 1.5


def test_what_is_large_but_honest_passes() -> None:
    lines = [{"name": "n" * 20, "price": "1.00"} for _ in range(500)]
    line = "{% if i.price != '' %}{{ i.name | upcase | url_encode }}={{ i.price }}{% endif %}&"
    source = "{% for i in item.lines %}" + line + "{% endfor %}"
    assert len(compile_template(source).render({"item": {"lines": lines}})) == 500 * 26
    heavy = [{"about": "a" * 1_000, "q": i} for i in range(500)]
    assert compile_template("{{ l | sort: 'q' | uniq: 'q' | sum: 'q' }}").render({"l": heavy}) == "124750"
    assert compile_template("x" * MAX_SOURCE_BYTES).render({}) == "x" * MAX_SOURCE_BYTES
    exactly = {"text": "y" * MAX_OUTPUT_BYTES}
    assert compile_template("{{ text }}").render(exactly) == exactly["text"]
    assert (
        said(failure(lambda: compile_template("{{ text }}!").render(exactly)))[0]
        == "the text is larger than 262144 bytes"
    )


def test_a_width_of_a_date_is_what_a_date_can_fill() -> None:
    assert render("{{ '2026-03-01' | date: '%10d|%-d|%03j|100%%100' }}").split("|")[1:] == ["1", "060", "100%100"]
    error = failure(lambda: render("{{ 'now' | date: '%_100d' }}"))
    assert said(error)[0] == "a width in a date format has at most two digits"


class Clock:
    """Seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_the_time_of_the_thread_counts() -> None:
    wall, cpu = Clock(), Clock()
    meter = Meter(wall, cpu)
    for _ in range(100):
        wall.now += 1  # a busy machine: a second passes, the thread runs for a tenth of a millisecond of it
        cpu.now += 0.0001
        meter.tick()


def test_time_runs_out_but_one_pause_is_forgiven() -> None:
    wall, cpu = Clock(), Clock()
    meter = Meter(wall, cpu)
    wall.now = cpu.now = MAX_PAUSE_MS / 1000
    meter.tick()
    for _ in range(RENDER_BUDGET_MS - 1):
        wall.now = cpu.now = cpu.now + 0.001
        meter.tick()
    wall.now = cpu.now = cpu.now + 0.002
    with pytest.raises(TimeUp, match=f"rendering takes more than {RENDER_BUDGET_MS} ms"):
        meter.tick()


def test_limits_are_counted_over_the_whole_render() -> None:
    template = compile_template(_each("") + _each("") + "{% for i in (1..2000) %}{% endfor %}")
    assert template.render({}) == ""
    assert template.render({}) == ""  # and each render has its own
    error = failure(lambda: compile_template(_each("") * 3).render({}))
    assert isinstance(error.__cause__, LimitReached)
    assert said(error)[0] == "the template runs through more than 20000 loop rounds and blocks"


def test_the_cache_keeps_what_is_used_and_is_bounded() -> None:
    kept = compile_template("{{ kept }}")
    assert compile_template("{{ kept }}") is kept
    assert compile_condition("kept") is compile_condition("kept")
    for i in range(10):
        compile_template(f"{i:060000d}")
    assert compile_template("{{ kept }}") is not kept


@pytest.mark.parametrize(
    "source",
    [
        "{{ item.phone }}{{ item['phone'] }}{{ item.name.size }}{{ item | json }}",
        "{{ item.items[0].price }}{{ item.items.last.parts.first.sku }}{{ item.items.size }}{{ item.tags[-1] }}",
        "{% for i in item.items %}{% for p in i.parts %}{{ p.sku }}{{ i.price }}{% endfor %}{% endfor %}",
        "{% for t in item.tags limit: 2 offset: item.id %}{{ forloop.parentloop.x }}{% else %}{{ item.id }}{%endfor%}",
        "{% for item in item.items %}{{ item.price }}{% endfor %}{{ item.phone }}",
        "{% for row in item.grid %}{% for cell in row %}{{ cell.v }}{% endfor %}{% endfor %}{{ item.grid[0][1].v }}",
        "{% for pair in item.customer %}{{ pair[0] }}{{ pair.last }}{% endfor %}{{ item.customer.first }}",
        "{% for c in item.name %}{{ c.x }}{% endfor %}",
        "{% for i in (1..3) %}{{ i.x }}{{ item.items[i].price }}{{ forloop.last }}{% endfor %}",
        "{% assign x = item.customer %}{{ x.anything }}{% capture y %}{% endcapture %}{{ y }}{% increment z %}{{ z }}",
        "{{ late }}{% for t in item.tags %}{% assign late = t %}{% endfor %}{{ late.x }}",
        "{% assign item = 5 %}{{ item.anything }}",
        "{% assign k = 'phone' %}{{ item[k].x }}",
        "{{ item.meta.a[0].b }}{% for m in item.meta.rows %}{{ m.x }}{% endfor %}",
        "{{ event.id }}{{ event.model }}{{ event.action }}{{ event.created_at }}{{ event.changed_fields[0] }}",
        "{{ item.name | slice: 0, 2 | truncate: 2, '' | replace: 'a', 'b' | default: 'x', allow_false: true }}",
        "{{ item.name | divided_by: item.id }}{{ item.items | sort }}{{ item.id | date: item.name }}",
        "{{ item.customer.name }}{{ item.meta.none }}",
    ],
)
def test_check_raises_no_false_alarm(source: str) -> None:
    assert check_template(source, fields=FIELDS, sample=SAMPLE) == []


@pytest.mark.parametrize(
    ("source", "message", "line", "column"),
    [
        ("a\n {% if item.fone %}{% endif %}", "unknown field item.fone: did you mean item.phone?", 2, 8),
        ("{{ item.fone | default: '' }}", "unknown field item.fone: did you mean item.phone?", 1, 4),
        (
            "{{ item.custmer.name.size }}",
            "unknown field item.custmer.name.size: did you mean item.customer.name.size?",
            1,
            4,
        ),
        ("{% for i in item.items %}{{ i.prise }}{% endfor %}", "unknown field i.prise: did you mean i.price?", 1, 29),
        (
            "{% for i in item.items %}{% for p in i.parts %}{{ p.sk }}{% endfor %}{% endfor %}",
            "unknown field p.sk: did you mean p.sku?",
            1,
            51,
        ),
        ("{{ item.items[0].prise }}", "unknown field item.items[0].prise: did you mean item.items[0].price?", 1, 4),
        ("{% for i in item.items.x %}{{ i.y }}{% endfor %}", "unknown field item.items.x", 1, 13),
        ("{{ item.items.price }}", "unknown field item.items.price: did you mean item.items[0].price?", 1, 4),
        ("{{ item.phone.zip }}", "unknown field item.phone.zip", 1, 4),
        ("{{ itm.phone }}", "unknown field itm.phone: did you mean item.phone?", 1, 4),
        ("{{ phone }}", "unknown field phone: did you mean item.phone?", 1, 4),
        ("{{ now }}", "unknown name now: templates know item and event", 1, 4),
        ("{{ event.idd }}", "unknown field event.idd: did you mean event.id?", 1, 4),
        (
            "{% for i in item.tags %}{{ forloop.indx }}{% endfor %}",
            "unknown field forloop.indx: did you mean forloop.index?",
            1,
            28,
        ),
        ("{{ item.tags[item.idd] }}", "unknown field item.idd: did you mean item.id?", 1, 14),
        ("{{ item.name | append: item.nme }}", "unknown field item.nme: did you mean item.name?", 1, 24),
        ("{% case 1 %}{% when item.nme %}{% endcase %}", "unknown field item.nme: did you mean item.name?", 1, 21),
        (
            "{% if false %}{{ 1 | url_encod }}{% endif %}",
            "unknown filter 'url_encod': did you mean 'url_encode'?",
            1,
            22,
        ),
        ("{% if false %}{{ 1 | append }}{% endif %}", "'append' takes 1 argument, not 0", 1, 22),
        ("{% if false %}{{ item.id | divided_by: 0 }}{% endif %}", "'divided_by' does not accept 0", 1, 28),
        ("{{ item.tags | concat: 'x' }}", "'concat' does not accept x", 1, 16),
        ("{% if a %}", "'if' is never closed: '{% endif %}' is missing", 1, 4),
        (_each(_each("")), "the template runs through more than 20000 loop rounds and blocks", 1, 28),
    ],
)
def test_check_finds(source: str, message: str, line: int, column: int) -> None:
    assert [said(error) for error in check_template(source, fields=FIELDS, sample=SAMPLE)] == [(message, line, column)]


def test_check_reports_each_thing_once_in_order_and_not_without_end() -> None:
    source = "{{ item.a | no }}\n{{ item.a | no }}\n{{ i }}{% for i in item.tags %}{{ i }}{% endfor %}"
    assert [said(error) for error in check_template(source, fields=FIELDS, sample=SAMPLE)] == [
        ("unknown field item.a", 1, 4),
        ("unknown filter 'no'", 1, 13),
        ("unknown name i: templates know item and event", 3, 4),
    ]
    many = "".join(f"{{{{ item.x{i} }}}}" for i in range(30))
    assert len(check_template(many, fields=FIELDS, sample=SAMPLE)) == 20


def test_check_of_conditions() -> None:
    assert check_condition("item.phone and event.changed_fields contains 'x' or item.meta.a", fields=FIELDS) == []
    found = check_condition("item.phone\n== item.fone", fields=FIELDS)
    assert [said(error) for error in found] == [("unknown field item.fone: did you mean item.phone?", 2, 4)]
    assert [said(error) for error in check_condition("a ==", fields=FIELDS)] == [
        ("the expression is not complete", 1, 5)
    ]


def test_scope_holds_item_and_event_only() -> None:
    assert scope({"a": 1}, EVENT) == {
        "item": {"a": 1},
        "event": {
            "id": "evt_1",
            "model": "Order",
            "action": "updated",
            "changed_fields": ["status", "phone"],
            "created_at": "2026-01-02T03:04:05Z",
        },
    }


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ('item["unit price"]', 'item["unit price"]'),
        ('item["a.b"]["c"]', 'item["a.b"].c'),
        ('item["x[]"][].y', 'item["x[]"][0].y'),
        ('item["q*"].*', 'item["q*"].any.thing'),
        ("item.größe", "item.größe"),
    ],
)
def test_a_field_whose_name_is_no_plain_one_stands_in_brackets(path: str, asked: str) -> None:
    assert check_template(f"{{{{ {asked} }}}}", fields=[path], sample={}) == []
    assert check_template(f"{{{{ {asked} }}}}", fields=["item.id"], sample={}) != []


def test_unknown_names_next_to_bracketed_ones_are_found() -> None:
    fields = ['item["a.b"]["c"]', 'item["x y"][].z']
    assert unknown_paths('{{ item["a.b"].d }}{{ item["x y"][0].z }}{{ item.a }}', fields=fields) == {
        'item["a.b"].d',
        "item.a",
    }


def test_unknown_paths() -> None:
    source = (
        "{% for row in item.rows %}{{ row.x }}{{ row.y }}{% endfor %}{{ item.gone | no_such_filter }}{{ event.id }}"
    )
    assert unknown_paths(source, fields=["item.rows[].x"]) == {"row.y", "item.gone"}
    assert unknown_paths(source, fields=["item.rows[].x", "item.rows[].y", "item.gone"]) == set()
    assert unknown_paths("item.a == item.b", fields=["item.a"], is_condition=True) == {"item.b"}
    assert unknown_paths("{{ item.a", fields=[]) == unknown_paths("item.a ==", fields=[], is_condition=True) == set()


@pytest.mark.parametrize(
    "path", ["item", "item.name", "item.meta.k", "item.customer.name", "item.tags.first", "item.name.size", "item.size"]
)
def test_a_plain_path_leads_where_the_context_would(path: str) -> None:
    context = Context(BoundTemplate(ENVIRONMENT, []), SCOPE)
    assert json.loads(render(f"{{{{ {path} | json }}}}")) == context.get([*path.split(".")], token=None)


def test_url_encode_is_that_of_forms() -> None:
    for text in (
        "".join(map(chr, range(128))),
        *map(chr, range(0x250)),
        "a b",
        "a\nb",
        "",
        "~_.-",
        "\N{GRINNING FACE}",
    ):
        assert compile_template("{{ v | url_encode }}").render({"v": text}) == quote_plus(text)


def test_a_loop_knows_the_one_around_it() -> None:
    loops = "{% for a in item.tags %}{% for b in item.items %}{{ forloop.parentloop.index }}{% endfor %}{% endfor %}"
    assert render(loops) == "112233"
    outermost = "{% for a in item.tags %}{{ forloop.parentloop }}{% endfor %}"
    assert said(failure(lambda: render(outermost)))[0] == "'parentloop' is undefined"


@pytest.mark.parametrize(
    "source",
    [
        "{% for t in tags %}{{ forloop.index }}{{ forloop.last }}{{ t }} {% endfor %}{{ t | default: '-' }}",
        "{% for t in tags limit: 2 %}{{ t }}{% endfor %}|{% for t in tags offset: continue %}{{ t }}{% endfor %}",
        "{% for t in tags %}{{ t }}{% endfor %}|{% for t in tags offset: continue %}{{ t }}{% else %}none{% endfor %}",
        "{% for t in tags reversed limit: 2 offset: 1 %}{{ t }}{{ forloop.length }}{% endfor %}",
        "{% for t in tags %}{% for t in (1..2) %}{{ t }}{{ forloop.parentloop.index }}{% endfor %}{{ t }}{% endfor %}",
        "{% for t in tags %}{% if t == 'b' %}{% continue %}{% endif %}{{ t }}{% break %}{% endfor %}{{ tags.size }}",
        "{% for p in map %}{{ p[0] }}={{ p[1] }}{% endfor %}{% for c in word %}{{ c }};{% endfor %}",
        "{% for n in none %}x{% else %}{{ word }}{% endfor %}{% for n in empty %}x{% endfor %}",
        "{% for t in tags %} {% assign last = t %} {% endfor %}{{ last }}",
        "{% for t in tags %}{% capture x %}{{ t }}{{ t }}{% endcapture %}{% cycle 'a', 'b' %}{{ x }}{% endfor %}",
    ],
)
def test_loops_run_as_in_python_liquid(source: str) -> None:
    names = {"tags": ["a", "b", "c"], "map": {"k": 1, "l": 2}, "word": "word", "none": None, "empty": []}
    assert compile_template(source).render(names) == PRISTINE.from_string(source).render(**names)
