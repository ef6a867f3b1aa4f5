"""NatMU: unlearning with blends of samples to forget and retained samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import AnySamples, device_of, head_of
from ...utils._atomic import atomic_fit
from ...utils._typing import FloatArray, IntArray
from ...utils._warnings import warn_caller
from ...utils.compat import with_callbacks
from .._forget_request import ForgetRequest
from ..steps import FineTuneConfig, FineTuning, Monitor, Record, private_randomness
from ._base import BaseFineTuner, Task
from ._natmu_blending import (
    blended_samples,
    gradual_masks,
    match_samples,
    rank_classes,
    uniform_masks,
)
from ._net_data import Loss, NetData, retained_targets
from ._trust_region import DEFAULT_LIMIT, RetainedLimit, TrustRegion

_N_BLENDS = 4
_RANGE_BATCH = 1024
_MAX_STORED_BYTES = 2**26  # larger sets of blends are computed batch by batch


@dataclass(frozen=True)
class NatMUConfig:
    """Settings of :func:`natmu`; the parameters mean the same as in :class:`NatMUUnlearner`.

    Parameters
    ----------
    training : FineTuneConfig
        Settings of the fine-tuning.
    delta : float, default=-0.05
        Shift of the weight of the sample to forget.
    n_hybrids : int or "auto", default="auto"
        Blends of each sample to forget.
    mask : {"auto", "gradual", "uniform"}, array-like or callable, default="auto"
        Weights of the sample to forget.
    reinit_head : bool or "auto", default=False
        Whether the last linear layer starts from new weights.
    head : str or None, default=None
        Name of that layer; None means the last :class:`torch.nn.Linear`.
    resample : bool, default=False
        Whether retained samples are drawn again in each epoch.
    augment : callable or None, default=None
        Applied to the retained samples of each batch.
    feature_range : "auto", pair of float or None, default="auto"
        Range to which blends are clipped.
    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the retained samples: probabilities of the original network, or labels.
    limit : RetainedLimit, default=RetainedLimit()
        How much accuracy on retained samples may be lost.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import NatMUConfig
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> NatMUConfig(FineTuneConfig(learning_rate=5e-3)).delta
    -0.05
    """

    training: FineTuneConfig
    delta: float = -0.05
    n_hybrids: int | str = "auto"
    mask: Any = "auto"
    reinit_head: bool | str = False
    head: str | None = None
    resample: bool = False
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None
    feature_range: str | tuple[float, float] | None = "auto"
    retained_targets: str = "auto"
    limit: RetainedLimit = DEFAULT_LIMIT


@dataclass(frozen=True)
class NatMUResult:
    """What :func:`natmu` returns.

    Attributes
    ----------
    history : list of dict
        One record per epoch.
    hybrid_index : ndarray of shape (n_blends, 3)
        Sample to forget, retained sample (both as indices into X) and mask of each blend.
    masks : ndarray of shape (n_masks, ...) or None
        Weights of the samples to forget; None for an empty request.
    stock_exhausted : bool
        Whether some retained samples had to be used more than once.
    """

    history: list[Record] = field(default_factory=list)
    hybrid_index: IntArray = field(default_factory=lambda: np.empty((0, 3), dtype=np.int64))
    masks: FloatArray | None = None
    stock_exhausted: bool = False


def natmu(
    module: nn.Module,
    X: Any,
    codes: IntArray | torch.Tensor,
    request: ForgetRequest,
    config: NatMUConfig,
    rng: np.random.RandomState,
    *,
    loss: Loss = cross_entropy,
    monitor: Monitor | None = None,
) -> NatMUResult:
    """Fine-tune a network in place on retained samples and their blends with the forget set [1]_.

    Parameters
    ----------
    module : torch.nn.Module
        A trained network, which is changed in place and stays in evaluation mode.
    X : array, tensor or reader
        Training data of the network, as in :class:`NetData`.
    codes : array or tensor of int64 of shape (n_samples,)
        Class indices of the samples.
    request : ForgetRequest
        The samples to forget and to retain.
    config : NatMUConfig
        Settings of the method.
    rng : numpy.random.RandomState
        Source of all random draws.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the network and targets to the mean loss of a batch or, with
        ``reduction="none"``, to the losses of its samples.
    monitor : Monitor, default=None
        Follows the epochs.

    Returns
    -------
    NatMUResult

    Raises
    ------
    ValueError
        If `mask` or `feature_range` does not suit the samples, or a head that needs new weights is
        frozen.
    TypeError
        If the network takes no real numbers, but integers or several inputs.

    References
    ----------
    .. [1] Z. He, T. Li, X. Cheng, Z. Huang, X. Huang, "Towards Natural Machine Unlearning",
       arXiv:2405.15495, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import NatMUConfig, natmu
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> request = ForgetRequest.from_user(y == 2, len(y))
    >>> config = NatMUConfig(FineTuneConfig(learning_rate=5e-3))
    >>> result = natmu(net.module_, X, y, request, config, np.random.RandomState(0))
    >>> result.hybrid_index.shape  # two blends of each of the 50 samples to forget
    (100, 3)
    """
    if request.is_empty:
        return NatMUResult()
    with private_randomness(rng, device_of(module)) as generator:
        data = NetData(module, X, codes, request, loss)
        present = data.present()
        forget_codes = data.codes[data.forget]
        scores = data.outputs(data.forget)
        ranking = rank_classes(
            scores.cpu().numpy(), forget_codes.cpu().numpy(), present.cpu().numpy()
        )
        n_blends = _n_blends(config, ranking)
        sample = _blendable(data.inputs(data.forget[:1]))[0]
        masks = _masks(config, n_blends, tuple(sample.shape))
        mask_tensor = torch.as_tensor(masks.astype(np.float32), device=data.device)
        limits = _limits(config, data)
        retained_codes = data.codes[data.retain].cpu().numpy()
        reinit_head = config.reinit_head
        if isinstance(reinit_head, str):
            reinit_head = not bool(present[forget_codes].all())
        index, exhausted = match_samples(ranking, retained_codes, n_blends, rng)
        targets = labels = retained_targets(data, config.retained_targets)
        if targets.ndim == 2:
            labels = nn.functional.one_hot(data.codes, data.n_classes).float()
        region = TrustRegion(data, config.limit, rng)
        if reinit_head:
            region.start_anew()
            weight = head_of(module, config.head).weight
            if not weight.requires_grad:
                raise ValueError(
                    f"reinit_head={config.reinit_head!r} gives the head new weights, which must "
                    "be trained, but the head is frozen."
                )
            nn.init.xavier_normal_(weight, gain=math.sqrt(2))
        n_retained = len(data.retain)
        n_samples = n_retained + len(index)
        run = FineTuning(
            data.module, n_samples, loss, config.training, generator, monitor=monitor, guard=region
        )
        blend_index, blends = torch.as_tensor(index), None
        stored = len(index) * sample.numel() * sample.element_size() <= _MAX_STORED_BYTES
        run.begin()
        for epoch in range(run.n_epochs):
            if config.resample:
                index, exhausted = match_samples(ranking, retained_codes, n_blends, rng)
                blend_index = torch.as_tensor(index)
            if stored and (epoch == 0 or config.resample):
                blends = blended_samples(data, blend_index, mask_tensor, limits)
            for batch in run.batches():
                retained = data.retain[batch[batch < n_retained]]
                which = batch[batch >= n_retained] - n_retained
                inputs = data.inputs(retained)
                if config.augment is not None and len(inputs):
                    inputs = config.augment(inputs)  # blends would no longer match their masks
                if blends is None:
                    injected = blended_samples(data, blend_index[which], mask_tensor, limits)
                else:
                    injected = blends[which]
                blended = labels[data.retain[blend_index[which, 1]]]
                run.step(torch.cat([inputs, injected]), torch.cat([targets[retained], blended]))
            if run.end_epoch():
                break
        data.module.eval()
        region.close()
    hybrid_index = np.column_stack(
        [request.forget[index[:, 0]], request.retain[index[:, 1]], index[:, 2]]
    )
    return NatMUResult(run.history, hybrid_index, masks, exhausted)


def _blendable(inputs: Any) -> torch.Tensor:
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
        return inputs
    kind = f"{inputs.dtype} values" if isinstance(inputs, torch.Tensor) else type(inputs).__name__
    raise TypeError(
        "NatMU blends samples, so that X must contain real numbers such as features or pixels, but "
        f"the network takes {kind}. Use MUSOUnlearner or SFRonUnlearner."
    )


def _n_blends(config: NatMUConfig, ranking: list[IntArray]) -> int:
    n_other = min(len(classes) for classes in ranking)
    if isinstance(config.n_hybrids, str):
        return min(_N_BLENDS, n_other)
    if config.n_hybrids > n_other:
        warn_caller(
            f"n_hybrids={config.n_hybrids} exceeds the number of other classes of some samples to "
            f"forget; {n_other} blends per sample are used."
        )
    return min(config.n_hybrids, n_other)


def _masks(config: NatMUConfig, n_masks: int, sample_shape: tuple[int, ...]) -> FloatArray:
    mask = config.mask
    if isinstance(mask, str):
        is_table = len(sample_shape) == 1
        if mask == "uniform" or (mask == "auto" and is_table):
            return uniform_masks(n_masks, config.delta).reshape(n_masks, *[1] * len(sample_shape))
        if is_table:
            raise ValueError(
                "mask='gradual' requires images, but each sample in X is a vector of features; "
                "use mask='uniform'."
            )
        height, width = sample_shape[-2:]
        masks = gradual_masks(height, width, n_masks, config.delta)
        return masks[:, None] if len(sample_shape) > 2 else masks
    masks = np.asarray(mask(n_masks, sample_shape) if callable(mask) else mask, dtype=np.float64)
    if masks.shape != (n_masks, *sample_shape) or masks.min() < 0 or masks.max() > 1:
        raise ValueError(
            f"mask must be or return an array of shape {(n_masks, *sample_shape)} with entries in "
            f"[0, 1], got shape {masks.shape} with entries in "
            f"[{masks.min():.3g}, {masks.max():.3g}]."
        )
    return masks


def _limits(config: NatMUConfig, data: NetData) -> tuple[float, float] | None:
    limits = config.feature_range
    if limits is None:
        return None
    if isinstance(limits, str):
        ranges = [data.inputs(batch).aminmax() for batch in data.retain.split(_RANGE_BATCH)]
        return min(low.item() for low, _ in ranges), max(high.item() for _, high in ranges)
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise ValueError(
            f"feature_range must be a pair (low, high) with low < high, got {limits!r}."
        )
    return limits[0], limits[1]


class NatMUUnlearner(BaseFineTuner):
    r"""Natural machine unlearning (NatMU): blend retained content into the samples to forget.

    Every sample to forget is blended with retained samples of other classes, those to which the
    original model gives the largest probabilities. The blends carry the labels of the retained
    samples, which are correct for a part of each blend. The network is then fine-tuned on the
    retained samples and the blends, so that it learns to rely on the retained content and to
    ignore the rest.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    delta : float, default=-0.05
        Added to the weight of the sample to forget at every position; this weight is 0.47 on
        average. With -1 a blend contains only the retained sample, with 1 only the sample to
        forget. Smaller values suit random samples, values around 0 suit whole classes.

    n_hybrids : int or "auto", default="auto"
        Blends of each sample to forget, each with a retained sample of a different class. "auto"
        means four, or the number of other classes if that is smaller.

    mask : {"auto", "gradual", "uniform"}, array-like or callable, default="auto"
        Weights of the sample to forget. "gradual" varies across an image, "uniform" is one weight
        for all features, and "auto" is "gradual" for images and "uniform" for tables. An array has
        the shape ``(n_hybrids, *sample_shape)``. A callable takes the number of masks and the shape
        of a sample, and returns such an array. `delta` shifts named masks only.

    reinit_head : bool or "auto", default=False
        Whether the last linear layer starts from new weights. "auto" means True if a class loses
        all its samples. Small networks then need more epochs.

    head : str or None, default=None
        Name of that layer. None means the last :class:`torch.nn.Linear`.

    resample : bool, default=False
        Whether retained samples are drawn again in each epoch.

    augment : callable or None, default=None
        Applied to the retained samples of each batch, a tensor. Blends are never augmented.

    feature_range : "auto", pair of float or None, default="auto"
        Range to which blends are clipped. "auto" means the range of the retained samples;
        with None, blends are not clipped.

    learning_rate : float, default=5e-3
        Initial learning rate, which decays to 0 along half a cosine. Large networks need about
        1e-3. If it is too small, too little is forgotten.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the retained samples: the probabilities of the original network, which keep it as
        it is on them, or their labels, as in the paper, which train it further.
        "auto" means the probabilities, or the labels if the loss of the network does not take
        probabilities.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None: unlimited.

    on_retained_loss : {"warn", "raise"}, default="warn"
        What `fit` does if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    hybrid_index_ : ndarray of shape (n_blends, 3)
        Sample to forget, retained sample (both as indices into X) and mask of each blend.

    masks_ : ndarray of shape (n_masks, \*sample_shape)
        Weights of the sample to forget, up to axes of length one.

    stock_exhausted_ : bool
        Whether some retained samples had to be used more than once.

    n_steps_ : int
        Number of optimizer steps.

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MUSOUnlearner : Changes the labels of the samples to forget, not the samples.

    References
    ----------
    .. [1] Z. He, T. Li, X. Cheng, Z. Huang, X. Huang, "Towards Natural Machine Unlearning",
       arXiv:2405.15495, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import NatMUUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = NatMUUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.2)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseFineTuner._parameter_constraints,
        "delta": [Interval(Real, -1, 1, closed="both")],
        "n_hybrids": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "mask": [StrOptions({"auto", "gradual", "uniform"}), "array-like", callable],
        "reinit_head": ["boolean", StrOptions({"auto"})],
        "head": [str, None],
        "resample": ["boolean"],
        "augment": [callable, None],
        "retained_targets": [StrOptions({"auto", "outputs", "labels"})],
        "feature_range": [StrOptions({"auto"}), list, tuple, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        delta: float = -0.05,
        n_hybrids: int | str = "auto",
        mask: str | ArrayLike | Callable[..., ArrayLike] = "auto",
        reinit_head: bool | str = False,
        head: str | None = None,
        resample: bool = False,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        feature_range: str | tuple[float, float] | None = "auto",
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        retained_targets: str = "auto",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )
        self.delta = delta
        self.n_hybrids = n_hybrids
        self.mask = mask
        self.reinit_head = reinit_head
        self.head = head
        self.resample = resample
        self.augment = augment
        self.feature_range = feature_range
        self.retained_targets = retained_targets

    @classmethod
    def from_paper(cls, estimator: Any = None, **params: Any) -> Self:
        """Return the unlearner with the settings that the authors use for CIFAR.

        This sets four blends with gradual masks per sample to forget, new weights of the last
        layer if a class loses all its samples, five epochs, and a learning rate of 1e-3, as in
        the paper and the code of its authors. Small networks need a larger rate.

        Parameters
        ----------
        estimator : skorch classifier, FrozenEstimator or None, default=None
            The model to unlearn from, a network for images.
        **params
            Other parameters of the class, which take precedence.

        Returns
        -------
        NatMUUnlearner
            The unfitted estimator.
        """
        published: dict[str, Any] = {
            "mask": "gradual",
            "n_hybrids": 4,
            "reinit_head": "auto",
            "max_epochs": 5,
            "learning_rate": 1e-3,
            "retained_targets": "labels",
            "retained_tolerance": None,
        }
        return cls(estimator, **published | params)

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: AnySamples, y: ArrayLike | None = None, *, forget: ArrayLike | None = None
    ) -> Self:
        """Fit the original model unless it is fitted already, then forget some of its samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Training data of the original model, including the samples to forget. A tensor, a dict
            of arrays or a map-style :class:`torch.utils.data.Dataset` is read batch by batch.
        y : array-like of shape (n_samples,) or None, default=None
            Class labels of the samples. None takes them from a dataset.
        forget : array-like of bool of shape (n_samples,), or of int, default=None
            Mask or indices of the samples to forget. With None, nothing is forgotten, and
            `estimator_` is a copy of the original model. In cross-validation, pass a mask: it is
            split together with the samples.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y is not finite or has the wrong shape, `forget`
            selects no sample, all samples, a sample twice or one that does not exist, `forget` is a
            mask of the wrong length, fewer than two classes would be left, or the training produces
            weights that are not finite.
        TypeError
            If `estimator` is not a skorch classifier, or `forget` is neither a mask nor indices.
        """
        task = self._begin(X, y, forget)
        result = natmu(
            task.net.module_,
            task.X,
            task.codes,
            task.request,
            self._config(task),
            task.rng,
            loss=task.loss,
            monitor=task.monitor,
        )
        self._finish(task)
        masks = result.masks
        self.masks_ = np.empty((0, *(self.input_shape_ or ()))) if masks is None else masks
        self.hybrid_index_ = result.hybrid_index
        self.stock_exhausted_ = result.stock_exhausted
        self.n_steps_ = int(result.history[-1]["n_steps"]) if result.history else 0
        self.history_ = result.history
        return self

    def _config(self, task: Task) -> NatMUConfig:
        return NatMUConfig(
            training=self._training(task),
            delta=self.delta,
            n_hybrids=self.n_hybrids,
            mask=self.mask,
            reinit_head=self.reinit_head,
            head=self.head,
            resample=self.resample,
            augment=self.augment,
            feature_range=self.feature_range,
            retained_targets=self.retained_targets,
            limit=self._limit(),
        )
