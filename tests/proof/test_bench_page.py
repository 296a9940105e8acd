"""The benchmark of pages of 100 runs and prints its results. The times themselves are not checked."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent.parent


def test_every_page_is_measured() -> None:
    command = [sys.executable, "-m", "bench.page", "--runs", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5 * PATIENCE_SECONDS)
    assert ended.returncode == 0, ended.stderr
    found = re.findall(
        r"^(.+?) +median +([0-9.]+) ms, best +[0-9.]+ ms, (\d+) statements, ", ended.stdout, re.MULTILINE
    )
    assert [(name, int(statements)) for name, _, statements in found] == [
        ("Events", 3), ("Events with 3 attempts each", 4), ("Attempts", 2),
    ]  # fmt: skip
    assert all(float(median) > 0 for _, median, _ in found)
