"""Quality of generated samples, and of the forgetting of a class."""

from collections.abc import Callable, Mapping
from functools import partial
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
from ..utils._typing import Array, BoolArray, FloatArray, RandomState
from ._membership import SMALLEST_PROBABILITY
from ._report import BaseReport

_ACTIVATIONS: dict[str, Callable] = {
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
    r"""Fréchet distance between normal distributions fitted to two sets of samples.

    .. math::
        \lVert \mu_A - \mu_B \rVert^2 + \mathrm{tr}\,\Sigma_A + \mathrm{tr}\,\Sigma_B
            - 2\, \mathrm{tr} \sqrt{\Sigma_A^{1/2}\, \Sigma_B\, \Sigma_A^{1/2}}

    With features of the Inception network, this is the FID of the literature. The distance falls
    with the number of samples, so compare distances only at equal sample sizes.

    Parameters
    ----------
    A : array-like of shape (n_a, n_features)
        Features of the first set, which needs at least two samples.
    B : array-like of shape (n_b, n_features)
        Features of the second set.

    Returns
    -------
    float
        0 for equal means and covariances. Lower is better.

    Raises
    ------
    ValueError
        If a set has fewer than two samples, or the numbers of features differ.

    See Also
    --------
    generation_report : The distance between features of a classifier, among other scores.

    References
    ----------
    .. [1] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter, "GANs Trained by a
       Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.metrics import frechet_distance
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> round(frechet_distance(X, X + [3, 0, 0]), 6)
    9.0
    """
    first = check_array(A, dtype=np.float64, ensure_min_samples=2, input_name="A")
    second = check_array(B, dtype=np.float64, ensure_min_samples=2, input_name="B")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            "A and B must have the same number of features, "
            f"got {first.shape[1]} and {second.shape[1]}."
        )
    cov_a, cov_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (first, second))
    values, vectors = eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(eigh(root @ cov_b @ root, eigvals_only=True).clip(0)).sum()
    shift = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return float(max(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap, 0.0))


class GenerationReport(BaseReport):
    """Scores of generative models: the result of :func:`generation_report`.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Scores by the name of the model:

        - ``forget_accuracy`` (FA): fraction of the samples requested from a forgotten class that
          the classifier assigns to it. A classifier alone can be fooled by samples that do not
          resemble any data;
        - ``valid_forget_accuracy`` (FA_in): fraction of these samples that, in addition, are as
          close to a real sample of the class as real samples are to each other (up to the 99%
          quantile);
        - ``other_accuracy``: fraction of the samples of the other classes that the classifier
          assigns to the requested class;
        - ``other_frechet_distance``: :func:`frechet_distance` between features of these samples
          and of as many real ones;
        - ``forget_loss``, ``other_loss``: mean denoising loss of the real samples of the forgotten
          and of the other classes.

    Examples
    --------
    >>> from sklearn_ext.metrics import GenerationReport
    >>> GenerationReport({"before": {"forget_accuracy": 1.0, "other_frechet_distance": 3.7}})
                FA  Frechet (others)
    before  100.0%             3.700
    """

    _columns = {
        "forget_accuracy": ("FA", ".1%"),
        "valid_forget_accuracy": ("FA_in", ".1%"),
        "other_accuracy": ("accuracy (others)", ".1%"),
        "other_frechet_distance": ("Frechet (others)", ".3f"),
        "forget_loss": ("loss (forgotten)", ".3f"),
        "other_loss": ("loss (others)", ".3f"),
    }


