"""OrthLoss as plain functions: train the default net, and fine-tune any net with outliers."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import skorch
import torch
from skorch.callbacks import Callback
from torch import nn

from ...neural import (
    AnySamples,
    CosineDecay,
    Head,
    NetClassifier,
    SmallCNN,
    StopTraining,
    class_labels,
    concatenated,
    draw_seed,
    n_samples_of,
    resolve_device,
    sample_shape,
)
from ...utils._typing import Array, FloatArray
from ...utils._warnings import warn_caller
from .._classifier_outputs import features_of, head_of_classes
from .._scores import unit_rows
from ._feature_geometry import row_space_basis, separation_diagnostics
from ._separation_net import SeparationNet

# Gets the net after an epoch, and returns whether training ends.
AfterEpoch: TypeAlias = Callable[[skorch.NeuralNetClassifier], bool]

_REPORT = "after_epoch"

# Separation needs directions that the head ignores. After a ReLU, features are non-negative, and
# such a direction almost certainly exists only with about three features per class.
_FEATURES_PER_CLASS = 3
_FEWEST_FEATURES = 128


@dataclass(frozen=True)
class OrthLossConfig:
    r"""Settings of OrthLoss. The defaults are those of :class:`OrthLossOODDetector`.

    Parameters
    ----------
    oe_weight : float, default=0.5
        Weight :math:`\lambda` of the outlier-exposure loss.

    sep_weight : float, default=1.0
        Weight :math:`\beta` of the separation loss.

    clu_weight : float, default=1.0
        Weight :math:`\alpha` of the clustering loss.

    sep_reduction : {"mean", "sum"}, default="mean"
        Reduction over classes in the separation loss.

    energy_margins : (float, float) or None, default=None
        Margins of the squared hinge losses that replace the outlier-exposure loss, if given.

    pretrain_epochs : int, default=40
        Number of epochs of plain classification.

    pretrain_learning_rate : float, default=0.1
        Initial learning rate of plain classification.

    max_epochs : int, default=20
        Number of epochs of fine-tuning.

    stage2_start : int or float in [0, 1), default=0
        First epoch that uses the feature terms, or the fraction of `max_epochs` that precedes it.

    learning_rate : float, default=0.05
        Initial learning rate of fine-tuning; it falls along half a cosine.

    momentum : float, default=0.9
        Nesterov momentum of the gradient steps.

    weight_decay : float, default=5e-4
        L2 penalty.

    batch_size : int, default=64
        Number of inliers in a step.

    outlier_ratio : float, default=1.0
        Number of outliers per inlier in a step.

    head : str or None, default=None
        Name of the linear layer whose inputs are the features. By default, it is the last one.

    See Also
    --------
    fine_tune_with_outliers : The function that takes these settings.

    Examples
    --------
    >>> from sklearn_ext.ood import OrthLossConfig
    >>> OrthLossConfig(max_epochs=5).sep_reduction
    'mean'
    """

    oe_weight: float = 0.5
    sep_weight: float = 1.0
    clu_weight: float = 1.0
    sep_reduction: str = "mean"
    energy_margins: tuple[float, float] | None = None
    pretrain_epochs: int = 40
    pretrain_learning_rate: float = 0.1
    max_epochs: int = 20
    stage2_start: float = 0
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    outlier_ratio: float = 1.0
    head: str | None = None

    def optimizer_params(self) -> dict[str, Any]:
        """Return the skorch parameters that pretraining and fine-tuning share.

        Returns
        -------
        dict of str to object
        """
        return {
            "optimizer": torch.optim.SGD,
            "optimizer__momentum": self.momentum,
            "optimizer__nesterov": self.momentum > 0,
            "optimizer__weight_decay": self.weight_decay,
            "batch_size": self.batch_size,
        }


@dataclass(frozen=True)
class OrthLossResult:
    """The result of :func:`fine_tune_with_outliers`.

    Parameters
    ----------
    classifier : skorch.NeuralNetClassifier
        The fine-tuned net, a :class:`SeparationNet`.

    weight_rows : ndarray of shape (n_classes, n_penultimate)
        Unit rows of its head.

    row_basis : ndarray of shape (n_penultimate, rank)
        Orthonormal basis of their span.

    separation : dict of dict
        Diagnostics "before" and "after" fine-tuning; see ``OrthLossOODDetector.separation_``.

    head : Head
        The head of the fine-tuned net.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.ood import OrthLossConfig, fine_tune_with_outliers
    >>> rng = np.random.RandomState(0)
    >>> X, y = rng.randn(60, 4).astype(np.float32), np.arange(60) % 3
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> result = fine_tune_with_outliers(net, X, y, 3 * X, OrthLossConfig(max_epochs=1), rng)
    >>> result.weight_rows.shape, result.row_basis.shape
    ((3, 128), (128, 3))
    """

    classifier: skorch.NeuralNetClassifier
    weight_rows: FloatArray
    row_basis: FloatArray
    separation: dict[str, dict[str, float]]
    head: Head


class OrderedBatchNorm(nn.BatchNorm1d):
    """Batch normalization whose sums over samples are the same on any number of threads.

    PyTorch adds up the rows of a table in one part per thread, but adds up the positions of a
    single long sample in order.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood.orthloss._fine_tuning import OrderedBatchNorm
    >>> OrderedBatchNorm(2, affine=False)(torch.tensor([[1.0, 0.0], [3.0, 8.0]])).round()
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features.T.contiguous()[None])[0].T


