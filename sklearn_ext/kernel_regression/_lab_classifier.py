"""Kernel ridgeless classification with locally adaptive bandwidths."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._rows import count_samples, merge_duplicate_rows
from ..utils._typing import Array, FloatArray, IntArray
from ..utils._validation import check_class_labels, own_constructor
from ..utils.compat import with_callbacks
from ._lab_base import BaseLAB, FitProgress, fitted_attributes
from ._lab_config import LABExpansion
from ._lab_training import train_lab
from .engines import make_engine
from .selection import REFIT_ALPHAS, HeldOut, hold_out

_LOG_TEMPERATURE_RANGE = (-5.0, 5.0)
# The log loss of a few dozen labels is noisy, and equal bandwidths hardly overfit.
_MIN_GAIN_OF_ALL = -0.1


@own_constructor
class LABRidgelessClassifier(ClassifierMixin, BaseLAB):
    r"""Kernel ridgeless classification with locally adaptive bandwidths (LAB RBF).

    The model is a least-squares regression on targets that are 1 for the class of a sample and -1
    for the other classes. It uses a few support points, each with its own bandwidths [1]_ [2]_, and
    predicts the class with the largest score. By default, the kernel, the ridges and the length of
    training are those with the smallest log loss on held-out samples, which also determine the
    temperature of the probabilities.

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
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    temperature_ : float
        Scores are divided by this value before the softmax.

    support_ : ndarray of shape (n_support_,)
        Indices of the support points in the training data. After a warm start, they are -1 for
        support points that the last training data do not contain.

    support_vectors_ : ndarray of shape (n_support_, n_features)
        The support points.

    support_targets_ : ndarray of shape (n_support_, n_scores)
        The targets that the support points interpolate, up to ``alpha_`` times their
        coefficients: one column for two classes, and one per class for more.

    bandwidths_ : ndarray of shape (n_support_, n_features)
        Learned bandwidths, per squared unit of the feature (per unit for the laplacian kernel).

    dual_coef_ : ndarray of shape (n_support_, n_scores)
        Coefficients of the kernel expansion.

    intercept_ : ndarray of shape (n_scores,)
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
        Squared error on the batch of each step, in units of squared scores, summed over columns.

    n_iter_ : int
        Number of training steps.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    LABRidgelessRegressor : The same model for regression.
    sklearn.svm.SVC : One fixed kernel, with support vectors chosen by the hinge loss.

    Notes
    -----
    `kernel`, `alpha` and `max_iter` are chosen together if they are "auto". Pairs of a kernel and a
    ridge race: each trains for a few steps with the final number of support points on all but the
    held-out samples; those that are behind drop out, and the others continue. Below 2,000 samples,
    the last pairs train on two splits. Up to 2,000 samples, the winner is then compared with kernel
    ridge regression on all samples, with the mean of the learned bandwidths or with equal ones.
    Equal bandwidths are preferred unless learned ones lower the log loss of held-out samples by a
    tenth, because the log loss of a few labels is noisy. The model is then trained on all samples.
    With fewer than 40 samples, nothing is held out: the kernel is "laplacian", and the ridge is the
    one with which kernel ridge regression has the smallest leave-one-out error.

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
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import LABRidgelessClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LABRidgelessClassifier(max_iter=300, random_state=0).fit(X, y)
    >>> round(model.score(X, y), 2)
    0.95
    >>> model.predict_proba(X[:1]).round(2)
    array([[1., 0., 0.]])
    """

    classes_: Array
    temperature_: float

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn support points, their targets and bandwidths, and the temperature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the training loss and in the fit of the temperature. A
            sample of weight k counts like k copies.

        Returns
        -------
        self : LABRidgelessClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or has the wrong shape, if there is only one class, if a
            parameter is out of range, or if training diverges.
        """
        features, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_class_labels(labels)
        weights = _check_sample_weight(
            sample_weight, features, dtype=np.float64, ensure_non_negative=True
        )
        classes, codes = np.unique(labels[weights > 0], return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes with positive "
                f"sample_weight, got one class: {classes.tolist()[0]!r}."
            )
        signs = np.full((len(labels), len(classes)), -1.0)
        signs[np.flatnonzero(weights), codes] = 1.0
        # With two classes, one column is enough: it is positive for the second class.
        Y = signs[:, 1:] if len(classes) == 2 else signs

        rng = local_random_state(self.random_state)
        samples, weights = merge_duplicate_rows(features, Y, weights)
        class_indices = signs[samples].argmax(axis=1)
        counts = count_samples(features, samples, weights)
        engine = make_engine(self.engine, self.device)
        start = self._model_to_continue()
        config = self._config(scale_targets=False, continues=start is not None)
        if start is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start=True needs the classes of the previous call, "
                f"{self.classes_.tolist()}, got {classes.tolist()}."
            )

        def loss(
            values: FloatArray, rows: IntArray, weights: FloatArray, n_samples: float
        ) -> float:
            scores, labels = _class_scores(values), class_indices[rows]
            temperature = fit_temperature(scores, labels, weights, n_samples=n_samples)
            log_proba = log_softmax(scores / temperature, axis=1)
            return -float(np.average(log_proba[np.arange(len(labels)), labels], weights=weights))

        selection = self._select(
            features,
            Y,
            config,
            rng,
            samples=samples,
            weights=weights,
            loss=loss,
            strata=class_indices,
            refit_alphas=REFIT_ALPHAS,
            min_gain_of_all=_MIN_GAIN_OF_ALL,
        )
        if selection is not None:
            config = selection.config
        # The samples held out in the selection also determine the temperature.
        is_settled = selection is not None and len(selection.held_out) > 0
        fraction = 0.0 if is_settled else self.validation_fraction
        n_held_out = hold_out(class_indices, counts, fraction, rng)
        trained, held_out = n_held_out < counts, n_held_out > 0

        def attributes(model: LABExpansion) -> dict[str, Any]:
            fitted = fitted_attributes(model, config, selection)
            return {**fitted, "classes_": classes, "temperature_": 1.0}

        n_iter = config.n_iterations(warm_start=start is not None)
        progress = FitProgress(self, n_iter, attributes, features, labels, sample_weight)
        model = train_lab(
            features,
            Y,
            config,
            rng,
            samples=samples[trained],
            weights=(weights * (counts - n_held_out) / counts)[trained],
            engine=engine,
            start=start,
            after_iteration=progress.step,
        )
        fitted = attributes(model)
        progress.end(fitted)
        if held_out.any():
            rows = np.flatnonzero(held_out)
            values = self._evaluate(features[samples[rows]], model, config.kernel)
            held_out_weights = (weights * n_held_out / counts)[rows]
            parts = [HeldOut(rows, held_out_weights, n_held_out.sum(), values)]
        else:
            parts = selection.held_out if selection is not None else []
        if parts:
            fitted["temperature_"] = fit_temperature(
                _class_scores(np.concatenate([part.values for part in parts])),
                class_indices[np.concatenate([part.rows for part in parts])],
                np.concatenate([part.weights for part in parts]),
                n_samples=sum(part.n_samples for part in parts),
            )
        self.__dict__.update(fitted)
        return self

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """Return the scores of the classes: near 1 for the correct class, near -1 for the others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes, the score of ``classes_[1]``.
        """
        check_is_fitted(self, "dual_coef_")
        points = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        scores = self._evaluate(points)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: ArrayLike) -> Array:
        """Predict the class with the largest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self.decision_function(X)
        indices = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[indices]

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Predict class probabilities: the softmax of the scores divided by ``temperature_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``.
        """
        scores = self.decision_function(X)
        return softmax(_class_scores(scores.reshape(len(scores), -1)) / self.temperature_, axis=1)


