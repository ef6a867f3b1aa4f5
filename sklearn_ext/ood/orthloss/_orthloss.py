"""OrthLoss detector: fine-tune a classifier with outliers, and score samples by its features."""

import copy
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.utils import to_numpy
from torch import Tensor

from ...neural import (
    AnySamples,
    Head,
    class_labels,
    concatenated,
    copied_net,
    draw_seed,
    fitted_copy,
    n_minibatches,
    n_samples_of,
    takes_integers,
    validate_input,
)
from ...utils._atomic import atomic_fit
from ...utils._typing import Array, FloatArray, RandomState
from ...utils._warnings import warn_caller
from ...utils.compat import with_callbacks
from .._classifier_outputs import features_of, tensor_like
from .._detector import BaseOODDetector, TrainingSamples
from ..post_hoc import (
    BasePostHocDetector,
    FusedScore,
    default_detectors,
    known_codes,
    split_held_out,
)
from ._feature_geometry import SCORE_NAMES, named_score, row_space_basis, row_space_score
from ._fine_tuning import (
    AfterEpoch,
    OrthLossConfig,
    OrthLossResult,
    fine_tune_with_outliers,
    pretrain,
    result_of,
)
from ._synthetic_outliers import KINDS, make_synthetic_outliers

# An automatic number of epochs aims at this number of steps. More steps do not improve the fit of
# the classes, but move the features of unknown inputs closer to those of the classes.
_STEPS = 550
_FEWEST_EPOCHS = 5
_MOST_PRETRAIN_EPOCHS = 40
_MOST_EPOCHS = 20


