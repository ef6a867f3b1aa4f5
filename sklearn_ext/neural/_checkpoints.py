"""Tensors on disk: safetensors, or torch files read without executing anything."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

_TORCH_SUFFIXES = (".pt", ".pth", ".bin")
_SUFFIXES = (".safetensors", *_TORCH_SUFFIXES)


def save_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors to a safetensors file; a file that was there is replaced at once.

    Parameters
    ----------
    path : str or path-like
        Must end with ``.safetensors``.
    tensors : mapping of str to tensor
    metadata : mapping of str to str or None, default=None

    Raises
    ------
    ValueError
        If `path` has another ending.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from sklearn_ext.neural import load_tensors, save_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.safetensors"
    ...     save_tensors(path, {"weight": torch.eye(2)})
    ...     load_tensors(path)
    {'weight': tensor([[1., 0.],
            [0., 1.]])}
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end with '.safetensors', got {str(path)!r}.")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        safetensors.torch.save_file(contiguous, draft, metadata=dict(metadata or {}))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read all tensors of a file.

    Parameters
    ----------
    path : str or path-like
        ``.safetensors``, or a file of ``torch.save`` (``.pt``, ``.pth``, ``.bin``) that holds a
        mapping of names to tensors and nothing else.

    Returns
    -------
    dict of str to tensor
        On the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds anything but named tensors: nothing in it is executed.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from sklearn_ext.neural import load_tensors, save_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.safetensors"
    ...     save_tensors(path, {"weight": torch.eye(2)})
    ...     list(load_tensors(path))
    ['weight']
    """
    return dict(LazyTensors(path).items())


class LazyTensors(Mapping):
    """The tensors of a file as a mapping that reads each when it is asked for.

    The file is mapped into memory: pages that are not in use can be reclaimed, so that many files
    can be open at once.

    Parameters
    ----------
    path : str or path-like
        As for :func:`load_tensors`, with the same errors.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from sklearn_ext.neural import LazyTensors, save_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.safetensors"
    ...     save_tensors(path, {"weight": torch.eye(2)})
    ...     LazyTensors(path)["weight"].shape
    torch.Size([2, 2])
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if self.path.suffix not in _SUFFIXES:
            raise ValueError(f"path must end with one of {_SUFFIXES}, got {str(path)!r}.")
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file {str(self.path)!r}.")
        try:
            self._open()
        except Exception as error:
            raise ValueError(
                f"{str(self.path)!r} is not a readable file of named tensors; "
                "nothing in it was executed."
            ) from error

    def _open(self):
        if self.path.suffix == ".safetensors":
            file = safetensors.safe_open(self.path, framework="pt", device="cpu")
            self._names = list(file.keys())
            self._read = file.get_tensor
            return
        tensors = torch.load(self.path, map_location="cpu", mmap=True, weights_only=True)
        if not isinstance(tensors, Mapping) or not all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor)
            for name, tensor in tensors.items()
        ):
            raise ValueError(f"it holds a {type(tensors).__name__}, not names and tensors.")
        self._names = list(tensors)
        self._read = tensors.__getitem__

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
