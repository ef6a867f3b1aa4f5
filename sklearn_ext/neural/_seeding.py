"""Randomness for torch that leaves its global generators as they were."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from ..utils._random import local_random_state

_SEED_BOUND = 2**31 - 1


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Draw an integer seed, never from the global state of ``np.random``.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        An integer gives the same seed each time, None another one each time.

    Returns
    -------
    int
    """
    return int(local_random_state(random_state).randint(_SEED_BOUND))


def torch_generator(seed: int, device: torch.device | str | None = None) -> torch.Generator:
    """Return a private torch generator."""
    generator = torch.Generator(device="cpu" if device is None else device)
    generator.manual_seed(seed)
    return generator


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Seed torch inside a ``with`` block, and restore its global generators after it.

    For what can draw from the global generators only: the initialisation of modules, dropout,
    the shuffling of a user's data loader.

    Parameters
    ----------
    seed : int
    device : torch.device, str or None
        Device whose generator is seeded beside the one of the CPU.
    """
    device = torch.device("cpu" if device is None else device)
    devices = [] if device.type == "cpu" else [device.index or 0]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=devices, device_type=kind):
        torch.manual_seed(seed)
        yield
