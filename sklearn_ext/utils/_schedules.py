"""Cosine decay of learning rates and other quantities."""

import math


def cosine_decay(step: int, total_steps: int, *, warmup: int = 0, floor: float = 0.0) -> float:
    """Compute the decay factor at a step: a linear warm-up, then half a cosine.

    The factor is ``(t + 1) / warmup`` for the first `warmup` steps and
    ``floor + (1 - floor) * (1 + cos(pi * (t - warmup) / (total_steps - warmup))) / 2`` after that.

    Parameters
    ----------
    step : int
        Number of steps done, starting at 0.
    total_steps : int
        Number of steps in the whole schedule, including the warm-up.
    warmup : int, default=0
        Number of warm-up steps.
    floor : float, default=0
        Value of the factor at `total_steps`.

    Returns
    -------
    float
    """
    if step < warmup:
        return (step + 1) / warmup
    length = max(total_steps - warmup, 1)
    angle = math.pi * min(step - warmup, length) / length
    return floor + (1 - floor) * (1 + math.cos(angle)) / 2
