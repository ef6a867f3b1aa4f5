"""How good generated rows are, and how well a class was forgotten."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, validate_params

from ..utils._random import draw_seed

_SMALLEST_PROBABILITY = 1e-12
_ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}


@validate_params(
    {"A": ["array-like"], "B": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def frechet_distance(A: ArrayLike, B: ArrayLike) -> float:
    r"""Distance between two sets of rows, as that of the normal distributions fitted to them.

    .. math::
        \lVert \mu_A - \mu_B \rVert^2 + \mathrm{tr}\,\Sigma_A + \mathrm{tr}\,\Sigma_B
            - 2\, \mathrm{tr} \sqrt{\Sigma_A^{1/2}\, \Sigma_B\, \Sigma_A^{1/2}}

    On features of a network this is what papers call FID, with features of the Inception network.
    It falls with the number of rows, so compare it for equal numbers only.

    Parameters
    ----------
    A : array-like of shape (n_a, n_features)
        Features of some rows, of two at least.
    B : array-like of shape (n_b, n_features)
        Features of others.

    Returns
    -------
    float
        0 for equal means and covariances. Lower is better.

    Raises
    ------
    ValueError
        If a set has fewer than two rows, or the numbers of features differ.

    See Also
    --------
    generation_report : Uses it on the features of a classifier.

    References
    ----------
    .. [1] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter, "GANs Trained by a
       Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.metrics import frechet_distance
    >>> rows = np.random.default_rng(0).normal(size=(500, 3))
    >>> round(frechet_distance(rows, rows + [3, 0, 0]), 6)
    9.0
    >>> spread = np.var(rows, axis=0, ddof=1).sum()
    >>> bool(np.isclose(frechet_distance(rows, 2 * rows - rows.mean(axis=0)), spread))
    True
    """
    A = check_array(A, dtype=np.float64, ensure_min_samples=2, input_name="A")
    B = check_array(B, dtype=np.float64, ensure_min_samples=2, input_name="B")
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            f"A and B must have the same features, got {A.shape[1]} and {B.shape[1]} of them."
        )
    cov_a, cov_b = np.atleast_2d(np.cov(A, rowvar=False)), np.atleast_2d(np.cov(B, rowvar=False))
    values, vectors = eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(eigh(root @ cov_b @ root, eigvals_only=True).clip(0)).sum()
    shift = np.square(A.mean(axis=0) - B.mean(axis=0)).sum()
    return float(max(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap, 0.0))


@dataclass(frozen=True)
class GenerationScores:
    """What is known of one model after it was asked for rows of all classes.

    Parameters
    ----------
    forget_accuracy : float
        FA: share of the samples asked to be of a forgotten class that the classifier takes for
        it. A classifier alone can be fooled by rows that are like no data.
    valid_forget_accuracy : float
        FA_in: share of those that, in addition, lie as close to a real row of the class as real
        rows lie to each other (up to the 99 % quantile).
    other_accuracy : float
        Share of the samples of the other classes that the classifier takes for what they should
        be.
    other_frechet_distance : float
        :func:`frechet_distance` of features of these to those of as many real rows.
    forget_loss, other_loss : float
        Mean denoising loss of the real rows of the forgotten, and of the other classes.

    Examples
    --------
    >>> from sklearn_ext.metrics import GenerationScores
    >>> scores = GenerationScores(0.02, 0.0, 0.99, 4.2, 13.0, 6.0)
    >>> scores.valid_forget_accuracy
    0.0
    """

    forget_accuracy: float
    valid_forget_accuracy: float
    other_accuracy: float
    other_frechet_distance: float
    forget_loss: float
    other_loss: float


_METRICS = [field.name for field in fields(GenerationScores)]


class GenerationReport:
    """What :func:`generation_report` returns: one :class:`GenerationScores` a model.

    Printing it gives a table.

    Parameters
    ----------
    models : dict of str to GenerationScores
        By name of the model.

    Examples
    --------
    >>> from sklearn_ext.metrics import GenerationReport, GenerationScores
    >>> print(GenerationReport({"before": GenerationScores(1.0, 0.99, 0.998, 3.7, 5.8, 6.0)}))
             |     FA  FA_in | others: accuracy  Frechet | loss: forgotten  others
    before   | 100.0%  99.0% |            99.8%    3.700 |           5.800   6.000
    """

    def __init__(self, models):
        self.models = models

    def to_frame(self):
        """Return a pandas DataFrame with a row for each model.

        Returns
        -------
        pandas.DataFrame
            Indexed by the names of the models.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas as pd

        rows = {name: vars(scores) for name, scores in self.models.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=_METRICS)

    def __str__(self):
        width = max(8, *map(len, self.models))
        head = "|     FA  FA_in | others: accuracy  Frechet | loss: forgotten  others"
        lines = [f"{'':{width}} {head}"]
        lines += [
            f"{name:{width}} | {row.forget_accuracy:6.1%} {row.valid_forget_accuracy:6.1%} "
            f"| {row.other_accuracy:16.1%} {row.other_frechet_distance:8.3f} "
            f"| {row.forget_loss:15.3f} {row.other_loss:7.3f}"
            for name, row in self.models.items()
        ]
        return "\n".join(lines)

    __repr__ = __str__


