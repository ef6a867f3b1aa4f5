"""Randomness for torch that leaves its global generators as they were."""

import contextlib
import threading
from collections.abc import Iterator

import torch

_one_at_a_time = threading.RLock()  # the threads of a process share torch's global generators


def torch_generator(seed: int, device: torch.device | str | None = None) -> torch.Generator:
    """Return a private torch generator."""
    generator = torch.Generator(device="cpu" if device is None else device)
    generator.manual_seed(seed)
    return generator


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Seed torch inside a ``with`` block, and restore its global generators after it.

    For what can draw from the global generators only: the initialisation of modules, dropout,
    the shuffling of a user's data loader. Other threads wait before a block of their own.

    Parameters
    ----------
    seed : int
    device : torch.device, str or None
        Device whose generator is seeded beside the one of the CPU.
    """
    generators = _global_generators(torch.device("cpu" if device is None else device))
    with _one_at_a_time:
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def _global_generators(device):
    """Return what modules on a device draw from: the CPU's generator, and the device's own."""
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return [torch.default_generator, torch.cuda.default_generators[index]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]
