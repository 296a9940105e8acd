"""`ringback.models` as a library: its names, and what importing them loads."""

import subprocess
import sys

import pytest

import ringback.models as library


def test_every_public_name_is_exported_once() -> None:
    assert sorted(library.__all__) == list(library.__all__)
    assert set(library.__all__) == library._MODULES.keys()
    for name in library.__all__:
        assert getattr(library, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'ringback\.models' has no attribute 'Webhok'$"):
        library.Webhok  # noqa: B018


def run_python(script: str) -> str:
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


def test_importing_one_module_does_not_load_the_others() -> None:
    loaded = run_python(
        "import sys, ringback.models.errors; print('tortoise' in sys.modules, 'pydantic' in sys.modules)"
    )
    assert loaded == "False False\n"


def test_every_module_can_be_imported_first() -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", f"from ringback.models import {names[0]}"], stderr=subprocess.PIPE)
        for names in library._NAMES_BY_MODULE.values()
    ]
    for process in processes:
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, b"")
