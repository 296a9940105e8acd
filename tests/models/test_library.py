"""`ringback.models` as a library: its names, and what importing them costs."""

import subprocess
import sys

import pytest

import ringback.models as library


def test_every_name_is_there_once() -> None:
    assert sorted(library.__all__) == list(library.__all__)
    assert set(library.__all__) == library._HOME.keys()
    for name in library.__all__:
        assert getattr(library, name).__name__ == name


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"^module 'ringback\.models' has no attribute 'Webhok'$"):
        library.Webhok  # noqa: B018


def python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_part_costs_no_more_than_itself() -> None:
    loaded = python("import sys, ringback.models.errors; print('tortoise' in sys.modules, 'pydantic' in sys.modules)")
    assert loaded == "False False\n"


def test_every_part_can_be_the_first() -> None:
    """No import depends on another one that happened to come before."""
    started = [
        subprocess.Popen([sys.executable, "-c", f"from ringback.models import {names[0]}"], stderr=subprocess.PIPE)
        for names in library._HOMES.values()
    ]
    for process in started:
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, b"")
