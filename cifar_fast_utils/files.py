"""Writing files whole or not at all; telling whether files have changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well, and is removed if not.

    The temporary name ends as the real one does, for libraries that go by it. Raises `UserError`, in one line, where
    the disk is full, the folder is missing or may not be written to. If `path` is a link, its target is replaced.
    """
    temporary: Path | None = None
    try:
        path = _target(path)
        handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with contextlib.suppress(PermissionError):  # a Windows drive under WSL, another user's mount
            temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write it, indented, whole or not at all. Raises `UserError` where the file cannot be written."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_writable(path: Path) -> None:
    """Raise `UserError` now if `whole(path)` would fail later, for instance after an hour's training."""
    try:
        path = _target(path)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def stamp(folder: Path, files: Sequence[Path]) -> str:
    """16 hex digits that change once a file has another name, size or time.

    Raises `UserError` where a file cannot be looked at, perhaps because it is a link that leads nowhere.
    """
    try:
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return hashlib.sha256(repr((str(folder), stats)).encode()).hexdigest()[:16]


def remove_left_over(folder: Path, prefix: str) -> None:
    """Remove the folders of that prefix that a killed process has left: nothing was made in them for a day."""
    for old in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # another process removes it as well
            if time.time() - old.stat().st_mtime > 86_400:
                shutil.rmtree(old, ignore_errors=True)


def _target(path: Path) -> Path:
    """What is to be written, with links followed. Raises `UserError` where that is not an ordinary file."""
    # A device that was replaced, /dev/null say, would be gone; so would /dev/stdout, which may lead to a file.
    if (path.exists() and not path.is_file()) or os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd"):
        raise UserError(f"cannot write {path}: it is {'a folder' if path.is_dir() else 'not an ordinary file'}")
    return Path(os.path.realpath(path))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
