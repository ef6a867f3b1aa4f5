"""Kernel ridgeless regression with locally adaptive bandwidths."""

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..utils._atomic import atomic_fit
from ..utils._magnitudes import check_magnitude
from ..utils._random import local_random_state
from ..utils._rows import merge_duplicate_rows
from ._lab_base import BaseLAB, callback_arguments


class LABRidgelessRegressor(MultiOutputMixin, RegressorMixin, BaseLAB):
    r"""Kernel ridgeless regression with locally adaptive bandwidths (LAB RBF).

    A kernel machine on few support points, each with bandwidths of its own for every feature.
    Its coefficients interpolate the targets of the support points; the bandwidths (and those
    targets) are learned by gradient descent on the squared error over all rows.

    Parameters
    ----------
    n_support : int, float in (0, 1) or "auto", default="auto"
        Number of support points, or their share of the distinct training rows. "auto" is a fifth
        of the rows, at least 50 and at most 200. Never more than there are distinct rows.

    kernel : {"exponential", "laplacian", "rbf"}, default="laplacian"
        Form of the kernel. With bandwidths :math:`b_{ik}` (``bandwidths_``) it is
        :math:`\exp(-\sqrt{\sum_k b_{ik} (x_k - c_{ik})^2})`,
        :math:`\exp(-\sum_k b_{ik} |x_k - c_{ik}|)` or
        :math:`\exp(-\sum_k b_{ik} (x_k - c_{ik})^2)`.

    gamma : float or "median", default="median"
        Bandwidth to begin with, for standardised features. "median" makes the median exponent
        between random rows equal to 4.

    locality : float in [0, 1] or "auto", default="auto"
        How far the bandwidths of one support point may go from those that all share. 1 leaves
        them free, 0 ties them together; between, deviations decay at ``1 / locality - 1`` times
        the learning rate. "auto" is 1 up to a ridge of 0.03, and ``0.03 / alpha_`` above: noisy
        data cannot afford many free bandwidths.

    support_dropout : float in [0, 1) or "auto", default="auto"
        Share of the support points that a training step leaves out, drawn anew every time. It
        keeps bandwidths from fitting noise. "auto" is a hundredth of the number of bandwidths
        per row, at most 0.1.

    learn_targets : bool, default=True
        Whether the targets that the support points interpolate are learned, beginning at the
        data. False keeps the data, as in the paper.

    alpha : float, "auto" or "learn", default="auto"
        Ridge of the interpolation. "auto" takes the best of kernel ridge regression with the
        first bandwidths, by the leave-one-out error on at most 500 rows, times the share that
        these are of all rows, and at least 1e-3. "learn" trains it along, beginning at 1e-3.

    growth : {"random", "error", "error_sampled"} or None, default="random"
        How support points are added to the first third: at random, those of largest absolute
        error, or drawn with odds proportional to it. None starts with all of them, at random.

    n_warmup : int, default=300
        Steps on bandwidths that all support points share.

    n_growth_stages : int, default=5
        Number of times that support points are added.

    growth_iter : int, default=100
        Steps before each time.

    max_iter : int, default=2000
        Steps with all support points, while the learning rate decays to one percent.

    batch_size : int or "auto", default="auto"
        Rows in a step. "auto" is a fortieth of the rows, at least 128 and at most 512.

    learning_rate : float, default=1e-2
        Step length of Adam on the bandwidths, and on ``log(alpha)`` when that is learned.

    target_learning_rate : float, default=1e-3
        Step length of Adam on the targets. Slow targets fit less of the noise.

    beta_2 : float in [0, 1), default=0.98
        Decay of Adam's second moment.

    standardize : bool, default=True
        Whether features are brought to mean 0 and variance 1 during training. Fitted attributes
        are in the units of the input all the same.

    engine : {"auto", "numba", "torch"}, default="auto"
        What does the arithmetic. "auto" is numba on the CPU, else torch.

    device : str, torch.device or None, default=None
        Where the torch engine works: "cpu", "cuda", "mps", or "auto" for the best there is.
        None is the CPU.

    random_state : int, RandomState instance or None, default=None
        Seed of the choice of support points and of the batches. The same seed gives the same
        model on any number of threads and for any order of the rows.

    warm_start : bool, default=False
        Whether a further call of `fit` goes on from the fitted support points with `max_iter`
        steps, adding support points if `n_support` has grown.

    verbose : int, default=0
        Prints the loss every 100 steps when positive.

    Attributes
    ----------
    support_ : ndarray of shape (n_support_,)
        Indices of the support points in the training data.

    support_vectors_ : ndarray of shape (n_support_, n_features)
        The support points.

    support_targets_ : ndarray of shape (n_support_,) or (n_support_, n_outputs)
        The targets that they interpolate, up to ``alpha_`` times their coefficients.

    bandwidths_ : ndarray of shape (n_support_, n_features)
        Learned bandwidths, per squared unit of the feature (per unit for the laplacian kernel).

    dual_coef_ : ndarray of shape (n_support_,) or (n_support_, n_outputs)
        Coefficients of the kernel expansion.

    intercept_ : float or ndarray of shape (n_outputs,)
        Mean of the targets.

    alpha_ : float
        Ridge of the interpolation.

    n_support_ : int
        Number of support points.

    feature_importances_ : ndarray of shape (n_features,)
        Mean over the support points of the exponent's change for one standard deviation of the
        feature, ``bandwidths_ * std**2`` (``* std`` for the laplacian kernel), weighted with the
        absolute values of ``dual_coef_``; sums to one.

    loss_curve_ : ndarray of shape (n_iter_,)
        Squared error of every step's batch, in units of the variance of y, summed over outputs.

    n_iter_ : int
        Number of training steps.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, when all are strings.

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