class OrthLossOODDetector(BaseOODDetector):
    r"""Detect unknown classes by features that are orthogonal to all known classes (OrthLoss).

    A classifier is fine-tuned with outliers. The features of samples of a class are pulled toward
    the row :math:`w_c` of the head that belongs to the class, and the features of outliers are made
    orthogonal to all rows. The row space of the head has at most C of the d dimensions of feature
    space, for C classes. The length of the projection of a unit feature u onto it then tells
    whether an input belongs to a known class. One network and one forward pass give both classes
    and scores.

    The outliers are samples of X labeled `outlier_label`. They need not resemble the outliers to be
    detected later, but should be diverse.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The net to fine-tune; its head is its last :class:`torch.nn.Linear`. A fitted net is copied,
        an unfitted one is cloned and fitted with its own settings. None trains a small perceptron
        (for images, a small convolutional network) with at least 128 features and three features
        per class. Cloning the detector, as searches and cross-validation do, discards the weights
        of a bare net. To keep them, wrap the fitted net in a
        :class:`~sklearn.frozen.FrozenEstimator`.

    oe_weight : float, default=0.5
        Weight :math:`\lambda` of the outlier-exposure loss, which makes the outputs on outliers
        uniform.

    sep_weight : float, default=1.0
        Weight :math:`\beta` of the separation loss, the absolute cosines of outliers with the rows
        of the head.

    clu_weight : float, default=1.0
        Weight :math:`\alpha` of the clustering loss, the negative cosine of a feature with the row
        of its class.

    sep_reduction : {"mean", "sum"}, default="mean"
        Reduction over classes in the separation loss. "sum" is C times as strong.

    energy_margins : (float, float) or None, default=None
        If given, the outlier-exposure loss becomes squared hinge losses that push the energies of
        inliers below the first margin and those of outliers above the second. The margins are in
        units of the logits of this network, and `oe_weight` should be about 0.1.

    pretrain_epochs : int or "auto", default="auto"
        Number of epochs of plain classification before the fine-tuning if `estimator` is None.
        "auto" takes about 550 steps, between 5 and 40 epochs, which is enough for easy classes. For
        harder ones, give a number or a well-trained net.

    pretrain_learning_rate : float, default=0.1
        Initial learning rate of plain classification.

    max_epochs : int or "auto", default="auto"
        Number of epochs of fine-tuning. "auto" takes about 550 steps, between 5 and 20 epochs. An
        epoch is one pass over the inliers, however many outliers there are.

    stage2_start : int or float in [0, 1), default=0
        First epoch that uses the feature terms, or the fraction of `max_epochs` that precedes it.

    learning_rate : float, default=0.05
        Initial learning rate of fine-tuning; it falls along half a cosine.

    momentum : float in [0, 1), default=0.9
        Nesterov momentum of the gradient steps.

    weight_decay : float, default=5e-4
        L2 penalty.

    batch_size : int, default=64
        Number of inliers in a step.

    outlier_ratio : float, default=1.0
        Number of outliers per inlier in a step.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class".

    synthetic_outliers : {"auto", "permute", "mix", "uniform"} or None, default="auto"
        Outliers to train on if no sample is labeled as one: values shuffled within a sample,
        mixtures of two classes, uniform draws from the bounding box, or all three. A warning
        reports that they are used. None raises an error instead.

    ood_score : str, default="fused"
        Score that `score_samples` returns. "fused" combines "rowspace" and the scores of
        :func:`~sklearn_ext.ood.default_detectors` on the fine-tuned net through their p-values, as
        :class:`FusedOODDetector` does. The single scores are "rowspace" (the length of the unit
        feature's projection onto the row space of the head), "msp" (the largest probability),
        "energy" (the soft maximum of the logits), "maxlogit" (the largest logit) and "maxcos" (the
        largest cosine). "msp+rowspace", "msp+maxcos", "msp+cos" and "msp+meancos" add two scores;
        "cos" and "meancos" are the sum and the mean of all absolute cosines. A fitted detector
        scores with another single score if you set one, but its threshold is that of the fit.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.2
        Fraction of the inliers that is held out from training and sets the threshold. With
        ``ood_score="fused"``, half of them serve the fusion instead.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    callbacks : list of skorch callbacks or None, default=None
        Callbacks of the fine-tuning. The method ``set_callbacks`` takes those of scikit-learn,
        which follow the epochs of both trainings.

    device : str, torch.device or None, default=None
        Where to train: "cpu", "cuda", "mps", or "auto" for the best available device. None means
        the device of `estimator`, or the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds all randomness of the fit.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    classifier_ : SeparationNet
        The fine-tuned classifier.

    classes_ : ndarray of shape (n_classes,)
        Class labels, without `outlier_label`.

    offset_ : float
        Threshold of `predict` on the scores.

    held_out_scores_ : ndarray of shape (n_held_out,)
        Sorted scores of the held-out samples.

    fused_score_ : FusedScore or None
        The detectors and the fusion of their scores; None unless ``ood_score="fused"``.

    head_ : sklearn_ext.neural.Head
        The layer that returns the logits of the fine-tuned classifier.

    weight_rows_ : ndarray of shape (n_classes, n_penultimate)
        Unit rows of the head.

    row_basis_ : ndarray of shape (n_penultimate, rank)
        Orthonormal basis of the span of these rows.

    separation_ : dict of dict
        Diagnostics "before" and "after" fine-tuning. ``id_cosine`` and ``outlier_cosine`` are the
        mean absolute cosines of training samples and of outliers with the rows of the head.
        ``id_residual`` and ``outlier_residual`` are the mean lengths of a unit feature's part
        outside the row space. ``outliers_like_id`` is the fraction of outliers with a
        probability above 0.99 and a cosine above 0.9. A large fraction before fine-tuning suggests
        that some outliers belong to a known class.

    n_outliers_ : int
        Number of outliers used in training.

    is_synthetic_ : bool
        Whether the outliers were made by the detector.

    history_ : skorch.history.History
        History of the fine-tuning.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SeparationNet : The skorch net that is trained.
    fine_tune_with_outliers : The fine-tuning as a function.
    KNNOODDetector : A detector that needs no outliers.

    Notes
    -----
    A step costs as much as training on ``1 + outlier_ratio`` times as many samples. A score costs
    one forward pass.

    References
    ----------
    .. [1] Y. Wu, R. Yu, X. Cheng, Z. He, X. Huang, "Pursuing Feature Separation based on Neural
       Collapse for Out-of-Distribution Detection", ICLR 2025, arXiv:2405.17816.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import OrthLossOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> rng = np.random.RandomState(0)
    >>> outliers = np.apply_along_axis(rng.permutation, 1, X)
    >>> detector = OrthLossOODDetector(max_epochs=5, pretrain_epochs=5, random_state=0)
    >>> X_all, y_all = np.concatenate([X, outliers]), np.concatenate([y, np.full(len(X), -1)])
    >>> detector.fit(X_all, y_all).classes_
    array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    >>> unseen = rng.uniform(0, 16, size=X.shape)
    >>> detector.predict(unseen[:5])
    array([-1, -1, -1, -1, -1])
    """

    _takes_any_form: ClassVar[bool] = True
    _parameter_constraints: dict[str, Any] = {
        **BaseOODDetector._parameter_constraints,
        "oe_weight": [Interval(Real, 0, None, closed="left")],
        "sep_weight": [Interval(Real, 0, None, closed="left")],
        "clu_weight": [Interval(Real, 0, None, closed="left")],
        "sep_reduction": [StrOptions({"mean", "sum"})],
        "energy_margins": [tuple, list, None],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "pretrain_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "stage2_start": [
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="left"),
        ],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "outlier_ratio": [Interval(Real, 0, None, closed="neither")],
        "synthetic_outliers": [StrOptions({"auto", *KINDS}), None],
        "ood_score": [StrOptions({"fused", *SCORE_NAMES})],
        "head": [str, None],
        "callbacks": [list, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        oe_weight: float = 0.5,
        sep_weight: float = 1.0,
        clu_weight: float = 1.0,
        sep_reduction: str = "mean",
        energy_margins: tuple[float, float] | None = None,
        pretrain_epochs: int | str = "auto",
        pretrain_learning_rate: float = 0.1,
        max_epochs: int | str = "auto",
        stage2_start: float = 0,
        learning_rate: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 64,
        outlier_ratio: float = 1.0,
        outlier_label: Any = -1,
        synthetic_outliers: str | None = "auto",
        ood_score: str = "fused",
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.2,
        head: str | None = None,
        callbacks: list[Any] | None = None,
        device: str | torch.device | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.estimator = estimator
        self.oe_weight = oe_weight
        self.sep_weight = sep_weight
        self.clu_weight = clu_weight
        self.sep_reduction = sep_reduction
        self.energy_margins = energy_margins
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.max_epochs = max_epochs
        self.stage2_start = stage2_start
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.outlier_ratio = outlier_ratio
        self.synthetic_outliers = synthetic_outliers
        self.ood_score = ood_score
        self.head = head
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose

    @classmethod
    def from_paper(cls, **params: Any) -> Self:
        """Create a detector with the settings of the paper.

        It sets ``ood_score="msp+cos"``, ``sep_reduction="sum"``, ``stage2_start=0.5`` and
        ``outlier_ratio=2.0``. These are the settings of the authors' code for CIFAR, which produced
        their tables. They differ from equations 4 and 6 of the paper in one respect: the code sums
        over the classes where the equations take the mean.

        Parameters
        ----------
        **params
            Other parameters of the detector. They override the settings of the paper.

        Returns
        -------
        OrthLossOODDetector
            An unfitted detector.
        """
        paper: dict[str, Any] = {
            "ood_score": "msp+cos",
            "sep_reduction": "sum",
            "stage2_start": 0.5,
            "outlier_ratio": 2.0,
        }
        return cls(**{**paper, **params})

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: AnySamples, y: ArrayLike | None = None, *, outliers: AnySamples | None = None
    ) -> Self:
        """Fine-tune the classifier with outliers, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), tensor, dict of arrays, or Dataset
            Training samples, in any form that a :class:`NetClassifier` takes.
        y : array-like of shape (n_samples,), default=None
            Class labels. Samples labeled `outlier_label` are known outliers. May be None only if X
            is a dataset, whose labels are used.
        outliers : array-like, tensor, dict of arrays, or Dataset, default=None
            More outliers, of the same shape as the samples in X. Targets in a dataset are ignored.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the input is not finite or has a wrong shape, labels are missing, name fewer than two
            classes or are unknown to the fitted classifier, a parameter is out of range, or
            training diverges.
        """
        data = {"X": X, "y": y, "metadata": None}
        samples, rng = self._start_fit(X, y)
        labels = cast(Array, samples.y)  # not None, because this detector needs labels
        config = self._config(n_samples_of(samples.X))
        n_epochs = config.max_epochs + (config.pretrain_epochs if self.estimator is None else 0)
        context = self._init_callback_context(max_subtasks=n_epochs)
        context.call_on_fit_task_begin(estimator=self, **data)

        def reporter(training: str) -> AfterEpoch:
            def after_epoch(net: skorch.NeuralNetClassifier) -> bool:
                self._print(training, net)
                task = context.subcontext(training).call_on_fit_task_begin(estimator=self)
                return task.call_on_fit_task_end(
                    estimator=self,
                    reconstruction_attributes=lambda: self._attributes_with(net, samples, rng),
                    **data,
                )

            return after_epoch

        known = self._known_outliers(samples.X_outliers, outliers)
        X_outliers = self._made_outliers(samples.X, labels, rng) if known is None else known
        net = self._pretrained(samples.X, labels, config, rng, reporter("pretraining"))
        known_codes(net, samples)  # unknown labels are refused before the training
        if known is None and takes_integers(net, samples.X):
            raise ValueError(
                "synthetic_outliers cannot be made from integers that the module looks up, such "
                "as token ids. Pass known outliers."
            )
        result = fine_tune_with_outliers(
            net,
            samples.X,
            labels,
            X_outliers,
            config,
            rng,
            outlier_label=self.outlier_label,
            callbacks=self.callbacks,
            device=self.device,
            after_epoch=reporter("fine-tuning"),
        )
        self.n_outliers_ = n_samples_of(X_outliers)
        self.is_synthetic_ = known is None
        self._use(result, samples, rng)
        context.call_on_fit_task_end(estimator=self, reconstruction_attributes=lambda: {}, **data)
        return self

    def _use(
        self, result: OrthLossResult, samples: TrainingSamples, rng: np.random.RandomState
    ) -> None:
        """Set the fitted attributes of the net, its score, and the threshold."""
        net = result.classifier
        self.classifier_, self.classes_, self.head_ = net, class_labels(net), result.head
        self.weight_rows_, self.row_basis_ = result.weight_rows, result.row_basis
        self.separation_, self.history_ = result.separation, net.history
        self.fused_score_ = None
        if self.ood_score == "fused":
            X_reference, samples = split_held_out(samples, rng)
            self.fused_score_ = FusedScore.fit(
                [*default_detectors(), _RowSpaceDetector()],
                features_of(net, samples.X, self.head_.name),
                cast(Tensor, known_codes(net, samples)),
                features_of(net, X_reference, self.head_.name),
                self.head_,
                classes=self.classes_,
            )
        self._set_offset(samples)

    def _attributes_with(
        self,
        net: skorch.NeuralNetClassifier,
        samples: TrainingSamples,
        rng: np.random.RandomState,
    ) -> dict[str, Any]:
        """Return the fitted attributes as if training had ended with the present weights."""
        result = result_of(copied_net(net), samples.larger_part, self.head, {})
        detector = copy.copy(self)
        detector._use(result, samples, copy.deepcopy(rng))
        return {name: v for name, v in vars(detector).items() if name.endswith("_")}

    def _print(self, training: str, net: skorch.NeuralNetClassifier) -> None:
        if self.verbose:
            loss, epoch = net.history[-1, "train_loss"], f"{len(net.history)}/{net.max_epochs}"
            print(f"[{type(self).__name__}] {training} epoch {epoch}, loss {loss:.4g}")

    def _config(self, n_samples: int) -> OrthLossConfig:
        """Return the settings of the fit, with a number for each "auto"."""
        margins = self.energy_margins
        if margins is not None:
            numbers = len(margins) == 2 and all(isinstance(m, Real) for m in margins)
            if not (numbers and margins[0] < margins[1]):
                raise ValueError(
                    "energy_margins must be None or two numbers, the first (for inliers) below "
                    f"the second (for outliers), got {margins!r}."
                )
        n_batches = n_minibatches(n_samples, self.batch_size)
        return OrthLossConfig(
            oe_weight=self.oe_weight,
            sep_weight=self.sep_weight,
            clu_weight=self.clu_weight,
            sep_reduction=self.sep_reduction,
            energy_margins=margins,
            pretrain_epochs=_n_epochs(self.pretrain_epochs, n_batches, _MOST_PRETRAIN_EPOCHS),
            pretrain_learning_rate=self.pretrain_learning_rate,
            max_epochs=_n_epochs(self.max_epochs, n_batches, _MOST_EPOCHS),
            stage2_start=self.stage2_start,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            outlier_ratio=self.outlier_ratio,
            head=self.head,
        )

    def _known_outliers(self, labeled: AnySamples, given: AnySamples | None) -> AnySamples | None:
        """Return the labeled outliers together with those in `outliers`, or None without any."""
        if given is None:
            return labeled if n_samples_of(labeled) else None
        checked = validate_input(self, given, reset=False, any_form=True)
        return concatenated(labeled, checked) if n_samples_of(labeled) else checked

    def _made_outliers(self, X: AnySamples, y: Array, rng: np.random.RandomState) -> FloatArray:
        if self.synthetic_outliers is None:
            raise ValueError(
                f"No sample is labeled outlier_label={self.outlier_label!r}, and with "
                "synthetic_outliers=None none are made."
            )
        if not isinstance(X, (np.ndarray, Tensor)):
            raise ValueError(
                f"synthetic_outliers are made from arrays and tensors, got {type(X).__name__}. "
                "Pass known outliers."
            )
        arrays = to_numpy(X).astype(np.float32, copy=False)
        made = make_synthetic_outliers(arrays, y, self.synthetic_outliers, rng)
        warn_caller(
            f"No sample is labeled outlier_label={self.outlier_label!r}: training on {len(made)} "
            f"outliers made from the samples (synthetic_outliers={self.synthetic_outliers!r}). "
            "Samples known to belong to no class work better."
        )
        return made

    def _pretrained(
        self,
        X: AnySamples,
        y: Array,
        config: OrthLossConfig,
        rng: np.random.RandomState,
        after_epoch: AfterEpoch,
    ) -> skorch.NeuralNetClassifier:
        if self.estimator is not None:
            return fitted_copy(self.estimator, X, y, random_state=draw_seed(rng))
        return pretrain(X, y, config, rng, device=self.device, after_epoch=after_epoch)

    def _score_samples(self, X: AnySamples) -> FloatArray:
        features = features_of(self.classifier_, X, self.head_.name)
        if self.ood_score == "fused":
            if self.fused_score_ is None:
                raise ValueError(
                    "ood_score='fused' combines detectors that `fit` makes, but the detector was "
                    "fitted with another ood_score. Fit it again."
                )
            return self.fused_score_(features)
        basis = tensor_like(features, self.row_basis_)
        return named_score(self.ood_score, features, self.head_, basis).cpu().numpy()


class _RowSpaceDetector(BasePostHocDetector):
    """The score that the separation loss trains, as a member of the fusion."""

    def _score(self, features: Tensor, head: Head) -> Tensor:
        weight, _ = head.tensors(features.device)
        return row_space_score(features, row_space_basis(weight))


def _n_epochs(asked: int | str, n_batches: int, limit: int) -> int:
    if not isinstance(asked, str):
        return asked
    return min(max(round(_STEPS / n_batches), _FEWEST_EPOCHS), limit)
