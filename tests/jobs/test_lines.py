"""The file of the log: whole lines, in order, in few writes."""

import io
import threading

import pytest

from ringback.jobs.lines import MAX_BYTES, Lines


class Written(io.StringIO):
    """A file that remembers what each write brought."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        if text:
            self.parts.append(text)
        return len(text)


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def lines(written: Written) -> Lines:
    return Lines(lambda: written)


def test_a_line_leaves_at_once(lines: Lines, written: Written) -> None:
    lines.write("one\n")
    lines.info("two")
    assert written.parts == ["one\n", "two\n"]


def test_lines_of_a_block_leave_together_when_it_ends(lines: Lines, written: Written) -> None:
    with lines.together():
        lines.msg("one")
        with lines.together():
            lines.write("two\n")
        lines.flush()
        assert written.parts == []
    assert written.parts == ["one\ntwo\n"]
    lines.write("three\n")
    assert written.parts == ["one\ntwo\n", "three\n"]


def test_lines_leave_when_the_block_raises(lines: Lines, written: Written) -> None:
    with pytest.raises(ValueError, match="broken"), lines.together():
        lines.write("one\n")
        raise ValueError("broken")
    assert written.parts == ["one\n"]


def test_a_line_that_cannot_be_written_ends_nothing_and_is_not_held(
    lines: Lines, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full(text: str) -> int:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(written, "write", full)
        with lines.together():
            lines.write("one\n")
        lines.info("more")
    lines.info("two")
    assert written.parts == ["two\n"]


@pytest.mark.parametrize(("letter", "each"), [("x", 5), ("ж", 1)])
def test_a_write_brings_whole_lines_and_no_more_than_a_pipe_takes_at_once(
    lines: Lines, written: Written, letter: str, each: int
) -> None:
    some = [f"{number}{letter * 798}\n" for number in range(10)]
    long = letter * MAX_BYTES + "\n"
    with lines.together():
        for line in (*some, long, "last"):
            lines.write(line)
    assert written.parts == ["".join(some[at : at + each]) for at in range(0, 10, each)] + [long, "last"]
    assert all(len(part.encode()) <= MAX_BYTES for part in written.parts if part != long)


def test_another_threads_lines_do_not_wait(lines: Lines, written: Written) -> None:
    with lines.together():
        lines.write("mine\n")
        other = threading.Thread(target=lines.write, args=("its\n",))
        other.start()
        other.join()
        assert written.parts == ["its\n"]
    assert written.parts == ["its\n", "mine\n"]
