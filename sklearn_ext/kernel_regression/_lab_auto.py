"""What the value "auto" of the LAB parameters means, in one place.

The rules were tuned on thirteen public regression sets, by means over splits and seeds; see
``benchmarks/lab_rbf_defaults.py``.
"""

from numbers import Integral

from ._leave_one_out import ALPHAS, leave_one_out_alpha

_N_ROWS = 500  # rows behind the ridge
_FREE_ALPHA = 0.03  # ridge up to which bandwidths are free


def resolve_n_support(n_support, n_rows):
    """Take a fifth of the rows, between 50 and 200, or what is asked for; at most all rows."""
    if n_support == "auto":
        n_support = min(200, max(50, n_rows // 5))
    elif not isinstance(n_support, Integral):
        n_support = max(1, round(n_support * n_rows))
    return min(n_support, n_rows)


def auto_batch_size(n_rows):
    """Take a fortieth of the rows, between 128 and 512."""
    return min(512, max(128, n_rows // 40))


def auto_support_dropout(n_support, n_features, n_rows):
    """Take a hundredth of the number of bandwidths per row, at most 0.1."""
    return min(0.1, 0.01 * n_support * n_features / n_rows)


def auto_alpha(engine, kernel, data, theta, rng):
    """Find the ridge that suits kernel ridge regression with bandwidth ``theta`` on few rows.

    Where rows are many, the outer loss over all of them averages noise out itself: the ridge
    shrinks with the share of the rows that were looked at.
    """
    rows = rng.permutation(len(data))[:_N_ROWS]
    points = engine.asarray(data.features(rows))
    K, _ = engine.kernel(kernel, points, points, 0.0 * points + theta)
    Y = data.Y[rows]
    alpha = leave_one_out_alpha(engine.to_numpy(K), Y - Y.mean(axis=0))
    return max(ALPHAS[0], alpha * len(rows) / len(data))


def auto_locality(alpha):
    """Leave bandwidths free unless there is noise: noisy rows cannot pay for many of them."""
    return 1.0 if alpha <= _FREE_ALPHA else _FREE_ALPHA / alpha