class NormalizedMLP(nn.Sequential):
    """A multi-layer perceptron with batch normalization before each ReLU except the last.

    Normalization makes plain gradient steps work for inputs of any scale. Right before the
    features, it would activate each feature on a fixed fraction of every batch, which would prevent
    the features of outliers from differing from those of the classes.

    Parameters
    ----------
    n_features : int
    n_outputs : int
    hidden_sizes : sequence of int, default=(256, 128)

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood.orthloss._fine_tuning import NormalizedMLP
    >>> NormalizedMLP(8, 3)(torch.randn(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, n_features: int, n_outputs: int, hidden_sizes: Sequence[int] = (256, 128)
    ) -> None:
        layers: list[nn.Module] = []
        for k, width in enumerate(hidden_sizes, start=1):
            layers.append(nn.Linear(n_features, width))
            if k < len(hidden_sizes):
                layers.append(OrderedBatchNorm(width))
            layers.append(nn.ReLU())
            n_features = width
        super().__init__(nn.Flatten(), *layers, nn.Linear(n_features, n_outputs))


def wide_module(input_shape: Sequence[int], n_classes: int) -> NormalizedMLP | SmallCNN:
    """Build a small network with at least 128 features and three features per class.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one sample: (features,), (height, width) or (channels, height, width).
    n_classes : int

    Returns
    -------
    NormalizedMLP or SmallCNN
    """
    width = max(_FEWEST_FEATURES, _FEATURES_PER_CLASS * n_classes)
    if len(input_shape) == 1:
        return NormalizedMLP(input_shape[0], n_classes, hidden_sizes=(256, width))
    return SmallCNN(math.prod(input_shape[:-2]), n_classes, widths=(16, 32, width))


def pretrain(
    X: AnySamples,
    y: Array,
    config: OrthLossConfig,
    rng: np.random.RandomState,
    *,
    device: str | torch.device | None = None,
    after_epoch: AfterEpoch | None = None,
) -> skorch.NeuralNetClassifier:
    """Train the default network by plain classification.

    Parameters
    ----------
    X : samples in any form
        Each sample is a single array.
    y : ndarray of shape (n,)
        Class labels.
    config : OrthLossConfig
    rng : RandomState
    device : str, torch.device or None, default=None
        None means the CPU.
    after_epoch : callable or None, default=None
        Called with the net after each epoch. Training ends if it returns True.

    Returns
    -------
    NetClassifier
        The fitted net.

    Raises
    ------
    ValueError
        If a sample is not a single array.
    """
    shape = sample_shape(X)
    if shape is None:
        raise ValueError(
            "The default network is chosen for samples that are single arrays. Pass a net as "
            "estimator."
        )
    net = NetClassifier(
        wide_module,
        module__input_shape=shape,
        module__n_classes=len(np.unique(y)),
        lr=config.pretrain_learning_rate,
        max_epochs=config.pretrain_epochs,
        callbacks=[("learning_rate", CosineDecay())],
        device=resolve_device(device),
        random_state=draw_seed(rng),
        verbose=0,
        **config.optimizer_params(),
    )
    with _reported(net, after_epoch):
        return net.fit(X, y)


def fine_tune_with_outliers(
    net: skorch.NeuralNetClassifier,
    X: AnySamples,
    y: Array,
    X_outliers: AnySamples,
    config: OrthLossConfig,
    rng: np.random.RandomState,
    *,
    outlier_label: Any = -1,
    callbacks: Sequence[Any] | None = None,
    device: str | torch.device | None = None,
    after_epoch: AfterEpoch | None = None,
) -> OrthLossResult:
    """Fine-tune a copy of a fitted net so that features of outliers are orthogonal to its head.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
        The fitted net. It is not changed.
    X : float32 ndarray of shape (n, ...), or samples in another form that `net` takes
        In-distribution samples.
    y : ndarray of shape (n,)
        Class labels known to `net`.
    X_outliers : float32 ndarray of shape (n_outliers, ...), or samples in another form
        Samples that belong to no class.
    config : OrthLossConfig
        Its settings for pretraining are not used here.
    rng : RandomState
        Source of all randomness.
    outlier_label : int or str, default=-1
        Label that the returned net uses for outliers.
    callbacks : list of skorch callbacks or None, default=None
        Callbacks of the fine-tuning.
    device : str, torch.device or None, default=None
        Where to train. By default, it is the device of `net`.
    after_epoch : callable or None, default=None
        Called with the net after each epoch. Training ends if it returns True.

    Returns
    -------
    OrthLossResult

    Raises
    ------
    ValueError
        If the outputs of the net are not those of a linear layer with one output per class, or
        training diverges.

    Warns
    -----
    UserWarning
        If the head has fewer than two features per class.

    See Also
    --------
    OrthLossOODDetector : The detector that calls this function.
    separation_loss : The loss that turns the features of outliers away.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.ood import OrthLossConfig, fine_tune_with_outliers
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype(np.float32)
    >>> net = NetClassifier(random_state=0).fit(X[y < 8], y[y < 8])
    >>> config, rng = OrthLossConfig(max_epochs=5), np.random.RandomState(0)
    >>> result = fine_tune_with_outliers(net, X[y < 8], y[y < 8], X[y >= 8], config, rng)
    >>> {when: round(found["outlier_cosine"], 1) for when, found in result.separation.items()}
    {'before': 0.2, 'after': 0.1}
    """
    labels = class_labels(net)
    head = head_of_classes(net, X, labels, config.head)
    _warn_of_few_features(head)
    before = _diagnostics(net, X, X_outliers, head)
    tuned = SeparationNet.from_net(
        net,
        lr=config.learning_rate,
        max_epochs=config.max_epochs,
        oe_weight=config.oe_weight,
        sep_weight=config.sep_weight,
        clu_weight=config.clu_weight,
        sep_reduction=config.sep_reduction,
        energy_margins=config.energy_margins,
        stage2_start=config.stage2_start,
        outlier_ratio=config.outlier_ratio,
        outlier_label=outlier_label,
        head=head.name,
        callbacks=callbacks,
        device=net.device if device is None else resolve_device(device),
        random_state=draw_seed(rng),
        verbose=0,
        **config.optimizer_params(),
    )
    # The type of the labels may be unable to hold the outlier label, so both become objects.
    marks = np.full(n_samples_of(X_outliers), outlier_label, dtype=object)
    y_all = np.concatenate([y.astype(object), marks])
    samples = concatenated(X, X_outliers)
    with (
        _reported(tuned, after_epoch),
        tuned.training_loop(samples, y_all, classes=labels) as train,
    ):
        train()
    after = _diagnostics(tuned, X, X_outliers, head_of_classes(tuned, X, labels, head.name))
    return result_of(tuned, X, head.name, {"before": before, "after": after})


def result_of(
    net: skorch.NeuralNetClassifier,
    X: AnySamples,
    head: str | None,
    separation: dict[str, dict[str, float]],
) -> OrthLossResult:
    """Return a net as the result of a fine-tuning, with the directions of its head.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
    X : samples in any form
        Samples on which the head is checked.
    head : str or None
        Name of the linear layer.
    separation : dict of dict
        Diagnostics; see :class:`OrthLossResult`.

    Returns
    -------
    OrthLossResult
    """
    found = head_of_classes(net, X, class_labels(net), head)
    weight, _ = found.tensors()
    return OrthLossResult(
        classifier=net,
        weight_rows=unit_rows(weight).numpy(),
        row_basis=row_space_basis(weight).numpy(),
        separation=separation,
        head=found,
    )


class _Report(Callback):
    """Call a function with the net after each epoch, and end the training if it returns True."""

    def __init__(self, after_epoch: AfterEpoch) -> None:
        self.after_epoch = after_epoch

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        if self.after_epoch(net):
            raise StopTraining


@contextlib.contextmanager
def _reported(net: skorch.NeuralNet, after_epoch: AfterEpoch | None) -> Iterator[None]:
    """Report the epochs of a training in a ``with`` block; the net does not keep the callback."""
    if after_epoch is None:
        yield
        return
    given = net.callbacks
    net.callbacks = [*(given or []), (_REPORT, _Report(after_epoch))]
    try:
        yield
    finally:
        net.callbacks = given
        net.callbacks_ = [pair for pair in getattr(net, "callbacks_", []) if pair[0] != _REPORT]


def _warn_of_few_features(head: Head) -> None:
    n_classes, n_features = head.weight.shape
    if n_features < 2 * n_classes:
        warn_caller(
            f"The head has {n_features} features for {n_classes} classes. Outliers need features "
            "that are orthogonal to all classes; with fewer than two features per class such "
            "features may not exist."
        )


def _diagnostics(
    net: skorch.NeuralNetClassifier, X: AnySamples, X_outliers: AnySamples, head: Head
) -> dict[str, float]:
    features = features_of(net, X, head.name)
    outlier_features = features_of(net, X_outliers, head.name)
    return separation_diagnostics(features, outlier_features, *head.tensors(features.device))
