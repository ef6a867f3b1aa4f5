"""Atomic writing: readers see the old file or the new one, never a part of it."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # on Windows, where an open file cannot be replaced
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield an empty file, which replaces `path` when the block ends without an error.

    Threads and processes may write the same file at once; the last one wins. A draft that a killed
    process has left behind is deleted when the same file is written again.

    Parameters
    ----------
    path : Path
        The file to write. Its folder must exist.
    """
    _delete_abandoned_drafts(path)
    draft, file = _new_draft(path)
    try:
        with file:
            yield file
            synchronize(file)
            if fcntl is not None:
                os.replace(draft, path)  # while the file is open, and its lock is held
        if fcntl is None:
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def synchronize(file: BinaryIO) -> None:
    """Write what is buffered to the disk, which may turn out to be full."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def locked_folder(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder of several files against writers and, unless `shared`, against readers."""
    if fcntl is None or not folder.is_dir():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _new_draft(path: Path) -> tuple[Path, BinaryIO]:
    """Create an empty draft, and lock it for as long as its file is open."""
    while True:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        file = open(draft, "xb")  # noqa: SIM115 (the caller closes it)
        if fcntl is None:
            return draft, file
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if draft.exists():  # otherwise, another writer took it for abandoned before it was locked
            return draft, file
        file.close()


def _delete_abandoned_drafts(path: Path) -> None:
    """Delete the drafts of a file that no process is writing: their locks died with it."""
    if fcntl is None:
        return
    for draft in path.parent.glob(f".{_literal(path.name)}.*.part"):
        with contextlib.suppress(OSError), open(draft, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
