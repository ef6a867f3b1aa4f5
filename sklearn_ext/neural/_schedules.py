import math


def cosine_decay(step: int, n_steps: int, *, warmup: int = 0, floor: float = 0.0) -> float:
    """Factor of the learning rate at a step: a linear rise, then half a cosine.

    ``(t + 1) / warmup`` for the first `warmup` steps, then
    ``floor + (1 - floor) * (1 + cos(pi * (t - warmup) / (n_steps - warmup))) / 2``.

    Parameters
    ----------
    step : int
        Number of steps done, from 0.
    n_steps : int
    warmup : int, default=0
    floor : float, default=0
        Value that the cosine would reach at `n_steps`.

    Returns
    -------
    float
    """
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(n_steps - warmup, 1)
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
