"""Output of templates, results of conditions, and the compile caches."""

import json
import time
from functools import partial
from urllib.parse import quote_plus

import pytest
from liquid.template import BoundTemplate

from ringback.models.errors import TemplateError
from ringback.models.templates.budget import Meter
from ringback.models.templates.filters.allow_list import FILTERS
from ringback.models.templates.filters.text import PRISTINE
from ringback.models.templates.render_context import TemplateContext
from ringback.models.templates.scope import build_scope
from ringback.models.templates.syntax.environment import ENVIRONMENT
from ringback.models.templates.template import compile_condition, compile_template
from tests.support.templates import EVENT, SCOPE, catch_error, catch_message, located_message, render


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
def test_output(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("limit: 2", "12"),
        ("limit: 9", "123"),
        ("limit: 0", "none"),
        ("limit: 0.0", "none"),
        ("limit: -1", "none"),
        ("limit: item.items.last.q offset: 1", "23"),
        ("limit: 0 offset: 1", "none"),
        ("limit: -1 offset: 2", "none"),
        ("limit: 1 offset: -1", "none"),
        ("limit: 2 offset: -1 reversed", "1"),
        ("offset: -1", "123"),
        ("offset: 5", "none"),
    ],
)
def test_a_loop_has_limit_elements_from_offset(arguments: str, text: str) -> None:
    assert render(f"{{% for i in (1..3) {arguments} %}}{{{{ i }}}}{{% else %}}none{{% endfor %}}") == text


def test_a_loop_without_elements_is_continued_where_it_started() -> None:
    loops = [
        f"{{% for i in (1..4) {arguments} %}}{{{{ i }}}}{{% endfor %}}"
        for arguments in ("limit: 1", "limit: 0 offset: continue", "limit: 2 offset: continue")
    ]
    assert render("|".join(loops)) == "1||23"


@pytest.mark.parametrize("value", [{"a": [1, 'x\u2028"\\\n']}, [], {}, "é\t", 0, -1.5, True, False, None])
def test_json_round_trips(value: object) -> None:
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


def test_now_is_the_current_time() -> None:
    before, printed, after = int(time.time()), int(render("{{ 'now' | date: '%s' }}")), int(time.time())
    assert before <= printed <= after


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filters_raise_template_errors_only(name: str) -> None:
    values = ["", "x", 5, -1.5, True, None, [1, "a", None], {"a": 1}, [[1], {"b": 2}], "9" * 5000, "1e400", "\ud800"]
    for arguments in ("", ": a", ": a, b"):
        template = compile_template(f"{{{{ v | {name}{arguments} }}}}")
        for value in values:
            for other in values:
                try:
                    assert isinstance(template.render({"v": value, "a": other, "b": value}), str)
                except TemplateError as error:  # both outcomes are correct
                    assert error.line == 1  # noqa: PT017


def test_url_decode_refuses_bytes_that_are_not_text() -> None:
    message, _, _ = catch_message(lambda: render("{{ '%ff' | url_decode }}"))
    assert message == "'url_decode' cannot be applied to this value. Change the value, or use another filter"


def test_undefined_names_may_be_tested_but_not_printed() -> None:
    assert render("{% if item.fone %}a{% else %}b{% endif %}{{ item.fone | default: 'c' }}") == "bc"
    assert render("{% if item.fone.x > 3 or item.fone contains 'a' %}a{% endif %}") == ""
    assert render("{% assign x = item.fone %}{% if x.y %}{% else %}b{% endif %}") == "b"
    for source in ("\n {{ item.fone.x[0] }}", "\n {{ item.fone.x[0] | upcase }}", "\n {{ 1 | plus: item.fone.x[0] }}"):
        assert catch_message(partial(render, source)) == ("item.fone.x[0] is not defined", 2, source.index("item"))
    assert render("{% if item[none] or item[item] or item['a b'] %}a{% endif %}") == ""
    assert catch_message(lambda: render("{{ item[item]['a b'] }}")) == ('item[…]["a b"] is not defined', 1, 4)
    assert catch_message(lambda: render("{% for i in item.fone %}{% endfor %}")) == ("item.fone is not defined", 1, 13)
    assert catch_message(lambda: render("{{ now }}")) == ("now is not defined", 1, 4)


