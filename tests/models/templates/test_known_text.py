"""The text that templates render from constants: no data may change it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.errors import TemplateError
from ringback.models.templates.known_text import UNKNOWN, render_known_text
from ringback.models.templates.scope import EventFacts, build_scope
from ringback.models.templates.template import compile_template
from tests.support.unhurried import unhurried


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{ 7 | times: 7 }}.{{ 'local' | append: 'host' }}", "49.localhost"),
        ("{% assign h = '127.0.0.1' %}http://{{ h }}/{{ item.id }}", f"http://127.0.0.1/{UNKNOWN}"),
        ("{% capture u %}http://{% if true %}a{% endif %}{% endcapture %}{{ u }}", "http://a"),
        ("{% for c in (1..3) %}{{ c }}{% endfor %}", "123"),
        ("{% assign item = 'mine' %}{{ item }}", "mine"),
        ("{% if false %}{{ item.x }}{% else %}b{% endif %}", "b"),
        ("{% cycle 'a', 'b' %}{% cycle 'a', 'b' %}{% increment n %}", "ab0"),
        ("{% assign h = item.x %}{% assign h = 'b' %}{{ h }}", "b"),
        ("{% raw %}{{ item.x }}{% endraw %}", "{{ item.x }}"),
        ("{{ item['x'] }}{{ event.id }}", UNKNOWN * 2),
        ("{% assign name = 'item' %}{{ [name].x }}", UNKNOWN),
        ("{{ item.x | default: 'a' }}", UNKNOWN),
        ("{{ 'a' | append: item.x }}", UNKNOWN),
        ("{% if item.x %}a{% else %}a{% endif %}b", f"{UNKNOWN}b"),
        ("{% if item %}{% assign h = 'a' %}{% endif %}{{ h }}", UNKNOWN),
        ("{% assign h = 'a' %}{% if item.x %}{% assign h = 'b' %}{% endif %}{{ h }}", UNKNOWN),
        ("{% assign h = 'a' %}{% unless item.x %}{% capture h %}b{% endcapture %}{% endunless %}{{ h }}", UNKNOWN),
        ("{% assign h = item.x %}{% if h == blank %}{% assign g = 1 %}{% endif %}{{ g }}", UNKNOWN),
        ("{% if item.x %}{% cycle 'a', 'b' %}{% endif %}{% cycle 'a', 'b' %}", UNKNOWN * 2),
        ("{% if item.x %}{% increment n %}{% endif %}{% increment n %}", UNKNOWN * 2),
        ("{% for i in item.items %}{% assign h = i %}{% endfor %}a", UNKNOWN),
        ("a{{ nothing }}b", f"a{UNKNOWN}"),
        ("a{{ 1 | divided_by: 0 }}b", f"a{UNKNOWN}"),
        ("{% for i in (1..9999) %}{% for j in (1..9999) %}{% endfor %}{% endfor %}a", UNKNOWN),
    ],
)
def test_only_text_that_no_data_changes_is_known(template: str, text: str) -> None:
    assert render_known_text(template) == text


def test_a_template_that_cannot_be_parsed_is_refused() -> None:
    with pytest.raises(TemplateError):
        render_known_text("{{ item.x")


_EVENT = EventFacts(id="evt_1", model="lead", action="created", changed_fields=(), created_at="2026-01-01T00:00:00Z")
_PIECES = st.sampled_from([
    "a", "{{ h }}", "{{ item.x }}", "{% assign h = 'b' %}", "{% assign h = item.x %}", "{% assign g = h %}", "{{ g }}",
    "{% if item.x %}c{% assign h = 'd' %}{% endif %}", "{% if h == 'b' %}e{% else %}{% assign g = 'f' %}{% endif %}",
    "{% cycle 'g', 'h' %}", "{% if item.x %}{% cycle 'g', 'h' %}{% endif %}", "{% increment n %}{{ n }}",
    "{% unless item.x %}{% increment n %}{% endunless %}", "{% ifchanged %}{{ h }}{% endifchanged %}",
    "{% for i in (1..4) limit: 2 %}{{ i }}{% endfor %}", "{% for i in (1..4) offset: continue %}{{ i }}{% endfor %}",
    "{% if item.x %}{% for i in (1..4) limit: 1 %}{% endfor %}{% endif %}", "{% capture h %}{{ g }}i{% endcapture %}",
])  # fmt: skip


@unhurried
@given(st.lists(_PIECES, max_size=8).map("".join), st.sampled_from([None, False, "x", "b"]))
def test_a_known_text_is_what_every_item_renders(template: str, x: object) -> None:
    known = render_known_text("{% assign h = 1 %}{% assign g = 2 %}" + template)

    rendered = compile_template("{% assign h = 1 %}{% assign g = 2 %}" + template).render(build_scope({"x": x}, _EVENT))

    parts = known.split(UNKNOWN)
    assert rendered.startswith(parts[0])
    assert rendered.endswith(parts[-1])
    assert len(parts) > 1 or rendered == known
