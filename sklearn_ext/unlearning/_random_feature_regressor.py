"""Regression on random features that forgets rows exactly."""

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, validate_data

from ..utils._atomic import atomic_fit
from ..utils._magnitudes import check_magnitude
from ._random_feature_base import BaseRandomFeature, checked_magnitude


class RandomFeatureRegressor(MultiOutputMixin, RegressorMixin, BaseRandomFeature):
    r"""Kernel ridge regression on random features that forgets rows exactly.

    After :meth:`forget` the coefficients are, up to rounding, those of a fit that never saw the
    rows, at a small part of its cost. They minimise
    :math:`\sum_i s_i (w^T z(x_i) - y_i)^2 + \alpha\lVert w \rVert^2`, with weights s of rows and
    features z of the Gaussian kernel that do not depend on the rows.

    Parameters
    ----------
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

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_out,) or (n_outputs, n_features_out)
        Coefficients of the features.
    intercept_ : float or ndarray of shape (n_outputs,)
        Coefficients of the constant feature.
    dual_coef_ : ndarray of shape (n_retained_,) or (n_retained_, n_outputs)
        Dual coefficients of the retained rows. Exists with the dual solver only.
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
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X has names.

    See Also
    --------
    RandomFeatureClassifier : The same for labels.
    sklearn.kernel_ridge.KernelRidge : The exact kernel; cannot forget.

    Notes
    -----
    For n rows, p features and m rows to forget, the dual solver fits in
    :math:`O(n^2 p + n^3)` and forgets in :math:`O(n^2 m + n p)`; the primal one fits in
    :math:`O(n p^2 + p^3)` and forgets in :math:`O(p^2 m)`.

    Exact means equal in exact arithmetic; in float64 the coefficients agree with those of a new
    fit to about 1e-11. That is no certificate of deletion: a residue of rounding remains, and
    so do copies of the model that were made before.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ext import RandomFeatureRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = RandomFeatureRegressor(500, gamma=30.0, random_state=0).fit(X, y)
    >>> model.forget([3, 8, 200]).n_retained_
    439
    >>> retrained = clone(model).fit(X[model.retained_], y[model.retained_])
    >>> bool(np.allclose(model.coef_, retrained.coef_, rtol=1e-9, atol=1e-9))
    True
    """

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the coefficients.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight k counts like k copies, one of weight zero like none.

        Returns
        -------
        self : RandomFeatureRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or of the wrong shape, if a parameter is out of range, if
            `alpha` is too small for the rows, or if the dual solver may not keep them.
        """
        X, y = self._validated_pair(X, y, reset=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self._is_flat = y.ndim == 1
        self._fit_rows(X, y.reshape(len(y), -1), weights)
        return self

    @atomic_fit
    def learn(self, X, y, sample_weight=None):
        """Learn further rows, as if they had been there from the start.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Rows.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.

        Returns
        -------
        self : RandomFeatureRegressor
            The model with the rows; their indices follow those of the rows before.

        Raises
        ------
        NotFittedError
            If there is no model.
        ValueError
            If the input is not finite or of the wrong shape.
        """
        added, kept = self._given(X, y, sample_weight)
        self._learn_rows(added, kept, self._solution, self._rows)
        return self

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._public(self._values(X))

    def _validated_pair(self, X, y, reset):
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=np.float64,
            order="C",
            multi_output=True,
            y_numeric=True,
            reset=reset,
        )
        y = y.astype(np.float64)
        check_magnitude(y)
        return checked_magnitude(X), y

    def _targets(self, X, y):
        X, y = self._validated_pair(X, y, reset=False)
        Y = y.reshape(len(y), -1)
        n_outputs = self._solution.coef.shape[1]
        if Y.shape[1] != n_outputs:
            raise ValueError(f"y must have {n_outputs} outputs as in fit, got {Y.shape[1]}.")
        return X, Y

    def _public(self, values):
        return values[:, 0] if self._is_flat else values
