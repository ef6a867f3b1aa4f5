"""Devices, arrays on them, and torch generators that leave the global ones unchanged."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..utils._typing import FloatArray


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the torch device that a `device` parameter specifies.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None
        None means the CPU. "auto" means the first of CUDA, MPS and the CPU that is available.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch does not support the device, or it is not available on this machine.

    Examples
    --------
    >>> from sklearn_ext.neural import resolve_device
    >>> resolve_device(None)
    device(type='cpu')
    """
    if device is None:
        return torch.device("cpu")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            "device must be None, 'auto', or a device known to torch such as 'cpu', 'cuda', "
            f"'cuda:1' or 'mps', got {device!r}."
        ) from error
    present = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    is_cuda = resolved.type == "cuda"
    if (f"cuda:{resolved.index or 0}" if is_cuda else resolved.type) not in present:
        raise ValueError(f"device={device!r} is not available. Available devices: {present}.")
    return resolved


class TorchArrays:
    """Tensors of one type on one device; `NumpyArrays` in ``utils`` is the counterpart for numpy.

    Parameters
    ----------
    device : torch.device or str
    dtype : torch.dtype, default=torch.float64
    """

    def __init__(self, device: torch.device | str, dtype: torch.dtype = torch.float64) -> None:
        self.array_device = torch.device(device)
        self.dtype = dtype

    def asarray(self, x: Any) -> torch.Tensor:
        """Return the values as a tensor, without a copy where possible."""
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # torch warns about read-only memory
        return torch.as_tensor(x).to(device=self.array_device, dtype=self.dtype)

    def to_numpy(self, x: torch.Tensor) -> FloatArray:
        """Return a tensor as an ndarray of float64."""
        return x.detach().to(device="cpu", dtype=torch.float64).numpy()

    def zeros(self, *shape: int) -> torch.Tensor:
        """Return a tensor of zeros."""
        return torch.zeros(shape, device=self.array_device, dtype=self.dtype)

    def vstack(self, *blocks: torch.Tensor) -> torch.Tensor:
        """Return the rows of all blocks in one tensor."""
        return torch.cat(blocks)


PRECISIONS = ("full", "bf16")


def mixed_precision(
    precision: str, device: torch.device | str | None
) -> contextlib.AbstractContextManager[Any]:
    """Return a context for forward passes in the given precision, one of `PRECISIONS`."""
    if precision == "full":
        return contextlib.nullcontext()
    return torch.autocast(resolve_device(device).type, dtype=torch.bfloat16)


_lock = threading.RLock()  # the threads of a process share torch's global generators


def torch_generator(seed: int, device: torch.device | str | None = None) -> torch.Generator:
    """Return a new torch generator with the given seed."""
    generator = torch.Generator(device="cpu" if device is None else device)
    generator.manual_seed(seed)
    return generator


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Seed torch inside a ``with`` block, and restore its global generators afterwards.

    Use it for operations that can draw from the global generators only, such as the initialization
    of modules, dropout, and the shuffling of a data loader. Only one thread can be in such a block
    at a time; the others wait.

    Parameters
    ----------
    seed : int
    device : torch.device, str or None
        Device whose generator is seeded in addition to the CPU's.
    """
    generators = _global_generators(resolve_device(device))
    with _lock:
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def _global_generators(device: torch.device) -> list[torch.Generator]:
    """Return the generators for modules on a device: the CPU's, and the device's own."""
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return [torch.default_generator, torch.cuda.default_generators[index]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]
