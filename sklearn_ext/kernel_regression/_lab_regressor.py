"""Kernel ridgeless regression with locally adaptive bandwidths."""

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._rows import merge_duplicate_rows
from ..utils._validation import check_magnitude
from ._lab_base import BaseLAB, callback_arguments
from ._lab_docs import with_common_docs


@with_common_docs
class LABRidgelessRegressor(MultiOutputMixin, RegressorMixin, BaseLAB):
    r"""Kernel ridgeless regression with locally adaptive bandwidths (LAB RBF).

    A kernel machine on few support points, each with bandwidths of its own for every feature.
    Its coefficients interpolate the targets of the support points; the bandwidths (and those
    targets) are learned by gradient descent on the squared error over all rows.

    Parameters
    ----------
    {parameters}

    {computing}

    Attributes
    ----------
    {support}

    support_targets_ : ndarray of shape (n_support_,) or (n_support_, n_outputs)
        The targets that they interpolate, up to ``alpha_`` times their coefficients.

    bandwidths_ : ndarray of shape (n_support_, n_features)
        Learned bandwidths, per squared unit of the feature (per unit for the laplacian kernel).

    dual_coef_ : ndarray of shape (n_support_,) or (n_support_, n_outputs)
        Coefficients of the kernel expansion.

    intercept_ : float or ndarray of shape (n_outputs,)
        Mean of the targets.

    {machine}

    loss_curve_ : ndarray of shape (n_iter_,)
        Squared error of every step's batch, in units of the variance of y, summed over outputs.

    n_iter_ : int
        Number of training steps.

    {input_facts}

    See Also
    --------
    LABRidgelessClassifier : The same for class labels.
    sklearn.kernel_ridge.KernelRidge : One fixed kernel, all rows as support points.

    Notes
    -----
    One step costs :math:`O((p + m) m d + m^3)` for batch size p, m support points and d features,
    whatever the number of rows. Far from all support points the kernel vanishes and the
    prediction returns to the intercept.

    Duplicate rows are merged, so weights of rows mean the same as copies of them.

    References
    ----------
    .. [1] F. He, M. He, L. Shi, X. Huang, J. Suykens, "Enhancing Kernel Flexibility via Learning
       Asymmetric Locally-Adaptive Kernels", arXiv:2310.05236, 2023.
    .. [2] F. He, M. He, L. Shi, X. Huang, J. Suykens, "Learning Analysis of Kernel Ridgeless
       Regression with Asymmetric Kernel Learning", arXiv:2406.01435, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import LABRidgelessRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-3, 3, size=(400, 3))
    >>> y = np.sin(3 * X[:, 0]) + 0.1 * X[:, 1]  # the third feature is noise
    >>> model = LABRidgelessRegressor(n_support=50, max_iter=300, random_state=0).fit(X, y)
    >>> model.n_support_
    50
    >>> bool(model.score(X, y) > 0.95)
    True
    >>> int(model.feature_importances_.argmax())
    0
    """

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Learn support points, their targets and their bandwidths.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the outer loss. A row of weight k counts like k copies.

        Returns
        -------
        self : LABRidgelessRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or of the wrong shape, if a parameter is out of range, or
            if training diverges.
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        check_magnitude(y, X.dtype)
        Y = y.astype(np.float64).reshape(len(y), -1)

        def finish(attributes):
            if y.ndim == 1:
                attributes["support_targets_"] = attributes["support_targets_"][:, 0]
                attributes["dual_coef_"] = attributes["dual_coef_"][:, 0]
                attributes["intercept_"] = float(attributes["intercept_"][0])
            return attributes

        rows, weights = merge_duplicate_rows(X, Y, weights)
        fitted = self._fit_expansion(
            X,
            Y,
            rows,
            weights,
            local_random_state(self.random_state),
            scale_targets=True,
            finish=finish,
            callback_data=callback_arguments(X, y, sample_weight),
        )
        vars(self).update(fitted)
        return self

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in float32 if X is float32, else in float64.
        """
        check_is_fitted(self, "dual_coef_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        values = self._expand(X, vars(self))
        return values[:, 0] if np.ndim(self.intercept_) == 0 else values