@validate_params(
    {
        "models": "no_validation",
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
    models: Any,
    classifier: Any,
    X: ArrayLike,
    y: ArrayLike,
    forgotten: Any,
    *,
    n_samples: int = 100,
    n_steps: int = 25,
    guidance: float = 1.0,
    features: Callable[[Any], ArrayLike] | None = None,
    random_state: RandomState = None,
) -> GenerationReport:
    """Measure how well generative models have forgotten classes and kept the others.

    Parameters
    ----------
    models : fitted ConditionalDDPM or SFRonClassForgetter, or dict of str to such models
        One model, or several by name, such as the model before and after forgetting.
    classifier : fitted classifier
        Assigns classes to the generated samples; it must be accurate on X.
    X : array-like of shape (n, ...)
        Real samples.
    y : array-like of shape (n,)
        Classes of the samples.
    forgotten : label or array-like of labels
        The forgotten classes.
    n_samples : int, default=100
        Number of samples to generate per class.
    n_steps : int, default=25
        Number of sampling steps.
    guidance : float, default=1
        Guidance of the sampler. Scores depend more on `n_steps` and `guidance` than on forgetting,
        so compare them only at equal settings.
    features : callable or None, default=None
        Maps samples to the features whose Fréchet distance is computed, an array of shape (n,
        n_features). None uses the last hidden layer of an
        :class:`~sklearn.neural_network.MLPClassifier`, and the logarithm of the probabilities of
        any other classifier.
    random_state : int, RandomState instance or None, default=None
        Seed for the samples, the same for every model.

    Returns
    -------
    GenerationReport
        Scores of each model in ``scores``.

    Raises
    ------
    ValueError
        If a parameter is out of range, if `forgotten` contains an unknown label, no label or all
        labels, or if there are too few real samples to compare with.

    See Also
    --------
    sklearn_ext.GeneratedSamplesDisplay : The samples as pictures.

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
    >>> before, after = report.scores.values()
    >>> after["valid_forget_accuracy"] < before["valid_forget_accuracy"]
    True
    """
    real = check_array(X, dtype=None, allow_nd=True)
    labels = np.asarray(y)
    check_consistent_length(real, labels)
    classes, counts = np.unique(labels, return_counts=True)
    is_forgotten, gone = np.isin(labels, forgotten), np.isin(classes, forgotten)
    if len(np.setdiff1d(forgotten, classes)) or gone.all() or not gone.any():
        raise ValueError(
            f"forgotten must contain some, but not all, of the classes {classes}, "
            f"got {forgotten!r}."
        )
    if min(*counts[gone], counts[~gone].sum()) < 2:
        raise ValueError(
            "X must contain at least two samples of each forgotten class and two of the others, "
            f"got {counts} samples of the classes {classes}."
        )
    sampler = {"n_steps": n_steps, "guidance": guidance, "allow_forgotten": True}
    seed = draw_seed(random_state)
    if features is None:
        features = partial(classifier_features, classifier)
    given = models if isinstance(models, Mapping) else {type(models).__name__: models}
    if len(given) == 0:
        raise ValueError("models must contain at least one model, got an empty dict.")
    return GenerationReport(
        {
            str(name): _scores_of(
                each, classifier, real, labels, is_forgotten, n_samples, sampler, features, seed
            )
            for name, each in given.items()
        }
    )


def _scores_of(
    model: Any,
    classifier: Any,
    X: Array,
    y: Array,
    is_forgotten: BoolArray,
    n_samples: int,
    sampler: dict[str, Any],
    features: Callable,
    seed: int,
) -> dict[str, float]:
    wanted = np.repeat(np.unique(y), n_samples)
    samples, _ = model.sample(len(wanted), wanted, random_state=seed, **sampler)
    right = np.asarray(classifier.predict(samples)) == wanted
    of_forgotten = np.isin(wanted, y[is_forgotten])
    valid = np.zeros(len(wanted), dtype=bool)
    for label in np.unique(y[is_forgotten]):
        valid[wanted == label] = _is_near(samples[wanted == label], X[y == label])
    kept = np.flatnonzero(~is_forgotten)
    n_compared = min(len(kept), int((~of_forgotten).sum()))
    compared = np.random.RandomState(seed).choice(kept, size=n_compared, replace=False)
    loss = -model.score_samples(X, y)
    return {
        "forget_accuracy": float(right[of_forgotten].mean()),
        "valid_forget_accuracy": float((right & valid)[of_forgotten].mean()),
        "other_accuracy": float(right[~of_forgotten].mean()),
        "other_frechet_distance": frechet_distance(
            features(X[compared]), features(samples[~of_forgotten])
        ),
        "forget_loss": float(loss[is_forgotten].mean()),
        "other_loss": float(loss[~is_forgotten].mean()),
    }


def _is_near(samples: Array, real: Array, quantile: float = 0.99) -> BoolArray:
    """Return a mask of the samples as close to a real one as real ones are to each other."""
    neighbors = NearestNeighbors(n_neighbors=1).fit(real.reshape(len(real), -1))
    among_real, _ = neighbors.kneighbors()
    distances, _ = neighbors.kneighbors(samples.reshape(len(samples), -1))
    return distances[:, 0] <= np.quantile(among_real, quantile)


def classifier_features(classifier: Any, X: Array) -> FloatArray:
    """Return the features of samples on which the Fréchet distance is computed by default."""
    if isinstance(classifier, MLPClassifier):
        hidden, activate = np.asarray(X, dtype=np.float64), _ACTIVATIONS[classifier.activation]
        layers = zip(classifier.coefs_[:-1], classifier.intercepts_[:-1], strict=True)
        for weights, bias in layers:
            hidden = activate(hidden @ weights + bias)
        return hidden
    return np.log(np.maximum(classifier.predict_proba(X), SMALLEST_PROBABILITY))
