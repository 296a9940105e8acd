"""Another commit of this repository, installed beside it: a worktree and a virtual environment of its own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.load import Wrong

ROOT = Path(__file__).parent.parent
#: Where checkouts are kept, so that a commit is installed once.
FOLDER = ROOT / "build/against"


@dataclass(frozen=True, slots=True)
class Checkout:
    """An installed commit: its full name, and the Python of its environment."""

    commit: str
    python: str


def install(commit: str) -> Checkout:
    """Install a commit unless it is there. Raises Wrong if git does not know it, or if the installation fails."""
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
    """Return a commit's full name. Raises Wrong if git does not know it."""
    done = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"git does not know the commit {commit}. Give a commit, tag or branch of this repository.")
    return done.stdout.strip()


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-1_000:]}")
