"""Ids: TypeIDs over UUIDv7, and the messages for malformed ones."""

import datetime as dt
from uuid import RFC_4122, UUID, uuid4

import pytest

from ringback.models.ids import Prefix, decode, encode, is_id, least_key_at, new_key, new_key_at

KEY = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
TEXT = "evt_01h455vb4pex5vsknk084sn02q"


def test_the_example_of_the_specification() -> None:
    assert encode(Prefix.EVENT, KEY) == TEXT
    assert decode(Prefix.EVENT, TEXT) == KEY


def test_any_uuid_can_be_encoded_and_decoded() -> None:
    for key in (uuid4(), new_key(), UUID(int=0), UUID(int=2**128 - 1)):
        for prefix in Prefix:
            assert decode(prefix, encode(prefix, key)) == key


def test_new_keys_are_increasing() -> None:
    keys = [new_key() for _ in range(2_000)]
    assert keys == sorted(set(keys))
    assert {(type(key), key.version) for key in keys} == {(UUID, 7)}


def test_keys_of_past_times_are_in_their_order() -> None:
    times = [dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC) + dt.timedelta(microseconds=n * 333) for n in range(2_000)]
    keys = [new_key_at(time) for time in times]
    assert keys == sorted(set(keys))
    assert {(type(key), key.version, key.variant) for key in keys} == {(UUID, 7, RFC_4122)}
    assert least_key_at(times[9]) < keys[9] < least_key_at(times[9], 0.001)


@pytest.mark.parametrize(
    "text",
    ["", "evt_", "evt", "x", TEXT[:-1], TEXT + "0", TEXT.upper(), TEXT.replace("_", "-"), str(KEY), TEXT[:-1] + "u",
     "evt_81h455vb4pex5vsknk084sn02q", f" {TEXT}", f"{TEXT}\n", "évt_01h455vb4pex5vsknk084sn02q", "A" * 100_000],
)  # fmt: skip
def test_malformed_ids(text: str) -> None:
    with pytest.raises(ValueError, match="is not an id") as caught:
        decode(Prefix.EVENT, text)
    assert len(str(caught.value)) < 200
    expected = ("Expected an id such as evt_01h455vb4pex5vsknk084sn02q.", "Expected one that starts with evt_.")
    assert str(caught.value).endswith(expected)


def test_an_id_of_another_kind() -> None:
    with pytest.raises(
        ValueError, match=r"^'whk_01h4.*' is not an id of this kind. Expected one that starts with evt_\.$"
    ):
        decode(Prefix.EVENT, encode(Prefix.WEBHOOK, KEY))


def test_which_texts_are_ids() -> None:
    assert all(is_id(encode(prefix, new_key())) for prefix in Prefix)
    for text in ("", "evt", "lead_time", TEXT[:-1], TEXT + "0", TEXT.upper(), TEXT.replace("evt", "job"), TEXT + "\n"):
        assert not is_id(text), text
