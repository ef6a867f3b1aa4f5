"""Files of named tensors, written as safetensors and read without executing any code."""

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ._drafts import replacing
from ._sources import open_source

_CHECKSUM = "sklearn_ext.sha256"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors to a safetensors file, replacing an existing one atomically.

    The header of the file also contains a checksum of tensors and metadata, which
    :func:`load_tensors` verifies.

    Parameters
    ----------
    path : str or path-like
        File name that ends with ``.safetensors``.
    tensors : mapping of str to tensor
        Tensors that share memory are stored once for each name.
    metadata : mapping of str to str or None, default=None
        Text stored in the header of the file.

    Raises
    ------
    ValueError
        If `path` has another suffix, or safetensors cannot store the type of a tensor.

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
    with replacing(path) as file:
        write_tensors(file, tensors, {} if metadata is None else metadata)


def load_tensors(path: str | os.PathLike, *, key: str | None = None) -> dict[str, torch.Tensor]:
    """Read all tensors of a file or folder into memory.

    Parameters
    ----------
    path : str or path-like
        A source of weights as for :class:`LazyTensors`.
    key : str or None, default=None
        Name of the entry with the weights, as for :class:`LazyTensors`.

    Returns
    -------
    dict of str to tensor
        All tensors by name, on the CPU.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or contains no named tensors. No code in it is executed.

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
    lazy = LazyTensors(path, key=key)
    lazy.verify()
    return dict(lazy.items())


def read_file(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file that :func:`save_tensors` wrote.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or its checksum is missing.
    """
    lazy = LazyTensors(path)
    _verify(lazy)
    return dict(lazy.items()), {
        name: text for name, text in lazy.metadata.items() if name != _CHECKSUM
    }


class LazyTensors(Mapping[str, torch.Tensor]):
    """Mapping of names to the tensors of a file or folder, each read on access.

    Files are mapped into memory: the operating system can reclaim pages that are not in use, so
    many files can be open at once.

    Parameters
    ----------
    path : str or path-like
        A ``.safetensors`` file; a file from ``torch.save`` (``.pt``, ``.pth``, ``.bin``, ``.ckpt``)
        with named tensors, or with a training checkpoint that contains them; an index of such
        files (``.index.json``); or a folder with one of these, such as a checkpoint of the Hugging
        Face libraries.
    key : str or None, default=None
        Name of the entry of a training checkpoint that contains the weights; dots separate nested
        names. None takes the first of "model", "state_dict", "model_state_dict", "module" and
        "ema" that the checkpoint has. It must be None for a safetensors file.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
        Text in the header of a safetensors file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or contains no named tensors, or if an index names a file outside
        its folder. No code in a file is executed.

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

    def __init__(self, path: str | os.PathLike, *, key: str | None = None) -> None:
        self.path = Path(path)
        self._readers, self.metadata = open_source(self.path, key)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._readers[name](name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def verify(self) -> None:
        """Read all tensors once, and compare them with the checksum of :func:`save_tensors`.

        Files of other programs have no checksum, and are not read.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        # A name that resembles that of the checksum is this name with damaged bytes.
        if difflib.get_close_matches(_CHECKSUM, self.metadata, cutoff=0.7):
            _verify(self)


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write the format of safetensors: the size of the header, the header, and the tensors.

    The writer of the safetensors library would leave a temporary file behind if the process were
    killed.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksum = _checksum(tensors, metadata)
    header: dict[str, Any] = {"__metadata__": {**metadata, _CHECKSUM: checksum}}
    begin = 0
    # Wider types come first, so that all tensors are aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _DTYPES:
            raise ValueError(
                f"The type of the tensor {name!r} must be one of {[*_DTYPES]}, got {tensor.dtype}."
            )
        end = begin + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    for name in order:
        file.write(bytes_of(tensors[name]))


def bytes_of(tensor: torch.Tensor) -> Any:
    """Return the bytes of a contiguous tensor on the CPU, without a copy."""
    # The stride of a tensor with one entry may be 0, which is refused by the view as bytes.
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy().data


def _verify(lazy: LazyTensors) -> None:
    others = {name: text for name, text in lazy.metadata.items() if name != _CHECKSUM}
    if lazy.metadata.get(_CHECKSUM) != _checksum(lazy, others):
        raise ValueError(
            f"{str(lazy.path)!r} is damaged or was written by another program: its content does "
            f"not have the checksum {_CHECKSUM!r} in its header."
        )


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()
