"""The events that the benchmark writes."""

import json

from bench.due import BODY_BYTES, LIQUID, item
from ringback.models.templates.template import compile_template


def test_every_body_has_the_same_length() -> None:
    lead = item("lead_0000001")
    event = {"changed_fields": ["name", "phone"]}
    assert len(json.dumps(lead, separators=(",", ":"))) == BODY_BYTES
    assert len(compile_template(LIQUID).render({"item": lead, "event": event})) == BODY_BYTES
