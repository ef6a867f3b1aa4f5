import numpy as np
from sklearn.utils.validation import validate_data

_LARGEST_NDIM = 4  # (samples, channels, height, width)


def validate_input(estimator, X, y="no_validation", *, reset: bool):
    """Check X (and y) for a network: rows of features or images, dense and finite.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_`, and `feature_names_in_` where the columns of X have names; without
        `reset` X is checked against them and against the attribute `input_shape_`.
    X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
            (n_samples, channels, height, width)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default="no_validation"
    reset : bool
        Whether this is a fit.

    Returns
    -------
    ndarray of float32, or a pair of it and y

    Raises
    ------
    ValueError
        If the shape is another one, or an entry is missing, infinite or beyond float32.
    """
    checked = validate_data(
        estimator,
        X,
        y,
        reset=reset,
        dtype=np.float32,
        order="C",
        allow_nd=True,
        **({} if isinstance(y, str) else {"multi_output": True}),
    )
    X = checked if isinstance(y, str) else checked[0]
    if X.ndim > _LARGEST_NDIM:
        raise ValueError(f"X must have from 2 to {_LARGEST_NDIM} dimensions, got {X.ndim}.")
    if reset:
        estimator.input_shape_ = X.shape[1:]
    elif X.shape[1:] != estimator.input_shape_:
        raise ValueError(
            f"Each row of X must have shape {estimator.input_shape_} as in fit, got {X.shape[1:]}."
        )
    return checked