@validate_params(
    {
        "model": "no_validation",
        "classifier": "no_validation",
        "X": ["array-like"],
        "y": ["array-like"],
        "forgotten": "no_validation",
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "guidance": [Interval(Real, -1, None, closed="left")],
        "features": [callable, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def generation_report(
    model: Any,
    classifier: Any,
    X: ArrayLike,
    y: ArrayLike,
    forgotten: Any,
    *,
    n_samples: int = 100,
    n_steps: int = 25,
    guidance: float = 1.0,
    features: Callable | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> GenerationReport:
    """Judge how well classes were forgotten by a generative model, and the others kept.

    Parameters
    ----------
    model : fitted ConditionalDDPM or SFRonClassForgetter, or dict of str to such models
        One, or several by name, such as the model before and after.
    classifier : fitted classifier
        Judges what the samples are; it must be good on X.
    X : array-like of shape (n, ...)
        Real rows.
    y : array-like of shape (n,)
        Their classes.
    forgotten : label or array-like of labels
        The classes that should be gone.
    n_samples : int, default=100
        Samples of each class.
    n_steps : int, default=25
        Steps of the sampler.
    guidance : float, default=1
        Guidance of the sampler. Figures depend on both more than on forgetting: compare within
        one setting only.
    features : callable or None, default=None
        From rows to the features whose Fréchet distance is taken, an array of shape
        (n, n_features). None is the last hidden layer of an
        :class:`~sklearn.neural_network.MLPClassifier`, and the logarithm of the probabilities of
        any other classifier.
    random_state : int, RandomState instance or None, default=None
        Seed of the samples; the same for every model.

    Returns
    -------
    GenerationReport
        With a :class:`GenerationScores` a model in ``models``, and ``to_frame()``.

    Raises
    ------
    ValueError
        If a parameter is out of range, `forgotten` names what is no class of y, no class at all
        or all of them, or there are too few real rows to compare with.

    See Also
    --------
    GeneratedSamplesDisplay : The samples as pictures.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_ext import ConditionalDDPM, SFRonClassForgetter
    >>> from sklearn_ext.metrics import generation_report
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegression(max_iter=500).fit(X, y)
    >>> model = ConditionalDDPM(max_iter=300, random_state=0).fit(X, y)
    >>> forgetter = SFRonClassForgetter(model, random_state=0).fit(X, y, forget_class=0)
    >>> report = generation_report(
    ...     {"before": model, "after": forgetter}, classifier, X, y, forgotten=0, random_state=0
    ... )
    >>> before, after = report.models.values()
    >>> after.valid_forget_accuracy < before.valid_forget_accuracy
    True
    """
    X = check_array(X, dtype=None, allow_nd=True)
    y = np.asarray(y)
    check_consistent_length(X, y)
    classes, counts = np.unique(y, return_counts=True)
    is_forgotten, gone = np.isin(y, forgotten), np.isin(classes, forgotten)
    if len(np.setdiff1d(forgotten, classes)) or gone.all() or not gone.any():
        raise ValueError(
            f"forgotten={forgotten!r} must name some, but not all, of the classes {classes}."
        )
    if min(*counts[gone], counts[~gone].sum()) < 2:
        raise ValueError(
            "X must hold two rows of each forgotten class and two of the others, to know how far "
            f"real rows lie apart, got {counts} of the classes {classes}."
        )
    sampler = {"n_steps": n_steps, "guidance": guidance, "allow_forgotten": True}
    seed = draw_seed(random_state)
    features = features or (lambda rows: classifier_features(classifier, rows))
    models = model if isinstance(model, Mapping) else {"model": model}
    return GenerationReport(
        {
            str(name): _judge(
                each, classifier, X, y, is_forgotten, n_samples, sampler, features, seed
            )
            for name, each in models.items()
        }
    )


def _judge(model, classifier, X, y, is_forgotten, n_samples, sampler, features, seed):
    wanted = np.repeat(np.unique(y), n_samples)
    rows, _ = model.sample(len(wanted), wanted, random_state=seed, **sampler)
    right = np.asarray(classifier.predict(rows)) == wanted
    of_forgotten = np.isin(wanted, y[is_forgotten])
    valid = np.zeros(len(wanted), dtype=bool)
    for label in np.unique(y[is_forgotten]):
        valid[wanted == label] = _is_near(rows[wanted == label], X[y == label])
    kept = np.flatnonzero(~is_forgotten)
    n_compared = min(len(kept), int((~of_forgotten).sum()))
    real = np.random.RandomState(seed).choice(kept, size=n_compared, replace=False)
    loss = -model.score_samples(X, y)
    return GenerationScores(
        forget_accuracy=float(right[of_forgotten].mean()),
        valid_forget_accuracy=float((right & valid)[of_forgotten].mean()),
        other_accuracy=float(right[~of_forgotten].mean()),
        other_frechet_distance=frechet_distance(features(X[real]), features(rows[~of_forgotten])),
        forget_loss=float(loss[is_forgotten].mean()),
        other_loss=float(loss[~is_forgotten].mean()),
    )


def _is_near(rows, real, quantile=0.99):
    """Whether rows are as close to the nearest real one as real ones are to each other."""
    rows, real = rows.reshape(len(rows), -1), real.reshape(len(real), -1)
    neighbors = NearestNeighbors(n_neighbors=1).fit(real)
    among_real, _ = neighbors.kneighbors()
    distances, _ = neighbors.kneighbors(rows)
    return distances[:, 0] <= np.quantile(among_real, quantile)


def classifier_features(classifier, rows):
    if isinstance(classifier, MLPClassifier):
        hidden, activate = np.asarray(rows, dtype=np.float64), _ACTIVATIONS[classifier.activation]
        layers = zip(classifier.coefs_[:-1], classifier.intercepts_[:-1], strict=True)
        for weights, bias in layers:
            hidden = activate(hidden @ weights + bias)
        return hidden
    return np.log(np.maximum(classifier.predict_proba(rows), _SMALLEST_PROBABILITY))
