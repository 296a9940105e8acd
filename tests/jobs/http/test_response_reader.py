"""The reader of responses: headers over the limits are cut, and faults that browsers accept are repaired."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.jobs.http.response_reader import (
    MAX_FIELD_BYTES,
    MAX_INFORMATIONAL_RESPONSES,
    MAX_NEEDED_HEADERS,
    MAX_RAW_BYTES,
    MAX_RESPONSE_HEADER_BYTES,
    MAX_RESPONSE_HEADERS,
    InvalidResponse,
    ResponseReader,
    ResponseState,
)
from tests.support.unhurried import unhurried

OK = b"HTTP/1.1 200 OK\r\n"
END = b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*parts: bytes) -> ResponseReader:
    """Read a response until it is complete."""
    reader = ResponseReader()
    for part in parts:
        if reader.feed(part):
            break
    return reader


def in_pieces(response: bytes, size: int) -> list[bytes]:
    return [response[start : start + size] for start in range(0, len(response), size)]


@pytest.mark.parametrize("size", [1_000_000, 1_000, 7])
@pytest.mark.parametrize("length", [MAX_FIELD_BYTES, MAX_FIELD_BYTES + 1, 30_000, 60_000])
def test_a_long_header_is_cut(length: int, size: int) -> None:
    reader = read(*in_pieces(OK + b"A: 1\r\nX: " + b"y" * length + b"\r\nB: 2\r\n" + END, size))
    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.KEPT_ALIVE)
    value = "y" * min(length, MAX_FIELD_BYTES)
    assert reader.headers == [("A", "1"), ("X", value), ("B", "2"), ("Content-Length", "2")]
    assert reader.are_headers_cut == (length > MAX_FIELD_BYTES)


def test_a_long_name_is_cut() -> None:
    reader = read(OK + b"x" * 9_000 + b": y\r\n" + END)
    assert reader.headers == [("x" * MAX_FIELD_BYTES, "y"), ("Content-Length", "2")]
    assert reader.are_headers_cut


@pytest.mark.parametrize("count", [MAX_RESPONSE_HEADERS - 1, MAX_RESPONSE_HEADERS, 5_000])
def test_headers_over_the_number_are_left_out_except_those_that_are_needed(count: int) -> None:
    reader = read(OK + b"X: y\r\n" * count + b"Retry-After: 7\r\n" + END)
    stored = [("X", "y")] * min(count, MAX_RESPONSE_HEADERS)
    assert reader.headers == [*stored, ("Retry-After", "7"), ("Content-Length", "2")]
    assert (reader.status, reader.body) == (200, b"ok")
    assert reader.are_headers_cut == (count > MAX_RESPONSE_HEADERS)


def test_headers_without_a_value_count_too() -> None:
    reader = read(OK + b"X:\r\n" * 5_000 + END)
    assert reader.headers == [("X", "")] * MAX_RESPONSE_HEADERS + [("Content-Length", "2")]
    assert reader.are_headers_cut


def test_headers_over_the_total_are_cut_where_they_exceed_it() -> None:
    lines = b"".join([b"X-%d: %s\r\n" % (number, b"y" * 8_000) for number in range(6)])
    reader = read(OK + lines + b"Z: 1\r\n" + END)
    names = [name for name, _ in reader.headers]
    assert names == ["X-0", "X-1", "X-2", "X-3", "X-4", "Content-Length"]
    sizes = [len(name) + len(value) for name, value in reader.headers[:-1]]
    assert sum(sizes) == MAX_RESPONSE_HEADER_BYTES
    assert reader.are_headers_cut


def test_needed_headers_do_not_fill_the_memory() -> None:
    reader = read(OK + b"Retry-After: 1\r\n" * 10_000 + END)
    assert len(reader.headers) == MAX_RESPONSE_HEADERS + MAX_NEEDED_HEADERS
    assert (reader.status, reader.body) == (200, b"ok")


@pytest.mark.parametrize(
    "parts",
    [
        [OK + b"X: ", *[b"y" * 10_000] * 100],
        [b"HTTP/1.1 200\r\nX: ", *[b"y" * 10_000] * 100],
        [OK, *[b"X: y\r\n" * 1_000] * 100],
        [OK + b"X: " + b"y" * 1_000_000],
        [OK + b"Content-Length: 2\r\nContent-Length: 2\r\nX: ", *[b"y" * 10_000] * 100],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"X: ", *[b"y" * 10_000] * 100],
    ],
)
def test_endless_headers_end_the_response_with_its_status(parts: list[bytes]) -> None:
    reader = read(*parts)
    assert (reader.status, reader.body, reader.state) == (200, b"", ResponseState.FINAL)
    assert reader.are_headers_cut
    assert reader.is_cut_off
    assert not reader._raw, "nothing is kept for a repair"


def test_a_reader_frees_an_unfinished_header_without_a_garbage_collection() -> None:
    value = b"y" * 50_000
    reader = ResponseReader()
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        reader.feed(OK + b"X: " + value)
        held = tracemalloc.get_traced_memory()[0]
        reader.free_parser()
        freed = held - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()

    assert held > 50_000
    assert freed > 45_000


def test_a_head_is_kept_for_a_repair_up_to_a_limit() -> None:
    repeated = b"\r\n" + END.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n")
    short, long = OK + b"X: " + b"y" * (MAX_RAW_BYTES - 100), OK + b"X: " + b"y" * MAX_RAW_BYTES

    reader = read(short, repeated)

    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    with pytest.raises(InvalidResponse):
        read(long, repeated)


def test_endless_trailers_end_the_response() -> None:
    reader = read(CHUNKED + b"2\r\nok\r\n0\r\nX: ", *[b"y" * 10_000] * 100)
    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    assert reader.is_cut_off


@pytest.mark.parametrize("parts", [[b"\r\n" * 150_000], [b"HTTP/1.1 103 Early Hints\r\nX: ", b"y" * 300_000]])
def test_endless_bytes_without_a_final_status_are_invalid(parts: list[bytes]) -> None:
    reader = read(OK + END)
    reader.start()
    with pytest.raises(InvalidResponse, match="Its headers do not end within 64 KiB"):
        for part in parts:
            reader.feed(part)


def test_informational_responses_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 10_000 + b"\r\n\r\n"
    reader = read(*[early] * MAX_INFORMATIONAL_RESPONSES, OK + END)
    assert (reader.status, reader.headers, reader.body) == (200, [("Content-Length", "2")], b"ok")
    assert not reader.are_headers_cut


@pytest.mark.parametrize("size", [1_000_000, 1_000, 7])
def test_too_many_informational_responses_are_invalid(size: int) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INFORMATIONAL_RESPONSES + 1)
    with pytest.raises(InvalidResponse, match="More than 100 informational responses came before the final one"):
        read(*in_pieces(early + OK + END, size))


def test_the_body_of_an_informational_response_is_dropped() -> None:
    reader = read(b"HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\nearly" + OK + END)
    assert (reader.status, reader.body) == (200, b"ok")


@pytest.mark.parametrize("size", [1_000, 1])
@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Connection: keep-alive\r\nContent-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ],
)
def test_a_connection_is_not_used_again_after_101(lines: bytes, size: int) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n"
    reader = read(*in_pieces(switch + OK + END, size))
    assert (reader.status, reader.body, reader.state) == (101, b"", ResponseState.FINAL)


def test_a_nul_in_a_header_is_replaced() -> None:
    assert read(OK + b"X: a\x00b\r\n" + END).headers[0] == ("X", "a\ufffdb")


REPAIRED_HEADS = [
    b"Content-Length: 2\r\ncontent-length: 2\r\n",
    b"Content-Length: 2\r\nX: y\r\nContent-Length: 2\r\nContent-Length:2\r\n",
    b"Content-Length: 2, 2\r\n",
    b"Content-Length: 2\nContent-Length: 2\n",
]


@pytest.mark.parametrize("size", [1_000, 1])
@pytest.mark.parametrize("lines", REPAIRED_HEADS)
def test_a_repeated_length_is_accepted_and_recorded_as_it_came(lines: bytes, size: int) -> None:
    reader = read(*in_pieces(b"\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK + lines + b"\r\nok", size))
    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    names = [name.lower() for name, _ in reader.headers]
    assert len(names) == lines.count(b"\n")
    assert reader.headers[0] == ("Content-Length", lines[16:].split(b"\n")[0].strip().decode())


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 9\r\n",
    ],
)
def test_a_transfer_coding_overrides_a_length(lines: bytes) -> None:
    reader = read(OK + lines + b"\r\n2\r\nok\r\n0\r\n\r\n")
    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    assert len(reader.headers) == 2


@pytest.mark.parametrize("lengths", [b"2, 3", b"2\r\nContent-Length: 3", b"x, x", b"-2\r\nContent-Length: -2"])
def test_lengths_that_differ_are_invalid(lengths: bytes) -> None:
    with pytest.raises(InvalidResponse):
        read(OK + b"Content-Length: " + lengths + b"\r\n\r\nok")


@pytest.mark.parametrize("size", [1_000, 1])
@pytest.mark.parametrize(
    "coding", [b"chunked\t", b"\tchunked \t ", b"gzip, chunked\t", b"gzip\r\nTransfer-Encoding: chunked\t"]
)
def test_a_coding_may_end_in_a_tab(coding: bytes, size: int) -> None:
    response = OK + b"Transfer-Encoding: " + coding + b"\r\nX: y\r\n\r\n2\r\nok\r\n0\r\n\r\n"

    reader = read(*in_pieces(response, size))

    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    assert [name for name, _ in reader.headers][-2:] == ["Transfer-Encoding", "X"]


@pytest.mark.parametrize("coding", [b"chunked\t\r\nTransfer-Encoding: gzip", b"gzip\t", b"chunked\x0b", b"chunked,\t"])
def test_a_body_that_is_not_chunked_at_last_ends_at_the_close(coding: bytes) -> None:
    reader = read(OK + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    assert (reader.body, reader.state) == (b"2\r\nok\r\n0\r\n\r\n", ResponseState.READING_UNTIL_CLOSE)
    assert reader.end_at_close()


@pytest.mark.parametrize("size", [1_000, 1])
@pytest.mark.parametrize("early", [b"", b"HTTP/1.1 103 Hints\r\nLink : a\r\nLink\r\n\r\n"])
def test_white_space_before_a_colon_is_accepted(early: bytes, size: int) -> None:
    lines = b"X-Foo : 1\r\nRetry-After\t :7\nX-Bar: a : b\r\n"

    reader = read(*in_pieces(early + OK + lines + END, size))

    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    assert reader.headers == [("X-Foo", "1"), ("Retry-After", "7"), ("X-Bar", "a : b"), ("Content-Length", "2")]
    assert not reader.are_headers_cut


@pytest.mark.parametrize("size", [1_000, 1])
@pytest.mark.parametrize(
    "line", [b"Nonsense", b"no header", b"X Foo: 1", b"Set-Cookie a=b\r\n c", b"X\x00: 1", b"\xc3\xa9: 1"]
)
def test_a_line_that_is_no_header_is_left_out(line: bytes, size: int) -> None:
    reader = read(*in_pieces(OK + b"A: 1\r\n" + line + b"\r\n" + END, size))

    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)
    assert reader.headers == [("A", "1"), ("Content-Length", "2")]
    assert reader.are_headers_cut


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length\t: 2\r\n",
        b"Content-Length 2\r\n",
        b"X : 1\r\nContent-Length : 2\r\n",
        b"Content-Length: 2\r\nContent-Length : 2\r\n",
        b"Content-Length\x00: 2\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Transfer-Encoding\r\nContent-Length: 2\r\n",
    ],
)
def test_lines_that_resemble_a_length_or_a_coding_are_not_repaired(lines: bytes) -> None:
    with pytest.raises(InvalidResponse):
        read(OK + lines + b"\r\nok")


@pytest.mark.parametrize(
    "response",
    [b"Content-Length : 2\r\n\r\nok", b"Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
)
def test_a_connection_is_not_used_again_if_programs_disagree_about_the_end(response: bytes) -> None:
    reader = read(OK + response)

    assert (reader.status, reader.body, reader.state) == (200, b"ok", ResponseState.FINAL)


def test_the_content_encoding_is_that_of_the_last_response() -> None:
    encoded = b"Content-Encoding:  GZip \r\n"
    reader = read(OK + encoded + END)
    assert reader.content_encoding == "gzip"

    reader.start()
    reader.feed(OK + END)
    assert reader.content_encoding == ""

    early = b"HTTP/1.1 103 Early Hints\r\n" + encoded + b"\r\n"
    assert read(early + OK + END).content_encoding == ""


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_connection_is_used_again_after_a_status_without_a_body(status: bytes) -> None:
    assert read(b"HTTP/1.1 " + status + b"\r\n\r\n").state is ResponseState.KEPT_ALIVE


LINE_ENDS = st.sampled_from([b"\r\n", b"\n"])


@unhurried
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    ends=st.lists(LINE_ENDS, min_size=12, max_size=12),
    extension=st.sampled_from([b"", b";a=b", b" ", b';a="b"']),
    trailer=st.sampled_from([b"", b"X: y\r\n", b"X: y\n"]),
    size=st.integers(1, 60),
)
def test_chunk_lines_may_end_in_lf(
    chunks: list[bytes], ends: list[bytes], extension: bytes, trailer: bytes, size: int
) -> None:
    line_ends = iter(ends)
    response = CHUNKED
    for chunk in chunks:
        response += b"%x%s%s%s%s" % (len(chunk), extension, next(line_ends), chunk, next(line_ends))
    response += b"0" + next(line_ends) + trailer + next(line_ends)

    reader = read(*in_pieces(response, size))

    assert (reader.status, reader.body) == (200, b"".join(chunks))
    is_strict = b"\n" not in ends[: 2 * len(chunks) + 2] and trailer != b"X: y\n"
    if is_strict:
        assert reader.state is ResponseState.KEPT_ALIVE
    else:
        assert reader.state is ResponseState.FINAL


def test_a_reader_accepts_lf_in_heads_after_a_chunked_response() -> None:
    reader = read(CHUNKED + b"2\r\nok\r\n0\r\n\r\n")
    reader.start()
    assert reader.feed(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert (reader.status, reader.state) == (200, ResponseState.KEPT_ALIVE)


@unhurried
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_read_or_invalid(parts: list[bytes]) -> None:
    for start in (b"", OK, CHUNKED, OK + b"Content-Length: 2\r\nContent-Length: 2\r\n"):
        try:
            reader = read(start, *[part for part in parts if part])
        except InvalidResponse:
            continue
        assert len(reader.body) <= 65_537
