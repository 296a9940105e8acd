"""Limits of templates: hostile ones fail early and cheaply, large ones pass."""

import tracemalloc

import pytest

from ringback.models.templates import budget
from ringback.models.templates.budget import (
    MAX_OUTPUT_BYTES,
    MAX_PAUSE_MS,
    MAX_SOURCE_BYTES,
    RENDER_BUDGET_MS,
    LimitReached,
    Meter,
    TimeUp,
)
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.scope import build_scope
from ringback.models.templates.template import compile_condition, compile_template
from ringback.models.templates.validation import check_template
from tests.support.cpu import ordinary_seconds
from tests.support.templates import EVENT, FIELDS, catch_error, catch_message, located_message, loop_around

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

HOSTILE = {
    "range joined": "{{ (1..100000000) | join }}",
    "range reversed by filter": "{% assign n = 100000000 %}{{ (1..n) | reverse }}",
    "range looped": "{% for i in (1..100000000) %}x{% endfor %}",
    "range looped backwards": "{% assign n = 100000000 %}{% for i in (1..n) reversed %}{% break %}{% endfor %}",
    "range searched": "{% assign n = 99999999999 %}{% if (1..n) contains 1.5 %}{% endif %}",
    "range assigned, searched": "{% assign n = 9999999999 %}{% assign r = (1..n) %}{% if r contains 'a' %}{% endif %}",
    "range beyond the machine": "{% for i in (1..99999999999999999999999999) %}{% endfor %}",
    "loops in loops": loop_around(loop_around(loop_around(""))),
    "loops after loops": loop_around("") * 1_000,
    "loop full of output": loop_around("{{ item.rows[0].a }}" * 800),
    "loop full of assigns": loop_around("{% assign x = item.text %}" * 800),
    "loop full of constants": loop_around("{% cycle 1, 2, 3 %}" * 900),
    "when with itself": "{% case 1 %}{% when " + "1," * 1_000 + "1 %}" + loop_around("x") + "{% endcase %}",
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
    "cycle of long texts": loop_around("{% cycle item.text, item.text, item.text %}"),
    "split to characters": "{{ item.text | split: '' }}",
    "nested lists": loop_around("{% assign l = item.nest | concat: item.nest %}"),
    "uniq": loop_around("{% assign l = item.rows | uniq %}"),
    "sort": loop_around("{% assign l = item.rows | sort: 'b' %}"),
    "where": loop_around("{% assign l = item.rows | where: 'b', item.text %}"),
    "json": loop_around("{% assign l = item.rows | json %}"),
    "sum of digits": "{% assign l = item.digits %}" + "{% assign l = l | concat: l %}" * 7 + "{{ l | sum }}",
    "huge integers": "{% assign n = 99999999 %}" + "{% assign n = n | times: n %}" * 40,
    "huge floats": "{{ 1.7" + " | times: 1000000000000000000.5" * 40 + " }}",
    "wide dates": loop_around("{{ 'now' | date: '" + "%99999999d" * 9 + "' }}"),
    "long date format": "{{ 'now' | date: item.text }}",
    "dates to guess": loop_around("{{ i | append: 'a 1 2 3 4 5 6 7 8 9 10' | date: '%Y' }}"),
    "open tags": "{{ item.open | strip_html }}",
    "open comments": "{{ item.comments | strip_html }}",
    "open scripts": "{{ item.scripts | strip_html }}",
    "entities": "{{ item.entities | escape_once }}" * 40,
    "wide characters encoded": "{{ item.wide | url_encode | url_encode }}",
    "long filter chain": "{{ item.wide" + " | upcase" * 3_000 + " }}",
    "too much output": "{{ item.text }}{{ item.text }}",
    "texts compared": loop_around("{% if item.text contains item.text %}{% endif %}" * 100),
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
@pytest.mark.measures_cpu
def test_a_hostile_template_uses_little_time_and_memory(source: str) -> None:
    def compile_and_render() -> None:
        catch_error(lambda: compile_template(source).render(build_scope(BIG, EVENT)))

    assert ordinary_seconds(compile_and_render) < 0.75

    tracemalloc.start()
    compile_and_render()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000

    assert ordinary_seconds(lambda: check_template(source, fields=FIELDS, sample=BIG)) < 0.75


#: Comparisons without a loop, which take seconds if nothing reads the clock between them.
COSTLY = {
    "decimals converted": "item.numbers contains 'x'",
    "decimals compared": " or ".join(["item.few == item.same"] * 50),
    "texts searched": " or ".join(["item.text contains item.sought"] * 90),
}


@pytest.mark.parametrize("condition", [*COSTLY.values(), "case"], ids=[*COSTLY, "decimals compared by case"])
@pytest.mark.measures_cpu
def test_costly_comparisons_run_out_of_time(condition: str) -> None:
    numbers = {"numbers": [1] * 200_000, "few": [1] * 20_000, "same": [1] * 19_999 + [2]}
    scope = build_scope({**numbers, "text": "a" * 4_000_000, "sought": "a" * 2_000_000 + "b"}, EVENT)
    decimals = DecimalFields({f"item.{name}[]": "float" for name in numbers})
    case = "{% case item.few %}{% when " + "item.same, " * 49 + "item.same %}{% endcase %}"

    def evaluate() -> object:
        if condition == "case":
            return compile_template(case).render(scope, decimals)
        return compile_condition(condition).holds(scope, decimals)

    assert isinstance(catch_error(evaluate).__cause__, TimeUp)


@pytest.fixture
def unlimited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the time limit, so that a slow machine reaches the counted limits first."""
    monkeypatch.setattr(budget, "RENDER_BUDGET_MS", 60_000)


@pytest.mark.usefixtures("unlimited_time")
@pytest.mark.measures_cpu
def test_a_large_harmless_template_passes() -> None:
    lines = [{"name": "n" * 20, "price": "1.00"} for _ in range(500)]
    line = "{% if i.price != '' %}{{ i.name | upcase | url_encode }}={{ i.price }}{% endif %}&"
    source = "{% for i in item.lines %}" + line + "{% endfor %}"
    template = compile_template(source)
    assert len(template.render({"item": {"lines": lines}})) == 500 * 26
    durations = [ordinary_seconds(lambda: template.render({"item": {"lines": lines}})) for _ in range(5)]
    assert min(durations) < RENDER_BUDGET_MS / 1000
    heavy = [{"about": "a" * 1_000, "q": i} for i in range(500)]
    assert compile_template("{{ l | sort: 'q' | uniq: 'q' | sum: 'q' }}").render({"l": heavy}) == "124750"
    assert compile_template("x" * MAX_SOURCE_BYTES).render({}) == "x" * MAX_SOURCE_BYTES
    largest = {"text": "y" * MAX_OUTPUT_BYTES}
    assert compile_template("{{ text }}").render(largest) == largest["text"]
    message, _, _ = catch_message(lambda: compile_template("{{ text }}!").render(largest))
    assert message == "The rendered text has more than 262,144 bytes. Print less"


class Clock:
    """A clock in seconds that moves only when a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_cpu_time_of_the_thread_counts() -> None:
    wall, cpu = Clock(), Clock()
    meter = Meter(wall=wall, cpu=cpu)
    for _ in range(100):
        wall.now += 1  # on a busy machine the thread runs for 0.1 ms of each second
        cpu.now += 0.0001
        meter.tick()


def test_time_runs_out_but_one_pause_does_not_count() -> None:
    wall, cpu = Clock(), Clock()
    meter = Meter(wall=wall, cpu=cpu)
    wall.now = cpu.now = MAX_PAUSE_MS / 1000
    meter.tick()
    for _ in range(RENDER_BUDGET_MS - 1):
        wall.now = cpu.now = cpu.now + 0.001
        meter.tick()
    wall.now = cpu.now = cpu.now + 0.002
    with pytest.raises(TimeUp, match=f"The templates of one request take more than {RENDER_BUDGET_MS} ms of CPU time"):
        meter.tick()


@pytest.mark.usefixtures("unlimited_time")
@pytest.mark.measures_cpu
def test_steps_are_counted_over_the_whole_render() -> None:
    template = compile_template(loop_around("") + loop_around("") + "{% for i in (1..2000) %}{% endfor %}")
    assert template.render({}) == ""
    assert template.render({}) == ""  # each render has its own counts
    assert min(ordinary_seconds(lambda: template.render({})) for _ in range(5)) < RENDER_BUDGET_MS / 1000
    error = catch_error(lambda: compile_template(loop_around("") * 3).render({}))
    assert isinstance(error.__cause__, LimitReached)
    message, _, _ = located_message(error)
    assert message == "The template runs more than 20,000 loop iterations and blocks. Loop over fewer elements"


def test_the_cache_returns_recent_templates_and_is_bounded() -> None:
    template = compile_template("{{ cached }}")
    assert compile_template("{{ cached }}") is template
    assert compile_condition("cached") is compile_condition("cached")
    for i in range(10):
        compile_template(f"{i:060000d}")
    assert compile_template("{{ cached }}") is not template
