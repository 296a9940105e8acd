"""The documentation site builds without a warning, and the commands of the documentation run as written."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import PAGES, ROOT

#: How long one of them may take, in seconds.
RUN_SECONDS = 60.0
#: A block that is run as written, from the folder that the comment names.
RUNNABLE = re.compile(r"<!-- run: (\S+) -->\n+```sh\n(.*?)```", re.DOTALL)


def runnable() -> Iterator[object]:
    for page in PAGES:
        for folder, command in RUNNABLE.findall(page.read_text()):
            yield pytest.param(folder, command, id=f"{page.relative_to(ROOT)}: {command.splitlines()[0]}")


@pytest.mark.parametrize(("folder", "command"), list(runnable()))
def test_commands_run_as_written(folder: str, command: str) -> None:
    done = subprocess.run(["bash", "-ec", command], cwd=ROOT / folder, capture_output=True, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--builder", "html"]
    done = subprocess.run([*command, "docs", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Walkthrough" in (tmp_path / "site" / "quickstart.html").read_text()
