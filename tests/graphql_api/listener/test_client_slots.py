"""Slots of clients: who counts as one client, and what counts."""

from ipaddress import ip_network

import pytest

from ringback.graphql_api.listener.client_slots import ClientSlot, ClientSlots, name_client
from ringback.graphql_api.listener.refusals import Refusal

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def take(slots: ClientSlots, host: str | None = "192.0.2.1") -> ClientSlot:
    slot = slots.take(host)
    assert isinstance(slot, ClientSlot)
    return slot


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.1.2.3", None),
        ("::ffff:10.1.2.3", None),
        ("fd00::1", None),
        ("", ""),
        ("unknown", ""),
        ("192.0.2.1, 192.0.2.2", ""),
        ("9" * 5_000, ""),
        (None, ""),
    ],
)
def test_the_name_of_a_client(host: str | None, name: str | None) -> None:
    assert name_client(host, PROXIES) == name


def test_a_client_takes_its_slots_and_no_more() -> None:
    slots = ClientSlots("connections", max_per_client=2)
    first, _ = take(slots), take(slots)

    refusal = slots.take("192.0.2.1")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 429
    assert refusal.headers["Retry-After"] == "1"
    take(slots, "192.0.2.2")

    first.release()
    take(slots)


def test_a_slot_of_a_token_does_not_count_until_its_stream_ends() -> None:
    slots = ClientSlots("connections", max_per_client=1)
    stream = take(slots)

    stream.exempt()
    stream.exempt()
    take(slots).release()
    stream.count_again()
    assert isinstance(slots.take("192.0.2.1"), Refusal)

    stream.release()
    assert (slots.total, slots.by_client) == (0, {})


def test_a_stream_that_ends_after_its_connection_does_not_count() -> None:
    slots = ClientSlots("connections", max_per_client=1)
    stream = take(slots)

    stream.exempt()
    stream.release()
    stream.count_again()

    assert (slots.total, slots.by_client) == (0, {})


def test_proxies_count_in_total_only() -> None:
    slots = ClientSlots("connections", max_per_client=1, max_total=3, proxies=PROXIES)
    for _ in range(3):
        take(slots, "10.0.0.1")

    refusal = slots.take("10.0.0.1")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 503
    assert "RINGBACK_HTTP_MAX_CONNECTIONS" in refusal.message
