"""Regression on random features that forgets samples exactly."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...utils._atomic import atomic_fit, working_copy
from ...utils._typing import Array, FloatArray
from ...utils._validation import check_magnitude, check_numbers, own_constructor
from ...utils.compat import FitTasks, with_callbacks
from ._base import BaseRandomFeature, checked_magnitude


@own_constructor
class RandomFeatureRegressor(MultiOutputMixin, RegressorMixin, BaseRandomFeature):
    r"""Kernel ridge regression on random features that forgets samples exactly.

    The coefficients w minimize
    :math:`\sum_i s_i (w^T z(x_i) - y_i)^2 + \alpha\lVert w \rVert^2` for sample weights s and
    features z of the Gaussian kernel that do not depend on the data. After :meth:`forget`, they
    equal, up to rounding, the coefficients of a fit without the forgotten samples, at a small
    fraction of its cost.

    Parameters
    ----------
    n_components : int, default=1000
        Number of random frequencies. Each yields two features, a cosine and a sine.
    gamma : float or "auto", default="auto"
        Coefficient of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`; "auto" means
        ``1 / n_features``. Do not estimate it, or a scaler, from samples that you may have to
        forget: both would retain information about them.
    alpha : float or array-like of float, default=1e-2
        Ridge penalty on the *sum* of squared errors. It applies to the intercept, too. With 1e-8,
        the model is practically the minimum-norm interpolant. Generalized cross-validation chooses
        one of several penalties, and chooses again after every request, so that the choice does not
        depend on forgotten samples either. Time of requests and memory grow with their number.
    feature_map : transformer, "identity" or None, default=None
        Features that replace the random ones: a transformer that does not depend on the training
        samples, or "identity" for the columns of X, which gives a plain ridge regression that
        forgets. An unfitted transformer is cloned and fitted to X. Forgetting is not exact if the
        transformer learns from X.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    solver : {"auto", "dual", "primal"}, default="auto"
        "dual" works with a matrix that has one row per sample, "primal" with one row per feature;
        "auto" chooses the smaller matrix.
    store : bool, "features" or "auto", default="auto"
        Whether the model stores its training samples, so that you can refer to them by index.
        "features" stores their features instead, which takes more memory but saves computing them
        in every request. "auto" stores nothing with the primal solver. The dual solver needs
        samples or features; "auto" then stores features if there are at most twice as many of
        them as samples.
    refresh_fraction : float, default=0.5
        Once more than this fraction of the samples in the last factorization has changed, the
        matrix is factored again, so that rounding errors cannot accumulate.
    device : str, torch.device or None, default=None
        None uses NumPy and SciPy on the CPU. The name of a device that supports float64, or "auto",
        uses torch on that device.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing the frequencies.

    Attributes
    ----------
    feature_coef_ : ndarray of shape (n_features_out,) or (n_outputs, n_features_out)
        Coefficients of the features.
    intercept_ : float or ndarray of shape (n_outputs,)
        Coefficients of the constant feature.
    alpha_ : float
        The ridge penalty in use.
    dual_coef_ : ndarray of shape (n_retained_,) or (n_retained_, n_outputs)
        Dual coefficients of the retained samples. Only with the dual solver.
    random_weights_ : ndarray of shape (n_features, n_components) or None
        Frequencies; None if `feature_map` is given.
    feature_map_ : transformer or None
        The fitted `feature_map`.
    retained_ : ndarray of bool of shape (n_seen,) or None
        Mask of the samples given to `fit` and `learn`: True for samples in the model, False for
        forgotten samples and those of weight zero. None if the model stores no samples.
    n_retained_ : int
        Number of samples in the model.
    solver_ : {"dual", "primal"}
        Solver in use.
    refitted_ : bool
        Whether the last call to `forget` or `learn` factored the matrix again instead of updating
        it, because much had changed or an update would have lost precision.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    RandomFeatureClassifier : The same model for class labels.
    sklearn.kernel_ridge.KernelRidge : Ridge regression on the exact kernel; it cannot forget.

    Notes
    -----
    With n samples, p features and m samples to forget, the dual solver takes
    :math:`O(n^2 p + n^3)` operations to fit and :math:`O(n^2 m + n p)` to forget; the primal
    solver takes :math:`O(n p^2 + p^3)` to fit and :math:`O(p^2 m)` to forget.

    "Exact" means equal in exact arithmetic. In float64, the predictions agree with those of a new
    fit to 1e-9 of their size, and usually to 1e-11, even after outliers were forgotten (a target of
    1e12, a weight of 1e14). If `alpha` is tiny beside the features, this takes corrections that are
    computed from the samples [3]_; a request to a model that stores none issues a warning.
    Exactness does not certify deletion: rounding errors remain, and so do copies of the model that
    were made before.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007.
    .. [3] Å. Björck, "Numerical Methods for Least Squares Problems", SIAM 1996, section 6.6.5.

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
    >>> bool(np.allclose(model.feature_coef_, retrained.feature_coef_, rtol=1e-9, atol=1e-9))
    True
    """

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A weight of k has the effect of k copies.

        Returns
        -------
        self : RandomFeatureRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or has the wrong shape, if a parameter is out of range, if
            `alpha` is too small for the samples, or if `store` is False with the dual solver.
        """
        X, Y = self._validated_pair(X, y, reset=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self._is_flat = Y.ndim == 1
        tasks = FitTasks(self, None, X, Y, sample_weight)
        return self._fit_targets(X, self._target_columns(Y), weights, tasks)

    def learn(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn more samples, as if they had been given to `fit`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_new, n_features)
            New samples.
        y : array-like of shape (n_new,) or (n_new, n_outputs)
            Targets of the new samples.
        sample_weight : array-like of shape (n_new,), default=None
            Weights of the new samples.

        Returns
        -------
        self : RandomFeatureRegressor
            The model with the new samples, whose indices follow those of the earlier ones.

        Raises
        ------
        NotFittedError
            If the model is unfitted.
        ValueError
            If the input is not finite or has the wrong shape.
        """
        check_is_fitted(self)
        self._become(self._learning(X, y, sample_weight))
        return self

    def predict(self, X: Any) -> FloatArray:
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._outputs(self._values(X))

    def _learning(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        added, kept = self._checked_samples(X, y, sample_weight)
        return working_copy(self)._learn_targets(added, kept, self._solution, self._samples)

    def _validated_pair(self, X: Any, y: ArrayLike | None, reset: bool) -> tuple[Any, FloatArray]:
        if y is not None:
            check_numbers(y)
        X, Y = validate_data(
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
        Y = Y.astype(np.float64)
        check_magnitude(Y)
        return checked_magnitude(X), Y

    def _validated_targets(self, X: Any, y: ArrayLike | None) -> tuple[Any, FloatArray]:
        X, Y = self._validated_pair(X, y, reset=False)
        Y = self._target_columns(Y)
        n_outputs = self._solution.coef.shape[1]
        if Y.shape[1] != n_outputs:
            raise ValueError(f"y must have {n_outputs} outputs as in fit, got {Y.shape[1]}.")
        return X, Y

    def _target_columns(self, y: Array) -> FloatArray:
        return y.astype(np.float64, copy=False).reshape(len(y), -1)

    def _outputs(self, values: FloatArray) -> FloatArray:
        return values[:, 0] if self._is_flat else values
