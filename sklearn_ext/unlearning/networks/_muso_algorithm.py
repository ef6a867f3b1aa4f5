"""MUSO: unlearning with the labels that a retrained model would give."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import device_of
from ...utils._typing import FloatArray, IntArray
from ...utils._warnings import warn_caller
from .._forget_request import ForgetRequest
from ..steps import FineTuneConfig, FineTuning, Monitor, Record, private_randomness
from ._net_data import Loss, NetData, retained_targets, takes_probabilities
from ._trust_region import DEFAULT_LIMIT, RetainedLimit, TrustRegion
from .labels import (
    HeadLabels,
    UnseenOutputs,
    call_label_function,
    fit_classifier,
    fit_label_model,
    given_targets,
    held_out_samples,
    predicted_targets,
)


@dataclass(frozen=True)
class MUSOConfig:
    """Settings of :func:`muso`.

    Parameters
    ----------
    training : FineTuneConfig
        Settings of the fine-tuning.
    label_model : str, classifier, array-like or callable, default="auto"
        Estimates the labels of the samples to forget, as in :class:`MUSOUnlearner`.
    soft_targets : bool or "auto", default="auto"
        Whether the targets of the samples to forget are probabilities instead of labels.
    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the retained samples: probabilities of the original network, or labels.
    limit : RetainedLimit, default=RetainedLimit()
        Limit on the loss of accuracy on retained samples.
    retained_ratio : float in (0, 1], default=0.35
        Fraction of the retained samples that each epoch visits.
    subset_ratio : float in (0, 1], default=0.2
        Fraction of the retained samples that "head" and "projection" draw in each epoch.
    eps : float or None, default=None
        Ridge of "head" and "projection"; None means the default of the rule.
    head : str or None, default=None
        Name of the last linear layer; None means the last :class:`torch.nn.Linear`.
    initial_head : array-like of shape (n_penultimate + 1, n_classes) or None, default=None
        Head before the original training, biases in the last row; None means zero.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import MUSOConfig
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> MUSOConfig(FineTuneConfig(learning_rate=2e-3), label_model="head").subset_ratio
    0.2
    """

    training: FineTuneConfig
    label_model: Any = "auto"
    soft_targets: bool | str = "auto"
    retained_targets: str = "auto"
    limit: RetainedLimit = DEFAULT_LIMIT
    retained_ratio: float = 0.35
    subset_ratio: float = 0.2
    eps: float | None = None
    head: str | None = None
    initial_head: ArrayLike | None = None


@dataclass(frozen=True)
class MUSOResult:
    """The result of :func:`muso`.

    Attributes
    ----------
    history : list of dict
        One record per epoch.
    forget_codes : ndarray of int64 of shape (n_forget,)
        Class indices that were the targets of the samples to forget in the last epoch.
    changed_fraction : ndarray of shape (n_epochs,)
        Fraction of these class indices that differed from the true ones in each epoch.
    label_model : LabelModelSummary, estimator or None
        The fitted label model. None if labels are given, and for "head" and "projection".
    """

    history: list[Record] = field(default_factory=list)
    forget_codes: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    changed_fraction: FloatArray = field(default_factory=lambda: np.empty(0))
    label_model: Any = None


def muso(
    module: nn.Module,
    X: Any,
    codes: IntArray | torch.Tensor,
    request: ForgetRequest,
    config: MUSOConfig,
    rng: np.random.RandomState,
    *,
    classes: ArrayLike | None = None,
    initial: nn.Module | None = None,
    X_val: Any = None,
    codes_val: IntArray | torch.Tensor | None = None,
    loss: Loss = cross_entropy,
    monitor: Monitor | None = None,
) -> MUSOResult:
    """Fine-tune a network in place with the labels that a retrained model would give [1]_.

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
    config : MUSOConfig
        Settings of the method.
    rng : numpy.random.RandomState
        Source of all random draws.
    classes : array-like of shape (n_classes,), default=None
        Class labels of the outputs, which a `label_model` that is an array or a function uses.
        None means the class indices.
    initial : torch.nn.Module, default=None
        The network as it was before it was trained on the samples. Its features have never seen
        the samples to forget, so a label model may use them.
    X_val : array, tensor or reader of n_validation samples, default=None
        Samples that the network was not trained on. They show how much it has memorized, and how
        confident it is about samples that it has not seen.
    codes_val : array or tensor of int64 of shape (n_validation,), default=None
        Class indices of these samples.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the network and targets to the mean loss of a batch or, with
        ``reduction="none"``, to the losses of its samples.
    monitor : Monitor, default=None
        Follows the epochs.

    Returns
    -------
    MUSOResult

    Raises
    ------
    ValueError
        If `initial_head` has the wrong shape, or if `label_model` gives unsuitable labels.
    TypeError
        If `soft_targets` is True and `label_model` has no method ``predict_proba``.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import MUSOConfig, muso
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> request = ForgetRequest.from_user(y == 2, len(y))
    >>> config = MUSOConfig(FineTuneConfig(learning_rate=2e-3))
    >>> result = muso(net.module_, X, y, request, config, np.random.RandomState(0))
    >>> result.changed_fraction.tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if request.is_empty:
        return MUSOResult()
    with private_randomness(rng, device_of(module)) as generator:
        data = NetData(module, X, codes, request, loss)
        n_retained = len(data.retain)
        index = torch.cat([data.retain, data.forget])
        true_codes = data.codes[index]
        targets = retained_targets(data, config.retained_targets)[index]
        from_head = _is_name(config) and config.label_model in ("head", "projection")
        soft = _is_soft(config, data, from_head)
        if soft and targets.ndim == 1:
            targets = nn.functional.one_hot(targets, data.n_classes).float()
        region = TrustRegion(data, config.limit, rng)
        label_model = None
        if not from_head:
            held_out = held_out_samples(data, X_val, codes_val)
            forget_targets, label_model = _fixed_targets(
                data, config, rng, classes, initial, held_out, soft
            )
            targets[n_retained:] = _like(targets, forget_targets)
        n_anchors = math.ceil(config.retained_ratio * n_retained)
        n_visited = n_anchors + len(data.forget)
        n_epochs = config.training.n_epochs(n_visited)
        labels = None
        if from_head:
            labels = HeadLabels(
                data,
                rng,
                rule=config.label_model,
                soft=soft,
                n_epochs=n_epochs,
                subset_ratio=config.subset_ratio,
                eps=config.eps,
                head=config.head,
                initial_head=config.initial_head,
            )
        run = FineTuning(
            data.module, n_visited, loss, config.training, generator, monitor=monitor, guard=region
        )
        run.begin()
        for epoch in range(n_epochs):
            if labels is not None:
                labels.refit(epoch)
            visited = torch.cat(
                [
                    torch.randperm(n_retained, generator=generator)[:n_anchors],
                    torch.arange(n_retained, len(index)),
                ]
            )
            for chosen in run.batches():
                batch = visited[chosen]
                positions = batch[batch >= n_retained]
                if labels is not None and len(positions):
                    targets[positions] = _like(targets, labels.targets(positions - n_retained))
                run.step(data.inputs(index[batch]), targets[batch])
            forget_codes = _hard(targets[n_retained:])
            changed = (forget_codes != true_codes[n_retained:]).double().mean().item()
            if run.end_epoch(changed_fraction=changed):
                break
        data.module.eval()
        region.close()
    changed_fraction = np.array([record["changed_fraction"] for record in run.history])
    if len(changed_fraction) and not changed_fraction.any():
        warn_caller(
            "label_model returned the true label of every sample to forget, so nothing was "
            "forgotten."
        )
    final_codes = _hard(targets[n_retained:]).cpu().numpy()
    return MUSOResult(run.history, final_codes, changed_fraction, label_model)


