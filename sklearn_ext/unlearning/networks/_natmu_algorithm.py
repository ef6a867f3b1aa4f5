"""NatMU: unlearning with blends of samples to forget and retained samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import device_of, head_of, in_single_precision
from ...utils._typing import FloatArray, IntArray
from ...utils._warnings import warn_caller
from .._forget_request import ForgetRequest
from ..steps import FineTuneConfig, FineTuning, Monitor, Record, private_randomness
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
        Number of blends of each sample to forget.
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
        Limit on the loss of accuracy on retained samples.

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
    """The result of :func:`natmu`.

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
        scores = in_single_precision(data.outputs(data.forget))  # NumPy has no bfloat16
        ranking = rank_classes(
            scores.cpu().numpy(), forget_codes.cpu().numpy(), present.cpu().numpy()
        )
        n_blends = _n_blends(config, ranking)
        sample = _blendable(data.inputs(data.forget[:1]))[0]
        masks = _masks(config, n_blends, tuple(sample.shape))
        mask_tensor = torch.as_tensor(masks.astype(np.float32)).to(sample)
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
        "NatMU blends samples, so X must contain real numbers such as features or pixels, but "
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
        ranges = [data.inputs(batch).aminmax() for batch in data.retain.split(data.batch_size)]
        return min(low.item() for low, _ in ranges), max(high.item() for _, high in ranges)
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise ValueError(
            f"feature_range must be a pair (low, high) with low < high, got {limits!r}."
        )
    return limits[0], limits[1]
