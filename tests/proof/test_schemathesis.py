"""schemathesis invents requests from the schema, against the really started program: no server error comes of any.

Fifteen seconds by default, a minute in CI; `RINGBACK_TEST_FUZZ_SECONDS=600` is the full run. The program is
`ringback api`, which delivers nothing: invented webhooks have invented addresses.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from graphql import build_schema

from ringback.graphql_api.schema.build import sdl
from tests.contract import operations
from tests.proof.fuzzing import KNOWN_IDS
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

SECONDS = int(os.environ.get("RINGBACK_TEST_FUZZ_SECONDS", "60" if os.environ.get("CI") == "true" else "15"))
ROOT = Path(__file__).parents[2]
ORDER = {"number": "1", "customer": {"name": "n", "phone": "1"},
         "items": [{"brand": "b", "article": "a", "name": "n", "quantity": 1, "price": "1.00"}]}  # fmt: skip


def seeded(program: Program) -> dict[str, list[str]]:
    """Some objects of each kind; their ids by the names under which operations take them."""

    def made(operation: str, what: str, **variables: object) -> str:
        (payload,) = program.query(operations()[operation], variables).values()
        assert payload["errors"] == []
        return str(payload[what]["id"])

    program.query(operations()["UpdateSiteSettings"], {"input": {"trackLeads": True}})
    webhook = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/"}
    webhooks = [made("CreateWebhook", "webhook", input=webhook) for _ in range(10)]
    events = [made("TestFireWebhook", "event", input={"webhookId": key}) for key in webhooks]
    leads = [made("RequestCallback", "lead", input={"name": "n", "phone": "1"})]
    orders = [made("CreateCustomerOrder", "order", input={**ORDER, "number": str(number)}) for number in range(5)]
    inboxes = [made("CreateInbox", "inbox", input={}) for _ in range(5)]
    everything = [*webhooks, *events, *leads, *orders, *inboxes]
    return {"id": everything, "webhookId": webhooks, "eventId": events, "inboxId": inboxes}


def test_no_server_error(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    with Program(tmp_path / "program", "api") as program:
        known.write_text(json.dumps(seeded(program)))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{program.url}/graphql", "--no-color"),
                *("--header", f"Authorization: Bearer {program.token}", "--max-time", str(SECONDS)),
                *("--checks", "not_a_server_error,declared_errors_only", "--warnings", "off", "--phases", "fuzzing"),
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.proof.fuzzing", "PYTHONPATH": str(ROOT),
                 KNOWN_IDS: str(known)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS + 4 * PATIENCE_SECONDS,
        )  # fmt: skip
        log = program.log()
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in log
    assert "internal error" not in log
    schema = build_schema(sdl())
    assert schema.query_type is not None
    assert schema.mutation_type is not None
    fields = len(schema.query_type.fields) + len(schema.mutation_type.fields)
    assert re.search(rf"Tested: {fields}\b", done.stdout), done.stdout
    (generated,) = re.findall(r"(\d[\d,]*) generated, \1 passed", done.stdout)
    assert int(generated.replace(",", "")) > fields
