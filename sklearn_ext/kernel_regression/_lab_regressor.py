"""Kernel ridgeless regression with locally adaptive bandwidths."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._rows import merge_duplicate_rows
from ..utils._typing import FloatArray, IntArray
from ..utils._validation import check_magnitude, check_numbers, own_constructor
from ..utils.compat import with_callbacks
from ._lab_base import BaseLAB, FitProgress, fitted_attributes
from ._lab_config import LABExpansion
from ._lab_training import train_lab
from .engines import make_engine


@own_constructor
class LABRidgelessRegressor(MultiOutputMixin, RegressorMixin, BaseLAB):
    r"""Kernel ridgeless regression with locally adaptive bandwidths (LAB RBF).

    The model is a kernel machine on a few support points, each of which has its own bandwidth for
    every feature. The coefficients interpolate the targets of the support points; the bandwidths
    and these targets are learned by gradient descent on the squared error over all samples [1]_
    [2]_. By default, the kernel, the ridge and the length of training are those with the smallest
    error on held-out samples. Learned targets are an addition to the papers; :meth:`from_paper`
    keeps the data.

    Parameters
    ----------
    n_support : int, float in (0, 1), "all" or "auto", default="auto"
        Number of support points, or the fraction of training samples that become support points.
        "auto" means one fifth of the samples, at least 50 and at most 200. Up to 2,000 samples, it
        can mean "all", as the notes explain, provided that `locality` is "auto" and `learn_targets`
        is True; with 5,000 samples or more, it means up to 2,000 support points if they lower the
        squared error of held-out samples by a tenth. There are never more support points than
        distinct samples. With more than 1,000 support points and learned targets, bandwidths are
        learned on 200; the others get the mean bandwidths, and least squares over all samples fits
        all coefficients. "all" is kernel ridge regression on all samples with the mean of the
        bandwidths that "auto" learns; leave-one-out errors choose their scale and the ridge.

    kernel : {"auto", "exponential", "laplacian", "rbf"}, default="auto"
        Form of the kernel; "auto" chooses it on held-out samples. With bandwidths
        :math:`b_{ik}` (``bandwidths_``) it is
        :math:`\exp(-\sqrt{\sum_k b_{ik} (x_k - c_{ik})^2})`,
        :math:`\exp(-\sum_k b_{ik} |x_k - c_{ik}|)` or
        :math:`\exp(-\sum_k b_{ik} (x_k - c_{ik})^2)`.

    gamma : float or "median", default="median"
        Initial bandwidth, for standardized features. "median" makes the median exponent between
        random samples equal to 4.

    locality : float in [0, 1] or "auto", default="auto"
        How far the bandwidths of one support point may depart from the shared ones. 1 leaves them
        free, and 0 ties them together; in between, deviations decay at ``1 / locality - 1`` times
        the learning rate. "auto" is 1 for a ridge of at most 0.03 and ``0.03 / alpha_`` above,
        because noisy data cannot determine many free bandwidths.

    support_dropout : float in [0, 1) or "auto", default="auto"
        Fraction of the support points that each training step leaves out at random. It keeps the
        bandwidths from fitting noise. "auto" is one hundredth of the number of bandwidths per
        sample, at most 0.1.

    learn_targets : bool, default=True
        Whether the targets that the support points interpolate are learned, starting from the data.
        False keeps the data, as in the papers.

    alpha : float, "auto" or "learn", default="auto"
        Ridge of the interpolation. "auto" chooses 1e-3, 1e-2, 0.1 or 1 on held-out samples. "learn"
        trains the ridge together with the bandwidths, starting from 1e-3.

    refit_alpha : float, "auto" or None, default="auto"
        Ridge of a last fit of the coefficients: with the learned bandwidths, least squares over all
        samples replaces the learned targets. None omits this fit. "auto" means None for regression;
        for classification, it chooses between None and seven ridges from 1e-5 to 3e-2 on held-out
        samples, provided that `alpha` is "auto" and the targets are learned.

    growth : {"random", "error", "error_sampled"} or None, default="random"
        How samples are chosen to extend the first third of the support points: at random, by the
        largest absolute errors, or with probabilities proportional to these errors. None chooses
        all support points at random at the start.

    n_warmup : int, default=300
        Number of steps that train only the bandwidths shared by all support points.

    n_growth_stages : int, default=5
        Number of stages that add support points.

    growth_iter : int, default=100
        Number of steps in each growth stage.

    max_iter : int or "auto", default="auto"
        Number of final steps with all support points, during which the learning rate decays to one
        percent. "auto" means 2000, but 500 or 1000 if training beyond that raises the loss of
        held-out samples.

    batch_size : int or "auto", default="auto"
        Number of samples per step. "auto" means one fortieth of the samples, at least 128 and at
        most 512.

    learning_rate : float, default=1e-2
        Step size of Adam for the bandwidths, and for ``log(alpha)`` when it is learned.

    target_learning_rate : float, default=1e-3
        Step size of Adam for the targets. Slow targets fit less noise.

    beta_2 : float in [0, 1), default=0.98
        Decay of Adam's second moment.

    standardize : bool, default=True
        Whether features are scaled to mean 0 and variance 1 during training. Fitted attributes
        always use the units of X.

    validation_fraction : float in [0, 1), default=0.2
        Fraction of the samples (of the samples of each class in classification) that is held out
        from the candidates of the selection. With 0, there is no selection. A classifier with
        nothing to choose holds the samples out from training, to fit the temperature. Classes with
        fewer than three samples are not held out; without any held-out sample, the temperature
        is 1.

    engine : {"auto", "numba", "torch"}, default="auto"
        Library that does the computations. "auto" selects numba on the CPU and torch elsewhere.

    device : str, torch.device or None, default=None
        Device of the torch engine: "cpu", "cuda", "mps", or "auto" for the best one available. None
        means the CPU.

    n_jobs : int or None, default=None
        Number of candidates that the selection trains at once, on threads. None means 1, and -1
        means all cores.

    random_state : int, RandomState instance or None, default=None
        Seed for choosing support points and batches. The same seed gives the same model regardless
        of the number of threads and the order of the samples.

    warm_start : bool, default=False
        Whether another call to `fit` continues from the fitted support points with `max_iter`
        steps, adding support points if `n_support` is larger than before. Settings that were
        chosen stay as they are.

    verbose : int, default=0
        If positive, the loss is printed every 100 steps.

    Attributes
    ----------
    support_ : ndarray of shape (n_support_,)
        Indices of the support points in the training data. After a warm start, they are -1 for
        support points that the last training data do not contain.

    support_vectors_ : ndarray of shape (n_support_, n_features)
        The support points.

    support_targets_ : ndarray of shape (n_support_,) or (n_support_, n_outputs)
        The targets that the support points interpolate, up to ``alpha_`` times their
        coefficients.

    bandwidths_ : ndarray of shape (n_support_, n_features)
        Learned bandwidths, per squared unit of the feature (per unit for the laplacian kernel).

    dual_coef_ : ndarray of shape (n_support_,) or (n_support_, n_outputs)
        Coefficients of the kernel expansion.

    intercept_ : float or ndarray of shape (n_outputs,)
        Mean of the targets.

    kernel_ : str
        Kernel, as given or chosen.

    alpha_ : float
        Ridge of the interpolation.

    refit_alpha_ : float or None
        Ridge of the last fit of the coefficients.

    max_iter_ : int
        Number of final steps, as given or chosen.

    selection_ : dict of str to ndarray, or None
        Results of the selection, one entry per candidate, from the winner down: "rank", "kernel",
        "alpha", "n_support", "bandwidths" ("own" for each support point, or their "mean" or "equal"
        ones for all samples), "refit_alpha" (NaN for None), "max_iter" (number of final steps up to
        which the candidate was trained), "n_splits", "loss" and "seconds". A data frame shows it
        best: ``pandas.DataFrame(model.selection_)``. Losses are comparable between candidates with
        the same "max_iter" and "n_splits". None if nothing was left to choose, or with fewer than
        40 samples.

    n_support_ : int
        Number of support points.

    feature_importances_ : ndarray of shape (n_features,)
        Change of the exponent per standard deviation of the feature, ``bandwidths_ * std**2``
        (``* std`` for the laplacian kernel), averaged over the support points with the absolute
        values of ``dual_coef_`` as weights. The importances sum to one.

    loss_curve_ : ndarray of shape (n_iter_,)
        Squared error on the batch of each step, in units of the variance of y, summed over outputs.

    n_iter_ : int
        Number of training steps.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    LABRidgelessClassifier : The same model for classification.
    sklearn.kernel_ridge.KernelRidge : One fixed kernel, with all samples as support points.

    Notes
    -----
    `kernel`, `alpha` and `max_iter` are chosen together if they are "auto". Pairs of a kernel and a
    ridge race: each trains for a few steps with the final number of support points on all but the
    held-out samples; those that are behind drop out, and the others continue. Below 2,000 samples,
    the last pairs train on two splits. Up to 2,000 samples, the winner is then compared with kernel
    ridge regression on all samples, with the mean of the learned bandwidths or with equal ones,
    which is often better on small or noisy tables: it is preferred if it lowers the loss of
    held-out samples by 3 %. The model is then trained on all samples. With fewer than 40 samples,
    nothing is held out: the kernel is "laplacian", and the ridge is the one with which kernel ridge
    regression has the smallest leave-one-out error.

    One step costs :math:`O((p + m) m d + m^3)` for batch size p, m support points and d features,
    regardless of the number of samples. Far from all support points, the kernel vanishes and the
    prediction returns to the intercept.

    Samples with equal features are merged into one with their mean target and the sum of their
    weights, so an integer weight has the same effect as that many copies. Counts of samples refer
    to the samples before merging.

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
    >>> round(model.score(X, y), 2)
    1.0
    >>> int(model.feature_importances_.argmax())
    0
    """

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn support points, their targets and their bandwidths.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the training loss. A sample of weight k counts like k
            copies.

        Returns
        -------
        self : LABRidgelessRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or has the wrong shape, if a parameter is out of range, or
            if training diverges.
        """
        if y is not None:
            check_numbers(y)
        features, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True
        )
        weights = _check_sample_weight(
            sample_weight, features, dtype=np.float64, ensure_non_negative=True
        )
        check_magnitude(targets, features.dtype)
        Y = targets.astype(np.float64).reshape(len(targets), -1)
        samples, weights = merge_duplicate_rows(features, Y, weights)
        engine = make_engine(self.engine, self.device)
        start = self._model_to_continue()
        config = self._config(scale_targets=True, continues=start is not None)
        rng = local_random_state(self.random_state)
        variances = Y[samples].var(axis=0)
        variances[variances == 0.0] = 1.0

        def loss(
            values: FloatArray, rows: IntArray, weights: FloatArray, n_samples: float
        ) -> float:
            errors = ((values - Y[samples[rows]]) ** 2 / variances).mean(axis=1)
            return float(np.average(errors, weights=weights))

        selection = self._select(
            features, Y, config, rng, samples=samples, weights=weights, loss=loss
        )
        if selection is not None:
            config = selection.config

        def attributes(model: LABExpansion) -> dict[str, Any]:
            fitted = fitted_attributes(model, config, selection)
            if targets.ndim == 1:
                fitted["support_targets_"] = fitted["support_targets_"][:, 0]
                fitted["dual_coef_"] = fitted["dual_coef_"][:, 0]
                fitted["intercept_"] = float(fitted["intercept_"][0])
            return fitted

        n_iter = config.n_iterations(warm_start=start is not None)
        progress = FitProgress(self, n_iter, attributes, features, targets, sample_weight)
        model = train_lab(
            features,
            Y,
            config,
            rng,
            samples=samples,
            weights=weights,
            engine=engine,
            start=start,
            after_iteration=progress.step,
        )
        fitted = attributes(model)
        progress.end(fitted)
        self.__dict__.update(fitted)
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict target values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in float32 if X is float32, and in float64 otherwise.
        """
        check_is_fitted(self, "dual_coef_")
        points = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        values = self._evaluate(points)
        return values[:, 0] if np.ndim(self.intercept_) == 0 else values
