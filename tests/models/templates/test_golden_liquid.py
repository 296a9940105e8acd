"""The cases of golden-liquid, which record what Shopify's Liquid does.

The file is no part of this repository. The tests are left out where it does not lie beside the checkout.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ringback.models.errors import TemplateError
from ringback.models.templates.formatting import to_text
from ringback.models.templates.template import compile_template

CASES_FILE = Path(__file__).parents[4] / "shared" / "golden_liquid.json"

#: Messages with which Ringback refuses a template that Liquid renders, with the reason.
REFUSALS = {
    " is not supported. Remove it": "Tags that load files, and doc, liquid and tablerow, do not exist.",
    " is not defined": "A name that does not exist is an error where it is printed or passed to a filter.",
    "'else' takes no expression": "Text that Liquid ignores after `else` is a mistake.",
    " comes after the 'else' of ": "A branch that is never rendered is a mistake.",
    "'echo' needs an expression": "An `echo` that prints nothing is a mistake.",
}
#: Cases in which Ringback renders something else. docs/templates.md lists them.
DEVIATIONS = {
    # Liquid reports a mistake, and Ringback renders the template.
    "filters, map, array containing a non object",
    "filters, map, left value not an array",
    "tags, comment, incomplete tags are not parsed",
    "tags, comment, malformed tags are not parsed",
    "tags, inline comment, enforce leading hash",
    # For a newer mode of Liquid's parser. The same template without its tag "strict2" renders nothing.
    "tags, case, unexpected when token, strict2",
}


def run_case(case: dict[str, Any], data: dict[str, Any]) -> str:
    """Return "equal", the rule by which Ringback differs, or "different".

    A name that does not exist must do what Liquid does once it is nil.
    """
    if "templates" in case:
        return "loads files"
    try:
        text = compile_template(case["template"]).render(data)
    except TemplateError as error:
        if case.get("invalid"):
            return "equal"
        name = re.match(r"(\w+).* is not defined", str(error))
        if name is not None and name[1] not in {*data, "forloop"}:
            result = run_case(case, {**data, name[1]: None})
            return " is not defined" if result == "equal" else result
        return next((message for message in REFUSALS if message in str(error)), "different")
    if case.get("invalid"):
        return "different"
    expected = case.get("results", [case.get("result")])
    if text in expected:
        return "equal"
    return "prints JSON" if join_elements(text) in expected else "different"


def join_elements(text: str) -> str | None:
    """Return the elements of a list in JSON one after another, as Liquid prints it."""
    try:
        elements = json.loads(text)
    except ValueError:
        return None
    return "".join(map(to_text, elements)) if isinstance(elements, list) else None


def test_all_cases_but_the_documented_ones_are_equal() -> None:
    cases = json.loads(CASES_FILE.read_text())["tests"]

    results = {case["name"]: run_case(case, case.get("data", {})) for case in cases}

    assert len(results) == len(cases) == 1_054
    assert {name for name, result in results.items() if result == "different"} == DEVIATIONS
    assert Counter(results.values()) == {
        "equal": 862,
        "loads files": 34,
        " is not supported. Remove it": 37,
        " is not defined": 99,
        "'else' takes no expression": 2,
        " comes after the 'else' of ": 4,
        "'echo' needs an expression": 1,
        "prints JSON": 9,
        "different": len(DEVIATIONS),
    }
