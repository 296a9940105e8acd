"""Permissions of the data directory and its files: only their owner has access, whatever the umask.

Files are not opened for this: closing a second descriptor of a SQLite database would release the locks of the first.
"""

import os
import stat
import sys
from pathlib import Path

import structlog

logger = structlog.get_logger("ringback.start")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def create_private_folder(folder: Path) -> None:
    """Create a folder and the missing ones above it, all of them private. Raises OSError."""
    for missing in reversed([parent for parent in folder.parents if not parent.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def create_private_file(path: Path) -> None:
    """Create an empty file, unless there is a file. Raises OSError."""
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def make_private(path: Path) -> None:
    """Take all permissions on a file or folder from other users, and log it.

    There is only a warning about what belongs to another user or cannot be changed, and about a folder that all users
    share, such as /tmp. A missing file and a symbolic link are ignored.
    """
    if sys.platform == "win32":
        return
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode) or not mode & _OTHERS:
        return
    private_mode = mode & ~_OTHERS
    if status.st_uid != os.geteuid() or mode & stat.S_ISVTX:
        _warn(path, mode, "it belongs to another user, or is shared by all")
        return
    try:
        path.chmod(private_mode)
    except OSError as error:
        _warn(path, mode, error.strerror or str(error))
        return
    logger.warning(
        "took the permissions of other users away", action="start", path=str(path), mode=f"{mode:04o}",
        mode_now=f"{private_mode:04o}",
    )  # fmt: skip


def _warn(path: Path, mode: int, reason: str) -> None:
    logger.warning(
        "other users have access to a file or folder with secrets: take it away with chmod go=",
        action="start", path=str(path), mode=f"{mode:04o}", reason=reason,
    )  # fmt: skip
