"""Files of tensors: safetensors files, and torch files read without executing any code."""

import os
from collections.abc import Callable, Iterator, Mapping
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
    """Write named tensors to a safetensors file, replacing an existing one atomically.

    Parameters
    ----------
    path : str or path-like
        File name that ends with ``.safetensors``.
    tensors : mapping of str to tensor
    metadata : mapping of str to str or None, default=None
        Text stored in the header of the file.

    Raises
    ------
    ValueError
        If `path` has another suffix.

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
    header = {} if metadata is None else dict(metadata)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        safetensors.torch.save_file(contiguous, draft, metadata=header)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read all tensors of a file into memory.

    Parameters
    ----------
    path : str or path-like
        A ``.safetensors`` file, or a file from ``torch.save`` (``.pt``, ``.pth``, ``.bin``) that
        contains a mapping of names to tensors and nothing else.

    Returns
    -------
    dict of str to tensor
        The tensors, on the CPU.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or contains anything but named tensors. No code in it is executed.

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


class LazyTensors(Mapping[str, torch.Tensor]):
    """Mapping of names to the tensors of a file, each read on access.

    The file is mapped into memory: the operating system can reclaim pages that are not in use, so
    many files can be open at once.

    Parameters
    ----------
    path : str or path-like
        A file as for :func:`load_tensors`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or contains anything but named tensors. No code in it is executed.

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

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if self.path.suffix not in _SUFFIXES:
            raise ValueError(f"path must end with one of {_SUFFIXES}, got {str(path)!r}.")
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file {str(self.path)!r}.")
        try:
            self._names, self._read = _open(self.path)
        except Exception as error:
            raise ValueError(
                f"{str(self.path)!r} is not a readable file of named tensors; "
                "no code in it was executed."
            ) from error

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _open(path: Path) -> tuple[list[str], Callable[[str], torch.Tensor]]:
    """Return the names of the tensors in a file and a function that reads one by name."""
    if path.suffix == ".safetensors":
        file = safetensors.safe_open(path, framework="pt", device="cpu")
        return list(file.keys()), file.get_tensor
    tensors = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in tensors.items()
    ):
        raise ValueError(f"The file contains a {type(tensors).__name__}, not named tensors.")
    return list(tensors), tensors.__getitem__