def _class_scores(scores: FloatArray) -> FloatArray:
    """Return one column per class, even for two classes."""
    return np.hstack((-scores, scores)) if scores.shape[1] == 1 else scores


def fit_temperature(
    scores: FloatArray, y: IntArray, weights: FloatArray, *, n_samples: float | None = None
) -> float:
    r"""Return the T for which the softmax of ``scores / T`` best fits held-out labels.

    T minimizes the cross-entropy against labels that are smoothed as in Platt's scaling: with n
    samples, the true class gets :math:`(n + 1) / (n + 2)` and the other classes share
    :math:`1 / (n + 2)` evenly. Thus a few samples that are all classified well do not drive T to
    zero.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes)
        Scores of samples that the classifier was not trained on.
    y : ndarray of shape (n_samples,)
        Class indices.
    weights : ndarray of shape (n_samples,)
        Weights of the samples.
    n_samples : float, default=None
        Number n of samples for the smoothing; None means the length of `scores`. Pass the number
        of original samples if weights stand for copies.

    Returns
    -------
    float
        The temperature, between exp(-5) and exp(5).

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017.
    .. [2] J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import fit_temperature
    >>> scores = np.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> round(fit_temperature(scores, np.array([0, 1]), np.ones(2)), 2)
    1.82
    """
    n_rows, n_classes = scores.shape
    n_samples = n_rows if n_samples is None else n_samples
    smooth = np.full(scores.shape, 1.0 / ((n_samples + 2.0) * (n_classes - 1.0)))
    smooth[np.arange(n_rows), y] = (n_samples + 1.0) / (n_samples + 2.0)

    def cross_entropy(log_temperature: float) -> float:
        log_proba = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -np.average((smooth * log_proba).sum(axis=1), weights=weights)

    best = minimize_scalar(cross_entropy, bounds=_LOG_TEMPERATURE_RANGE, method="bounded")
    return float(np.exp(best.x))
