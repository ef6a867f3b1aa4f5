"""Checks of parameters and data that several estimators share."""

import numpy as np

_MARGIN = 1e3  # sums of squares must fit, too


def check_magnitude(values, dtype=np.float64, *, name="y"):
    """Refuse values whose squares the arithmetic cannot hold.

    Parameters
    ----------
    values : ndarray
    dtype : dtype, default=float64
        Type of the arithmetic.
    name : str, default="y"

    Raises
    ------
    ValueError
        If the largest absolute value is too large.
    """
    limit = np.sqrt(np.finfo(dtype).max) / _MARGIN
    largest = np.abs(values).max(initial=0.0)
    if largest > limit:
        raise ValueError(
            f"{name} must have absolute values below {limit:.0e}, whose squares fit into "
            f"{np.dtype(dtype).name}, got {largest:.3g}; rescale it."
        )


def computes_with_numba(engine, device):
    """Whether `engine` and `device` mean numba on the CPU rather than torch.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        "auto" is numba on the CPU and torch on any other device.
    device : str, torch.device or None

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If numba is asked for on a device that is not the CPU.
    """
    on_cpu = device is None or str(device) == "cpu"
    if engine == "numba" and not on_cpu:
        raise ValueError(
            f"engine='numba' computes on the CPU only, got device={device!r}; "
            "use engine='torch' or device=None."
        )
    return engine == "numba" or (engine == "auto" and on_cpu)
