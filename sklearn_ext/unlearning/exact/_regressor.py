"""Regression on random features that forgets rows exactly."""

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, validate_data

from ...utils._atomic import atomic_fit
from ...utils._validation import check_magnitude
from ._base import BaseRandomFeature, checked_magnitude
from ._docs import with_random_feature_docs


@with_random_feature_docs
class RandomFeatureRegressor(MultiOutputMixin, RegressorMixin, BaseRandomFeature):
    r"""Kernel ridge regression on random features that forgets rows exactly.

    After :meth:`forget` the coefficients are, up to rounding, those of a fit that never saw the
    rows, at a small part of its cost. They minimise
    :math:`\sum_i s_i (w^T z(x_i) - y_i)^2 + \alpha\lVert w \rVert^2`, with weights s of rows and
    features z of the Gaussian kernel that do not depend on the rows.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    coef_ : ndarray of shape (n_features_out,) or (n_outputs, n_features_out)
        Coefficients of the features.
    intercept_ : float or ndarray of shape (n_outputs,)
        Coefficients of the constant feature.
    dual_coef_ : ndarray of shape (n_retained_,) or (n_retained_, n_outputs)
        Dual coefficients of the retained rows. Exists with the dual solver only.
    {state}
    {input_facts}

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
