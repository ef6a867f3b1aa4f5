"""A folder that holds a model and a log of the requests since it was written.

The folder contains a snapshot, ``model.safetensors``, the log that the snapshot names, and a lock.
The log is appended to and synchronized with the disk, one line per request. A snapshot is written
under another name, synchronized and renamed, and it starts a new log. Whenever the process is
killed, the folder therefore contains a snapshot and a log that belong together, and at most the end
of the last line is missing; such a line is a request that has not returned.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError

from ....utils._typing import Array

SNAPSHOT = "model.safetensors"
_LOCK = "lock"
_DIGEST_SIZE = 16


class LockedError(RuntimeError):
    """Another process, or another pipeline, uses the folder."""


class RequestFolder:
    """An open folder, which is locked until `close`.

    Parameters
    ----------
    path : str or path-like
        The folder, which is created if it does not exist.

    Raises
    ------
    LockedError
        If the folder is in use.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = _locked(self.path / _LOCK)
        self._log: int | None = None  # set last: `close` and `__del__` need both

    def close(self) -> None:
        """Release the folder; this may be called twice."""
        for descriptor in (self._log, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._log = self._lock = None

    def __del__(self) -> None:
        if hasattr(self, "_log"):
            self.close()

    def write_snapshot(self, tensors: dict[str, Array], header: Any) -> None:
        """Replace the snapshot and start an empty log.

        Parameters
        ----------
        tensors : dict of str to ndarray
            Arrays.
        header : object
            Any other content, as JSON.
        """
        log = f"requests-{secrets.token_hex(8)}.log"
        text = json.dumps({"log": log, "content": header})
        metadata = {"json": text, "digest": _digest(text, tensors)}
        draft = self.path / f".{SNAPSHOT}.{secrets.token_hex(8)}.part"
        descriptor = os.open(self.path / log, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
        before, written = self._log, None
        try:
            os.fsync(descriptor)
            _write(draft, safetensors.numpy.save(tensors, metadata))
            written = os.stat(draft)
            os.replace(draft, self.path / SNAPSHOT)
            self._log = descriptor
            _synchronize(self.path)
        except BaseException:
            draft.unlink(missing_ok=True)
            # Once the new snapshot is in place, requests belong in its log.
            if written is not None and os.path.samestat(written, os.stat(self.path / SNAPSHOT)):
                self._log = descriptor
            else:
                os.close(descriptor)
                (self.path / log).unlink()
            raise
        finally:
            if before is not None and self._log != before:
                os.close(before)
        self._remove_others(log)

    def read(self) -> tuple[dict[str, Array], Any, list[Any]]:
        """Read the snapshot and the requests since, and get ready to append.

        Returns
        -------
        tensors : dict of str to ndarray
        header : object
        requests : list
            Requests, oldest first.

        Raises
        ------
        ValueError
            If a file is damaged.
        FileNotFoundError
            If the folder has no snapshot.
        """
        tensors, name, header = _read_snapshot(self.path / SNAPSHOT)
        path = self.path / name
        requests, size = _read_log(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(descriptor, size)  # the end of a request that did not return
        os.fsync(descriptor)
        self._log = descriptor
        self._remove_others(name)
        return tensors, header, requests

    def append(self, request: Any) -> None:
        """Append a request to the log; it is on disk when this method returns."""
        if self._log is None:
            raise ValueError("The folder is closed.")
        text = json.dumps(request)
        line = f"{_digest(text, {})} {text}\n".encode()
        while line:
            line = line[os.write(self._log, line) :]
        os.fsync(self._log)

    def _remove_others(self, log: str) -> None:
        for pattern in (f".{SNAPSHOT}.*.part", "requests-*.log"):
            for path in self.path.glob(pattern):
                if path.name != log:
                    path.unlink(missing_ok=True)
        _synchronize(self.path)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LockedError(
            f"The folder {str(path.parent)!r} is in use by another pipeline. Call its close() "
            "first, or end its process."
        ) from error
    return descriptor


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _synchronize(folder: Path) -> None:
    """Make renamed and removed files durable, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(text: str, tensors: dict[str, Array]) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_SIZE)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _read_snapshot(path: Path) -> tuple[dict[str, Array], str, Any]:
    damaged = f"{str(path)!r} is damaged or is not a stored pipeline"
    try:
        content = path.read_bytes()
        tensors = safetensors.numpy.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        text = metadata["json"]
        if metadata["digest"] != _digest(text, tensors):
            raise ValueError("its content does not match its digest.")
        data = json.loads(text)
        log = data["log"]
        if Path(log).name != log or not log.startswith("requests-"):
            raise ValueError(f"it names the log {log!r}.")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{damaged}: {error}") from error
    return tensors, log, data["content"]


def _read_log(path: Path) -> tuple[list[Any], int]:
    """Return the requests, and the size of the part of the file that contains them."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"The log {str(path)!r} is missing.") from error
    requests, size = [], 0
    for line in content.splitlines(keepends=True):
        digest, _, text = line[:-1].decode(errors="replace").partition(" ")
        is_last = size + len(line) == len(content)
        if is_last and (not line.endswith(b"\n") or b"\0" in line):
            break  # not all of it reached the disk
        if not line.endswith(b"\n") or digest != _digest(text, {}):
            raise ValueError(f"{str(path)!r} is damaged at byte {size}.")
        requests.append(json.loads(text))
        size += len(line)
    return requests, size
