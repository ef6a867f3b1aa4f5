"""Parts that the docstrings of the regressor and of the classifier have in common."""

from ...utils._shared_docs import INPUT_FACTS, with_shared_docs

with_random_feature_docs = with_shared_docs(
    {
        "parameters": r"""
    n_components : int, default=1000
        Number of random frequencies; each gives a cosine and a sine.
    gamma : float or "auto", default="auto"
        Width of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`. "auto" is ``1 /
        n_features``. A width computed from the rows would remember them; so would a scaler.
    alpha : float, default=1e-2
        Ridge, on the *sum* of squared errors; it applies to the intercept too. 1e-8 is practically
        the interpolation of least norm.
    feature_map : transformer, "identity" or None, default=None
        Features in place of the random ones: a transformer that does not depend on the rows, or
        the columns of X themselves, which makes plain ridge regression forget. A transformer that
        is not fitted is cloned and fitted to X; one that learns from X voids exactness.
    fit_intercept : bool, default=True
        Whether there is a constant feature.
    solver : {"auto", "dual", "primal"}, default="auto"
        "dual" works with a matrix between rows, "primal" with one between features; "auto" takes
        the smaller one. The other one loses digits where `alpha` is small.
    store : bool, "features" or "auto", default="auto"
        Whether the training rows are kept, so that they can be named by index. "features" keeps
        their features instead, which takes more memory and saves their computation in every
        request. "auto" keeps nothing for the primal solver; for the dual one, which needs rows
        or features, features if they are at most twice as many as rows.
    refresh_fraction : float, default=0.5
        When more than this share of the rows of the last factorisation has changed, the matrix is
        factored anew, so that rounding errors cannot pile up.
    device : str, torch.device or None, default=None
        None computes with NumPy and SciPy on the CPU; the name of a device with float64, or
        "auto", computes there with torch.
    random_state : int, RandomState instance or None, default=None
        Seed of the frequencies.
""",
        "state": """
    random_weights_ : ndarray of shape (n_features, n_components) or None
        Frequencies; None with `feature_map`.
    feature_map_ : transformer or None
        The fitted `feature_map`.
    retained_ : ndarray of bool of shape (n_rows,) or None
        Which of the rows given so far are in the model; rows of weight zero are not. None where
        no rows are kept.
    n_retained_ : int
        Number of rows in the model.
    solver_ : {"dual", "primal"}
        Solver in use.
    refitted_ : bool
        Whether the last call of `forget` or `learn` factored anew instead of updating, because
        much had changed or an update would have lost digits.
""",
        "input_facts": INPUT_FACTS,
    }
)