def test_paths_through_null_and_past_the_end_are_null() -> None:
    assert render("{{ item.customer.name.first }}{{ item.items[9].price }}{{ item.meta.k[1].x }}") == ""
    assert render("{% for i in item.customer %}x{% else %}none{% endfor %}") == "none"


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ('item.status == "DONE" and event.changed_fields contains "status"', True),
        ('item.status == "OPEN" or event.action == "created"', False),
        ("\n item.status\r\n ==\t'DONE'\n", True),
        ("item.fone", False),
        ("item.fone == nil", True),
        ("item.fone > 3", False),
        ("item.customer.name == blank", True),
        ("item.note == nil and item.paid", True),
        ("true or false and false", True),
        ("item.name contains '%}{% if true'", False),
        ("(1..3) contains 2", True),
        ("item.items.size == 2", True),
    ],
)
def test_conditions(expression: str, holds: bool) -> None:
    assert compile_condition(expression).holds(SCOPE) is holds


def test_a_date_format_allows_widths_of_two_digits() -> None:
    assert render("{{ '2026-03-01' | date: '%10d|%-d|%03j|100%%100' }}").split("|")[1:] == ["1", "060", "100%100"]
    error = catch_error(lambda: render("{{ 'now' | date: '%_100d' }}"))
    assert located_message(error)[0] == "The date format contains a width of more than two digits. Use at most two"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ '03.04.2026' | truncate: 10 }} {{ '03.04.2026' | truncate: 9 }}", "03.04.2026 03.04...."),
        ("{{ 'abc' | truncate: 2 }} {{ 'abc' | truncate: 2, '' }} {{ 'abc' | truncate: -1 }}", "... ab ..."),
        (
            "{{ 'one  two three' | truncatewords: 3 }} {{ 'one  two three' | truncatewords: 2 }}",
            "one  two three one two...",
        ),
        ("{{ 'one' | truncatewords: 0 }} {{ 'one two' | truncatewords: 0, '--' }}", "one one--"),
        ("{{ 'hello' | slice: 1, nothing }} {{ -7.5 | modulo: 2 }} {{ -7.5 | modulo: 1.5 }}", "e 0.5 0.0"),
        ("{{ true | plus: 1 }} {{ 'nan' | plus: 1 }} {{ 5 | at_least: 7.5 }} {{ '5' | at_most: '7' }}", "1 1 7.5 5"),
        (
            "{{ '350,50' | plus: 1 }} {{ '12 шт.' | plus: 1 }} {{ '1e3' | plus: 1 }} {{ '.5' | plus: 1 }}",
            "351 13 2 1",
        ),
        (
            "{{ ' -1_000x' | plus: 1 }} {{ ' -1.50 ' | plus: 1 }} {{ '+1.5' | plus: 1 }} {{ '1.5.2' | plus: 1 }}",
            "-999 -0.5 2 2",
        ),
        ("{{ 350.5 | round }} {{ -0.5 | round }} {{ 2.675 | round: 2 }} {{ 1.005 | round: 2 }}", "351 -1 2.68 1.01"),
        ("{{ 5667 | round: -2 }} {{ 5 | round: 2 }} {{ 5650.5 | round: -2 }} {{ 5 | round: -9999 }}", "5700 5 5700 0"),
        (
            "{{ 'a,b,,' | split: ',' | size }} {{ ',a,,b' | split: ',' | size }} {{ ',,,' | split: ',' | size }}",
            "2 4 0",
        ),
        (
            """{{ '<a href="x">&amp;' | escape }} {{ "it's" | escape }}""",
            "&lt;a href=&quot;x&quot;&gt;&amp;amp; it&#39;s",
        ),
        (
            """{{ '<&lt;&nbsp;&#39;&#x27;&"' | escape_once }} {{ "it's" | escape_once }}""",
            "&lt;&lt;&nbsp;&#39;&amp;#x27;&amp;&quot; it&#39;s",
        ),
        ("{{ '%D1%8F+%2B%zz' | url_decode }}", "я +%zz"),
        ("{% cycle 'g': 1, 2 %}{% cycle 'g': 1, 2, 3 %}{% cycle 'g': 1 %}{% cycle 'g': 1 %}", "121"),
        ("{% if nil == blank and false == blank and fone == blank and ' ' == blank %}a{% endif %}", "a"),
        ("{% if 0 == blank or true == blank or 'a' == blank %}a{% endif %}{% if nil != blank %}b{% endif %}", ""),
        ("{% assign x = blank %}{% if x == nil %}a{% endif %}{% case nothing %}{% when blank %}b{% endcase %}", "ab"),
        ("{% case false %}{% when blank %}a{% endcase %}{% case fone %}{% when blank %}b{% endcase %}", "ab"),
        (
            "{% case blank %}{% when false %}a{% endcase %}{% case 0 %}{% when 1, blank %}b{% else %}c{% endcase %}",
            "ac",
        ),
        ("{% if nil == empty %}a{% endif %}{% if '' == empty %}b{% endif %}", "b"),
        ("a{% comment %}{% raw %}{% endcomment %}{% endraw %}{% endcomment %}b", "ab"),
        ("a{% comment %}{% raw %}{% endcomment %}b", "ab"),
    ],
)
def test_a_template_renders_as_in_shopify(source: str, text: str) -> None:
    assert compile_template(source).render({"nothing": None}) == text


