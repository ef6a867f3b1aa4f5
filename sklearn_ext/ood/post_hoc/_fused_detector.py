"""Detector that fuses the scores of several others on one net."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context, clone
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from ...neural import (
    AnySamples,
    Head,
    class_labels,
    draw_seed,
    fitted_copy,
    n_samples_of,
    select_samples,
)
from ...utils._atomic import atomic_fit
from ...utils._typing import Array, FloatArray, RandomState
from ...utils.compat import FitTasks, with_callbacks
from .._classifier_outputs import features_of, head_of_classes
from .._detector import BaseOODDetector, TrainingSamples
from .._fusion import FUSION_METHODS, FusionMethod, ScoreFusion
from ._activation_detectors import ViMOODDetector
from ._base import BasePostHocDetector, known_codes
from ._distance_detectors import KNNOODDetector, MahalanobisOODDetector
from ._logit_detectors import EnergyOODDetector


def default_detectors() -> list[BasePostHocDetector]:
    """Return the unfitted detectors whose scores are fused by default.

    The energy finds unknown inputs that resemble several classes. The other three find inputs whose
    features are far from those of all training samples, each by a different measure.

    Returns
    -------
    list of detectors

    Examples
    --------
    >>> from sklearn_ext.ood import default_detectors
    >>> [type(detector).__name__ for detector in default_detectors()]
    ['EnergyOODDetector', 'KNNOODDetector', 'MahalanobisOODDetector', 'ViMOODDetector']
    """
    return [EnergyOODDetector(), KNNOODDetector(), MahalanobisOODDetector(), ViMOODDetector()]


@dataclass(frozen=True)
class FusedScore:
    """Detectors that have learned from the features of one net, and the fusion of their scores.

    Parameters
    ----------
    detectors : tuple of BasePostHocDetector
        Detectors whose statistics are set; they hold no net of their own.
    fusion : ScoreFusion
        Combines their scores.
    head : Head
        The head of the net.

    See Also
    --------
    FusedOODDetector : The detector with this score.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn_ext import EnergyOODDetector, KNNOODDetector
    >>> from sklearn_ext.neural import Head
    >>> from sklearn_ext.ood import FusedScore
    >>> generator = torch.Generator().manual_seed(0)
    >>> features = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    >>> codes, head = torch.arange(300) % 3, Head("last", np.eye(3, 4), np.zeros(3))
    >>> score = FusedScore.fit(
    ...     [EnergyOODDetector(), KNNOODDetector()],
    ...     features[:200],
    ...     codes[:200],
    ...     features[200:],
    ...     head,
    ...     classes=["a", "b", "c"],
    ... )
    >>> unseen = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-9.0, -9.0, -9.0, 0.0]]).double()
    >>> score(unseen).round(1)
    array([ -0.5, -60.4])
    """

    detectors: tuple[BasePostHocDetector, ...]
    fusion: ScoreFusion
    head: Head

    @classmethod
    def fit(
        cls,
        detectors: Sequence[BasePostHocDetector],
        features: Tensor,
        codes: Tensor,
        reference_features: Tensor,
        head: Head,
        classes: Array,
        method: FusionMethod = "harmonic",
    ) -> Self:
        """Let detectors learn from training samples, and compare their scores on others.

        Parameters
        ----------
        detectors : sequence of BasePostHocDetector
            Unfitted detectors, which are cloned.
        features : tensor of shape (n, d)
            Features of the training samples.
        codes : int64 tensor of shape (n,)
            Their class indices.
        reference_features : tensor of shape (n_reference, d)
            Features of in-distribution samples that nothing was fitted on.
        head : Head
            The head of the net, with C outputs.
        classes : ndarray of shape (C,)
            Class labels.
        method : {"harmonic", "fisher", "min"}, default="harmonic"
            How p-values are combined.

        Returns
        -------
        FusedScore
        """
        fitted = tuple(clone(detector) for detector in detectors)
        for detector in fitted:
            detector.classes_ = classes
            detector._learn(features, codes.to(features.device), head)
        scores = _columns(fitted, reference_features, head)
        return cls(fitted, ScoreFusion.from_scores(scores, method), head)

    def __call__(self, features: Tensor) -> FloatArray:
        """Return the fused score of features, of shape (n,)."""
        return self.fusion(_columns(self.detectors, features, self.head))


def _columns(detectors: Sequence[BasePostHocDetector], features: Tensor, head: Head) -> FloatArray:
    scores = [detector._score(features, head) for detector in detectors]
    return torch.stack(scores, dim=1).cpu().numpy()


def split_held_out(
    samples: TrainingSamples, rng: np.random.RandomState
) -> tuple[AnySamples, TrainingSamples]:
    """Divide the held-out samples between the fusion and the threshold.

    The threshold is valid only if the fusion was not fitted on its samples. A single held-out
    sample serves both.

    Parameters
    ----------
    samples : TrainingSamples
    rng : RandomState

    Returns
    -------
    X_reference : ndarray
        Samples for the fusion.
    samples : TrainingSamples
        The other samples.
    """
    X = samples.X_held_out
    n = n_samples_of(X)
    if n < 2:
        return X, samples
    order = rng.permutation(n)
    first, second = order[: n // 2], order[n // 2 :]
    labels = None if samples.y_held_out is None else samples.y_held_out[second]
    rest = replace(samples, X_held_out=select_samples(X, second), y_held_out=labels)
    return select_samples(X, first), rest


class FusedOODDetector(BaseOODDetector):
    r"""Detect unknown classes by several scores at once, fused through their p-values.

    No single score is best everywhere: the logits find unknown classes that resemble several known
    ones, and distances in feature space find inputs that resemble none. The scores of one net are
    turned into p-values among held-out samples and combined, so that an input is rejected if any of
    them finds it unusual.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    detectors : list of detectors or None, default=None
        Post-hoc detectors whose scores are fused; their parameters other than those of the score
        are ignored. None means :func:`~sklearn_ext.ood.default_detectors`: energy,
        nearest neighbors, Mahalanobis and ViM.

    method : {"harmonic", "fisher", "min"}, default="harmonic"
        How p-values are combined: by their harmonic mean, by the sum of their logarithms, or by the
        smallest; see :class:`~sklearn_ext.ood.ScoreFusion`.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.2
        Fraction of the samples that is held out from fitting. One half of them serves the fusion,
        the other sets the threshold.

    random_state : int, RandomState instance or None, default=None
        Seeds the choice of the held-out samples, and the training of `estimator` if it is unfitted.

    Attributes
    ----------
    classifier_ : skorch.NeuralNetClassifier
        The fitted classifier.

    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the outputs of the classifier.

    offset_ : float
        Threshold of `predict` on the scores.

    held_out_scores_ : ndarray of shape (n_held_out,)
        Sorted scores of the held-out samples that set the threshold.

    fused_score_ : FusedScore
        The detectors and the fusion of their scores.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    OrthLossOODDetector : Trains with outliers, and fuses scores in the same way.

    References
    ----------
    .. [1] D. J. Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 116, 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import FusedOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = FusedOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict(1 - X[1000:1003] / 16)  # inverted digits
    array([-1, -1, -1])
    >>> detector.predict_pvalue(1 - X[:1] / 16).round(2)
    array([0.01])
    """

    _takes_any_form: ClassVar[bool] = True
    _parameter_constraints: dict[str, Any] = {
        **BaseOODDetector._parameter_constraints,
        "detectors": [list, tuple, None],
        "method": [StrOptions(set(FUSION_METHODS))],
        "head": [str, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        detectors: Sequence[BasePostHocDetector] | None = None,
        method: FusionMethod = "harmonic",
        head: str | None = None,
        outlier_label: Any = -1,
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.2,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.estimator = estimator
        self.detectors = detectors
        self.method = method
        self.head = head

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: AnySamples, y: ArrayLike | None = None) -> Self:
        """Fit the classifier if it is unfitted, learn from its features, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), tensor, dict of arrays, or Dataset
            Training samples, in any form that a :class:`~sklearn_ext.NetClassifier` takes.
        y : array-like of shape (n_samples,), default=None
            Class labels. Samples labeled `outlier_label` are left out. May be None only if X is a
            dataset, whose labels are used.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the input is not finite or has a wrong shape, labels are missing, name fewer than two
            classes or are unknown to the fitted classifier, a parameter is out of range, or the
            outputs of the classifier are not those of a linear layer with one output per class.
        TypeError
            If `detectors` contains anything other than post-hoc detectors.
        """
        detectors = self._checked_detectors()
        samples, rng = self._start_fit(X, y)
        labels = cast(Array, samples.y)  # not None, because this detector needs labels
        tasks = FitTasks(self, None, X, y)
        net = fitted_copy(
            self.estimator,
            samples.X,
            labels,
            random_state=draw_seed(rng),
            training=partial(tasks.fit_of, "classifier"),
        )
        self.classifier_, self.classes_ = net, class_labels(net)
        head = head_of_classes(net, samples.larger_part, self.classes_, self.head)
        codes = cast(Tensor, known_codes(net, samples))
        X_reference, samples = split_held_out(samples, rng)
        self.fused_score_ = FusedScore.fit(
            detectors,
            features_of(net, samples.X, head.name),
            codes,
            features_of(net, X_reference, head.name),
            head,
            classes=self.classes_,
            method=self.method,
        )
        self._set_offset(samples)
        tasks.end()
        return self

    def _checked_detectors(self) -> Sequence[BasePostHocDetector]:
        if self.detectors is None:
            return default_detectors()
        if not self.detectors:
            raise ValueError("detectors must contain at least one post-hoc detector, got none.")
        for detector in self.detectors:
            if not isinstance(detector, BasePostHocDetector):
                raise TypeError(
                    "detectors must contain post-hoc detectors such as KNNOODDetector(), "
                    f"got {detector!r}."
                )
            detector._validate_params()
        return self.detectors

    def _score_samples(self, X: AnySamples) -> FloatArray:
        return self.fused_score_(features_of(self.classifier_, X, self.fused_score_.head.name))
