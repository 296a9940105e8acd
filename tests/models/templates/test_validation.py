"""Validation of templates: unknown names and certain failures are found, and correct templates pass."""

import pytest

from ringback.models.templates import budget
from ringback.models.templates.validation import check_condition, check_template, find_unknown_paths
from tests.support.templates import FIELDS, located_message, loop_around

SAMPLE: dict[str, object] = {"id": 1, "name": "n", "phone": "p", "customer": None, "items": [], "tags": [], "meta": {}}


@pytest.fixture
def unlimited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the time limit, so that a slow machine reaches the counted limits first."""
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
def test_a_correct_template_passes(source: str) -> None:
    assert check_template(source, fields=FIELDS, sample=SAMPLE) == []


@pytest.mark.parametrize(
    ("source", "message", "line", "column"),
    [
        ("a\n {% if item.fone %}{% endif %}", "Unknown field item.fone. Did you mean item.phone?", 2, 8),
        ("{{ item.fone | default: '' }}", "Unknown field item.fone. Did you mean item.phone?", 1, 4),
        (
            "{{ item.custmer.name.size }}",
            "Unknown field item.custmer.name.size. Did you mean item.customer.name.size?",
            1,
            4,
        ),
        ("{% for i in item.items %}{{ i.prise }}{% endfor %}", "Unknown field i.prise. Did you mean i.price?", 1, 29),
        (
            "{% for i in item.items %}{% for p in i.parts %}{{ p.sk }}{% endfor %}{% endfor %}",
            "Unknown field p.sk. Did you mean p.sku?",
            1,
            51,
        ),
        ("{{ item.items[0].prise }}", "Unknown field item.items[0].prise. Did you mean item.items[0].price?", 1, 4),
        ("{% for i in item.items.x %}{{ i.y }}{% endfor %}", "Unknown field item.items.x", 1, 13),
        ("{{ item.items.price }}", "Unknown field item.items.price. Did you mean item.items[0].price?", 1, 4),
        ("{{ item.phone.zip }}", "Unknown field item.phone.zip", 1, 4),
        ("{{ itm.phone }}", "Unknown field itm.phone. Did you mean item.phone?", 1, 4),
        ("{{ phone }}", "Unknown field phone. Did you mean item.phone?", 1, 4),
        ("{{ now }}", "Unknown name now. Templates can use item and event", 1, 4),
        ("{{ event.idd }}", "Unknown field event.idd. Did you mean event.id?", 1, 4),
        (
            "{% for i in item.tags %}{{ forloop.indx }}{% endfor %}",
            "Unknown field forloop.indx. Did you mean forloop.index?",
            1,
            28,
        ),
        ("{{ item.tags[item.idd] }}", "Unknown field item.idd. Did you mean item.id?", 1, 14),
        ("{{ item.name | append: item.nme }}", "Unknown field item.nme. Did you mean item.name?", 1, 24),
        ("{% case 1 %}{% when item.nme %}{% endcase %}", "Unknown field item.nme. Did you mean item.name?", 1, 21),
        (
            "{% if false %}{{ 1 | url_encod }}{% endif %}",
            "Unknown filter 'url_encod'. Did you mean 'url_encode'?",
            1,
            22,
        ),
        ("{% if false %}{{ 1 | append }}{% endif %}", "'append' takes 1 argument; 0 given", 1, 22),
        ("{% if false %}{{ item.id | divided_by: 0 }}{% endif %}", "'divided_by' does not accept 0", 1, 28),
        ("{{ item.tags | concat: 'x' }}", "'concat' does not accept x", 1, 16),
        ("{% if a %}", "'if' is never closed. Add '{% endif %}'", 1, 4),
        (
            loop_around(loop_around("")),
            "The template runs more than 20,000 loop iterations and blocks. Loop over fewer elements",
            1,
            28,
        ),
    ],
)
@pytest.mark.usefixtures("unlimited_time")
def test_a_mistake_is_found(source: str, message: str, line: int, column: int) -> None:
    assert [located_message(error) for error in check_template(source, fields=FIELDS, sample=SAMPLE)] == [
        (message, line, column)
    ]


def test_each_mistake_is_reported_once_in_order_up_to_twenty() -> None:
    source = "{{ item.a | no }}\n{{ item.a | no }}\n{{ i }}{% for i in item.tags %}{{ i }}{% endfor %}"
    assert [located_message(error) for error in check_template(source, fields=FIELDS, sample=SAMPLE)] == [
        ("Unknown field item.a", 1, 4),
        ("Unknown filter 'no'", 1, 13),
        ("Unknown name i. Templates can use item and event", 3, 4),
    ]
    many = "".join(f"{{{{ item.x{i} }}}}" for i in range(30))
    assert len(check_template(many, fields=FIELDS, sample=SAMPLE)) == 20


def test_mistakes_in_conditions() -> None:
    assert check_condition("item.phone and event.changed_fields contains 'x' or item.meta.a", fields=FIELDS) == []
    errors = check_condition("item.phone\n== item.fone", fields=FIELDS)
    assert [located_message(error) for error in errors] == [("Unknown field item.fone. Did you mean item.phone?", 2, 4)]
    assert [located_message(error) for error in check_condition("a ==", fields=FIELDS)] == [
        ("The expression is incomplete", 1, 5)
    ]
    for condition in (" {{ item.phone }} ", " {% if item.phone %}"):
        assert [located_message(error) for error in check_condition(condition, fields=FIELDS)] == [
            ("A condition has no braces. Leave out {{ }} and {% %}: item.id != nil", 1, 2)
        ]


@pytest.mark.parametrize(
    ("path", "used_path"),
    [
        ('item["unit price"]', 'item["unit price"]'),
        ('item["a.b"]["c"]', 'item["a.b"].c'),
        ('item["x[]"][].y', 'item["x[]"][0].y'),
        ('item["q*"].*', 'item["q*"].any.thing'),
        ("item.größe", "item.größe"),
    ],
)
def test_a_field_name_with_special_characters_is_written_in_brackets(path: str, used_path: str) -> None:
    assert check_template(f"{{{{ {used_path} }}}}", fields=[path], sample={}) == []
    assert check_template(f"{{{{ {used_path} }}}}", fields=["item.id"], sample={}) != []


def test_unknown_paths_with_bracketed_names() -> None:
    fields = ['item["a.b"]["c"]', 'item["x y"][].z']
    assert find_unknown_paths('{{ item["a.b"].d }}{{ item["x y"][0].z }}{{ item.a }}', fields=fields) == {
        'item["a.b"].d',
        "item.a",
    }


def test_unknown_paths() -> None:
    source = (
        "{% for row in item.rows %}{{ row.x }}{{ row.y }}{% endfor %}{{ item.gone | no_such_filter }}{{ event.id }}"
    )
    assert find_unknown_paths(source, fields=["item.rows[].x"]) == {"row.y", "item.gone"}
    assert find_unknown_paths(source, fields=["item.rows[].x", "item.rows[].y", "item.gone"]) == set()
    assert find_unknown_paths("item.a == item.b", fields=["item.a"], is_condition=True) == {"item.b"}
    assert (
        find_unknown_paths("{{ item.a", fields=[])
        == find_unknown_paths("item.a ==", fields=[], is_condition=True)
        == set()
    )
