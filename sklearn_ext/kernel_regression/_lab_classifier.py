"""Kernel ridgeless classification with locally adaptive bandwidths."""

from numbers import Real

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._rows import merge_duplicate_rows
from ._lab_base import BaseLAB, callback_arguments
from ._lab_docs import with_common_docs
from ._temperature import fit_temperature


@with_common_docs
class LABRidgelessClassifier(ClassifierMixin, BaseLAB):
    r"""Kernel ridgeless classification with locally adaptive bandwidths (LAB RBF).

    Regression on targets 1 for the class of a row and -1 for the others, with squared loss, on
    few support points that each have bandwidths of their own; the class with the largest score
    wins. Probabilities come from a temperature, fitted on rows that training does not see.

    Parameters
    ----------
    {parameters}

    validation_fraction : float in [0, 1), default=0.1
        Share of the rows of every class that is kept from training, for the temperature. Classes
        of fewer than three distinct rows give none; without any, ``temperature_`` is 1.

    {computing}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.

    temperature_ : float
        What scores are divided by before the softmax.

    {support}

    support_targets_ : ndarray of shape (n_support_, n_scores)
        The targets that they interpolate, up to ``alpha_`` times their coefficients; one
        column with two classes, else one a class.

    bandwidths_ : ndarray of shape (n_support_, n_features)
        Learned bandwidths, per squared unit of the feature (per unit for the laplacian kernel).

    dual_coef_ : ndarray of shape (n_support_, n_scores)
        Coefficients of the kernel expansion.

    intercept_ : ndarray of shape (n_scores,)
        Mean of the targets.

    {machine}

    loss_curve_ : ndarray of shape (n_iter_,)
        Squared error of every step's batch, in units of squared scores, summed over columns.

    n_iter_ : int
        Number of training steps.

    {input_facts}

    See Also
    --------
    LABRidgelessRegressor : The same for numbers.
    sklearn.svm.SVC : One fixed kernel, support vectors chosen by the hinge loss.

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
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import LABRidgelessClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LABRidgelessClassifier(max_iter=300, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    >>> model.predict_proba(X[:1]).shape
    (1, 3)
    """

    _parameter_constraints = {
        **BaseLAB._parameter_constraints,
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        n_support="auto",
        kernel="laplacian",
        gamma="median",
        locality="auto",
        support_dropout="auto",
        learn_targets=True,
        alpha="auto",
        growth="random",
        n_warmup=300,
        n_growth_stages=5,
        growth_iter=100,
        max_iter=2000,
        batch_size="auto",
        learning_rate=1e-2,
        target_learning_rate=1e-3,
        beta_2=0.98,
        standardize=True,
        validation_fraction=0.1,
        engine="auto",
        device=None,
        random_state=None,
        warm_start=False,
        verbose=0,
    ):
        super().__init__(
            n_support=n_support,
            kernel=kernel,
            gamma=gamma,
            locality=locality,
            support_dropout=support_dropout,
            learn_targets=learn_targets,
            alpha=alpha,
            growth=growth,
            n_warmup=n_warmup,
            n_growth_stages=n_growth_stages,
            growth_iter=growth_iter,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            target_learning_rate=target_learning_rate,
            beta_2=beta_2,
            standardize=standardize,
            engine=engine,
            device=device,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        self.validation_fraction = validation_fraction

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Learn support points, their targets and bandwidths, and the temperature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the outer loss and in the fit of the temperature. A row of
            weight k counts like k copies.

        Returns
        -------
        self : LABRidgelessClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the input is not finite or of the wrong shape, if there is one class only, if a
            parameter is out of range, or if training diverges.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        classes, codes = np.unique(y[weights > 0], return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least 2 classes with positive "
                f"sample_weight, got one class: {classes[0]!r}."
            )
        signs = np.full((len(y), len(classes)), -1.0)
        signs[np.flatnonzero(weights), codes] = 1.0
        # With two classes one column says it all: its sign is that of the second class.
        Y = signs[:, 1:] if len(classes) == 2 else signs

        rng = local_random_state(self.random_state)
        rows, weights = merge_duplicate_rows(X, Y, weights)
        labels = signs[rows].argmax(axis=1)
        held_out = _hold_out(labels, self.validation_fraction, rng)

        def finish(attributes):
            return {**attributes, "classes_": classes, "temperature_": 1.0}

        fitted = self._fit_expansion(
            X,
            Y,
            rows[~held_out],
            weights[~held_out],
            rng,
            scale_targets=False,
            finish=finish,
            callback_data=callback_arguments(X, y, sample_weight),
        )
        if held_out.any():
            scores = _class_scores(self._expand(X[rows[held_out]], fitted))
            fitted["temperature_"] = fit_temperature(scores, labels[held_out], weights[held_out])
        vars(self).update(fitted)
        return self

    def decision_function(self, X):
        """Scores of the classes: near 1 for the right one, near -1 for others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes, the score of ``classes_[1]``.
        """
        check_is_fitted(self, "dual_coef_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        scores = self._expand(X, vars(self))
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Predict the class with the largest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self.decision_function(X)
        indices = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[indices]

    def predict_proba(self, X):
        """Probabilities of the classes: softmax of the scores over ``temperature_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        scores = self.decision_function(X)
        return softmax(_class_scores(scores.reshape(len(scores), -1)) / self.temperature_, axis=1)


def _class_scores(scores):
    """One column a class, also for two classes."""
    return np.hstack((-scores, scores)) if scores.shape[1] == 1 else scores


def _hold_out(labels, fraction, rng):
    """Mask of the rows kept for the temperature: a share of each class of three rows or more."""
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if fraction > 0.0 and len(members) >= 3:
            held_out[members[: max(1, round(fraction * len(members)))]] = True
    return held_out
