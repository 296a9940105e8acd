"""The benchmark of the API runs, and counts only right responses."""

import os
from pathlib import Path

import pytest

from bench import api
from bench.load import AUTOCANNON, Request, WrongResult, load


@pytest.fixture(autouse=True)
def needs_the_load_tool() -> None:
    if not AUTOCANNON.exists():
        reason = "needs autocannon: `make proof` installs it where there is npm"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def test_right_responses_are_counted() -> None:
    with api.run_plain("starlette") as (url, process):
        measured = load(Request(url, "{ hello }", api.HELLO), 1, process)
    assert measured.rate > 0
    assert measured.cpu_microseconds is None or measured.cpu_microseconds > 0


@pytest.mark.parametrize(("path", "answer"), [("", {"data": {"hello": "x"}}), ("nowhere", api.HELLO)])
def test_a_wrong_response_is_no_result(path: str, answer: object) -> None:
    with api.run_plain("starlette") as (url, process), pytest.raises(WrongResult):
        load(Request(url + path, "{ hello }", answer), 1, process)


def test_an_unreachable_server_is_no_result() -> None:
    with api.run_plain("starlette") as (url, _):
        pass
    with pytest.raises(WrongResult):
        load(Request(url, "{ hello }", api.HELLO), 1, os.getpid())


def test_every_target_responds_correctly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = api.main(["--rounds", "1", "--seconds", "1", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert code == (1 if "NOT KEPT" in printed else 0)
    assert [line[:9] for line in printed.splitlines()[1:6]] == ["plain Str", *["Ringback,"] * 3, "bare Star"]
    assert '"promised": 3.0' in (tmp_path / "out.json").read_text()