def _is_name(config: MUSOConfig) -> bool:
    return isinstance(config.label_model, str)


def _is_soft(config: MUSOConfig, data: NetData, from_head: bool) -> bool:
    """Return whether the targets of the samples to forget are probabilities."""
    if not isinstance(config.soft_targets, str):
        return config.soft_targets
    return _is_name(config) and not from_head and takes_probabilities(data)


def _like(targets: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return class indices as one row per sample if other targets are probabilities."""
    if targets.ndim == values.ndim:
        return values.to(targets.dtype)
    return nn.functional.one_hot(values, targets.shape[1]).to(targets.dtype)


def _hard(targets: torch.Tensor) -> torch.Tensor:
    return targets.argmax(dim=1) if targets.ndim == 2 else targets


def _fixed_targets(
    data: NetData,
    config: MUSOConfig,
    rng: np.random.RandomState,
    classes: ArrayLike | None,
    initial: nn.Module | None,
    held_out: tuple[NetData, torch.Tensor] | None,
    soft: bool,
) -> tuple[torch.Tensor, Any]:
    """Return targets of the forget set that stay the same, and the model behind them, if any."""
    chosen = config.label_model
    known = np.arange(data.n_classes) if classes is None else np.asarray(classes)
    if isinstance(chosen, str):
        model = fit_label_model(data, rng, kind=chosen, initial=initial)
        unseen = UnseenOutputs(data, model, rng, held_out)
        found = unseen.probabilities(sharpen=config.soft_targets == "auto")
        return found if soft else found.argmax(dim=1), model.summary
    if hasattr(chosen, "fit"):
        if soft and not hasattr(chosen, "predict_proba"):
            raise TypeError(
                f"soft_targets=True needs a label_model with predict_proba, got {chosen!r}."
            )
        model = fit_classifier(data, chosen)
        return predicted_targets(data, model, soft), model
    values = call_label_function(data, chosen, known) if callable(chosen) else chosen
    return given_targets(data, values, soft, known), None
