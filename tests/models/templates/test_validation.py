"""Checks of templates before they are used: they find unknown names and certain failures, and raise no false alarm."""

import pytest

from ringback.models.templates import budget
from ringback.models.templates.validation import check_condition, check_template, unknown_paths
from tests.support.templates import FIELDS, each, said

SAMPLE: dict[str, object] = {"id": 1, "name": "n", "phone": "p", "customer": None, "items": [], "tags": [], "meta": {}}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a render take as long as this machine needs: a slow one must not fail by time before it fails by counts."""
    monkeypatch.setattr(budget, "RENDER_BUDGET_MS", 60_000)


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
        (each(each("")), "the template runs through more than 20000 loop rounds and blocks", 1, 28),
    ],
)
@pytest.mark.usefixtures("patient")
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