@pytest.mark.measures_cpu
def test_a_comment_is_read_in_linear_time() -> None:
    source = "{% comment %}" + "{% raw %}" * 7_000 + "{% endcomment %}"

    started = time.thread_time()
    compile_template(source)

    assert time.thread_time() - started < 0.5


def test_scope_holds_item_and_event_only() -> None:
    assert build_scope({"a": 1}, EVENT) == {
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
    "path", ["item", "item.name", "item.meta.k", "item.customer.name", "item.tags.first", "item.name.size", "item.size"]
)
def test_a_plain_path_has_the_value_that_the_context_finds(path: str) -> None:
    context = TemplateContext(BoundTemplate(ENVIRONMENT, []), SCOPE, Meter())
    assert json.loads(render(f"{{{{ {path} | json }}}}")) == context.get([*path.split(".")], token=None)


def test_url_encode_equals_quote_plus() -> None:
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


def test_a_loop_has_a_parent_loop() -> None:
    loops = "{% for a in item.tags %}{% for b in item.items %}{{ forloop.parentloop.index }}{% endfor %}{% endfor %}"
    assert render(loops) == "112233"
    outermost = "{% for a in item.tags %}{{ forloop.parentloop }}{% endfor %}"
    message, _, _ = catch_message(lambda: render(outermost))
    assert message == "forloop.parentloop is not defined. This loop is not inside another loop"


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


def test_the_cache_holds_a_bounded_length_of_text() -> None:
    sources = [f"{number:2} {{{{ item.a }}}}" + "x" * 9_885 for number in range(40)]
    compiled = [compile_template(source) for source in sources]

    pairs = reversed([*zip(sources, compiled, strict=True)])
    are_cached = [compile_template(source) is template for source, template in pairs]

    assert are_cached == [True] * 26 + [False] * 14


def test_a_condition_is_compiled_once() -> None:
    assert compile_condition("item.a == 1") is compile_condition("item.a == 1")


def test_a_template_that_cannot_be_parsed_is_not_cached() -> None:
    for _ in range(2):
        with pytest.raises(TemplateError):
            compile_template("{{ item.a ")
