"""Filters of lists: nil comes last, 0 is a value, and true is not 1."""

import pytest

from ringback.models.templates.template import compile_template

NAMES = {
    "nothing": None,
    "names": ["zoe", None, "Ann", "one"],
    "rows": [{"n": 0, "on": 1}, {"n": None, "on": True}, {"n": 2, "on": False}, {"on": 1.0}],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ names | sort | join: ',' }}", "Ann,one,zoe,"),
        ("{{ names | sort_natural | join: ',' }}", "Ann,one,zoe,"),
        ("{{ rows | sort: 'n' | map: 'n' | join: ',' }}", "0,2,,"),
        ("{{ rows | sort_natural: 'n' | map: 'n' | join: ',' }}", "0,2,,"),
        ("{{ rows | where: 'n' | map: 'n' | join: ',' }}", "0,2"),
        ("{{ rows | reject: 'n' | size }}", "2"),
        ("{{ rows | find_index: 'n' }}", "0"),
        ("{{ rows | has: 'n', 0 }}", "true"),
        ("{{ rows | where: 'on', true | size }} {{ rows | where: 'on', 1 | size }}", "1 2"),
        ("{% assign row = rows | find: 'on', true %}{{ row.n }}", ""),
        ("{{ rows | compact: 'n' | map: 'n' | join: ',' }}", "0,2"),
        ("{{ nothing | concat: names | size }} {{ nothing | map: 'n' | size }} {{ nothing | sort | size }}", "4 0 0"),
        ("{{ nothing | sum }} {{ nothing | uniq | size }} {{ nothing | reverse | first }}", "0 0 "),
    ],
)
def test_elements_are_compared_as_in_liquid(source: str, text: str) -> None:
    assert compile_template(source).render(NAMES) == text
