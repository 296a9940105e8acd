"""The project's public contract: its operations, each as a document of its own with the fragments that it uses."""

from functools import cache
from pathlib import Path

from graphql import parse
from graphql.language import print_ast
from graphql.utilities import separate_operations

SOURCE = Path(__file__).parent / "operations.graphql"
#: What later versions add; everything else of the contract is served.
NOT_YET = frozenset({
    "PreviewWebhook", "DeliveryStats", "RedeliverEvents", "Job", "CancelJob", "PauseWebhook", "ResumeWebhook",
    "RotateWebhookSecret",
})  # fmt: skip


@cache
def operations() -> dict[str, str]:
    """Every operation of the contract by name."""
    separate = separate_operations(parse(SOURCE.read_text()))
    return {name: print_ast(document) for name, document in separate.items()}


def served() -> dict[str, str]:
    """The operations that this version serves."""
    return {name: text for name, text in operations().items() if name not in NOT_YET}
