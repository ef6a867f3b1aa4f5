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
