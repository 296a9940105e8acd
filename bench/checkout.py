"""Another commit of this repository, installed in its own worktree and virtual environment."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.load import WrongResult

ROOT = Path(__file__).parent.parent
#: Checkouts stay here, so that each commit is installed once.
FOLDER = ROOT / "build/against"


@dataclass(frozen=True, slots=True)
class Checkout:
    """An installed commit: its full hash, and the Python of its environment."""

    commit: str
    python: str


def install(commit: str) -> Checkout:
    """Install a commit, if it is not installed. Raises WrongResult if it is unknown or the installation fails."""
    name = resolve(commit)
    folder = FOLDER / name
    python = str(folder / ".venv/bin/python")
    ready = folder / ".venv/ready"
    if ready.exists():
        return Checkout(name, python)
    print(f"installing {name} in {folder}", file=sys.stderr, flush=True)
    if not folder.exists():
        _run("git", "worktree", "prune")
        _run("git", "worktree", "add", "--detach", str(folder), name)
    _run(sys.executable, "-m", "venv", str(folder / ".venv"))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(*pip, "--require-hashes", "-r", str(folder / "requirements-dev.lock"))
    _run(*pip, "--no-deps", "--no-build-isolation", "--editable", str(folder))
    ready.touch()
    return Checkout(name, python)


def resolve(commit: str) -> str:
    """Return the full hash of a commit. Raises WrongResult if it is unknown."""
    done = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WrongResult(f"Unknown commit {commit}. Name a commit, tag or branch of this repository.")
    return done.stdout.strip()


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongResult(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-1_000:]}")
