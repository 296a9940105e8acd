"""Every field of a webhook is in the API: to create, to update and to read it."""

from pathlib import Path

import pytest
from graphql import build_schema

from ringback.models.services.validation import api_name
from ringback.models.services.webhook_spec import FIELD_NAMES

SCHEMA = build_schema((Path(__file__).parents[3] / "schema.graphql").read_text())
#: An update cannot change the model.
NOT_UPDATABLE = {"UpdateWebhookInput": {"model"}}


@pytest.mark.parametrize("type_name", ["CreateWebhookInput", "UpdateWebhookInput", "Webhook"])
def test_every_field_of_a_webhook_is_in_the_type(type_name: str) -> None:
    expected = {api_name(name) for name in FIELD_NAMES - NOT_UPDATABLE.get(type_name, set())}
    graphql_type = SCHEMA.get_type(type_name)

    assert expected - set(getattr(graphql_type, "fields", {})) == set()
