"""Errors of coefficients, relative to their size."""

import numpy as np

from ....utils._typing import FloatArray
from .._engine import EngineArray, IllConditionedError, RidgeEngine
from .._ridge import EPSILON

# Estimated error, relative to the largest coefficient, at which a matrix is factored again.
_TOLERANCE = 1e-12


def accumulated(error: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Add the rounding error of an update to the estimated error of coefficients.

    The error is proportional to the coefficients `before`, of shape (n, k), and one target that
    dwarfs all others makes them so large that those `after` have no correct digits.

    Returns
    -------
    ndarray of shape (k,)

    Raises
    ------
    IllConditionedError
        If the error is too large for the coefficients `after`.
    """
    error = error + EPSILON * abs(before).max(axis=0)
    if not (error <= _TOLERANCE * abs(after).max(axis=0, initial=0.0)).all():
        raise IllConditionedError("An update would lose too much precision.")
    return error


def relative_size(engine: RidgeEngine, change: EngineArray, reference: EngineArray) -> FloatArray:
    """Return the square roots of the quotients of two squared norms per column.

    A column whose reference is zero, because its targets are zero, has a size of zero.
    """
    above, below = engine.to_numpy(change), engine.to_numpy(reference)
    return np.sqrt(np.divide(above, below, out=np.zeros(len(below)), where=below > 0.0).clip(0.0))
