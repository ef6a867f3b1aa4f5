r"""A model of the retained samples that stands in for a retrained network.

MUSO trains with its predictions, and SFRon estimates from its accuracy when to stop. It is a ridge
regression on features that have never depended on the samples to forget, so its predictions for
them are those of a model that was not trained on them. Leave-one-out predictions of the retained
samples show how good it is, and decide between the kinds of features.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d

from ....neural import head_of, outputs_and_features
from ....utils._typing import FloatArray, IntArray
from ..._forget_request import ForgetRequest
from .._net_data import NetData, present_probabilities, probabilities

_MAX_SAMPLES = 5000  # more would not help: the number of features limits the accuracy first
_BLOCK = 512  # samples whose features are in double precision together
_N_COMPARED = 1000  # retained samples that decide between the kinds of features
_N_COMPONENTS = 500
_N_PAIRED_SAMPLES = 500  # samples whose distances determine the width of the kernel
_MOST_BYTES = 2**26  # of these samples
_N_WATCHED = 500  # retained samples whose loss shows what the network has memorized
_N_PATCHES, _N_FILTERS = 2000, 64
_LARGEST_SIDE = 32  # of an image, in pixels; larger images are averaged first
_SMALLEST_LOSS = 1e-12  # probabilities and losses are clipped from below at this value
_SMALLEST_LOG = math.log(_SMALLEST_LOSS)
_ALPHAS = 10.0 ** np.arange(-3.0, 1.5, 0.5)  # ridges, as multiples of the number of samples
_POWERS = 2.0 ** np.arange(-2.0, 5.1, 0.25)  # of probabilities
_TEMPERATURES = (1.0, 2.0, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0, 12.0, 16.0, 24.0)

# Maps the inputs of a batch to features, a tensor of shape (n, n_features).
Features = Callable[[Any], torch.Tensor]


def fourier_features(sample: torch.Tensor, rng: np.random.RandomState) -> Features:
    r"""Return random Fourier features, whose kernel width is the median distance of a sample.

    Parameters
    ----------
    sample : tensor of shape (n, ...)
        Retained samples.
    rng : numpy.random.RandomState
        Draws the frequencies.

    Returns
    -------
    callable
        Maps inputs of shape (n, ...) to the features :math:`[\cos(x W), \sin(x W)]`.
    """
    vectors = sample.flatten(start_dim=1).double()
    squares = torch.pdist(vectors).square() if len(vectors) > 1 else torch.ones(1)
    scale = math.sqrt(2.0 / max(float(squares.median()), 1e-12))
    drawn = scale * rng.standard_normal((vectors.shape[1], _N_COMPONENTS))
    frequencies = torch.as_tensor(drawn, dtype=torch.float32, device=sample.device)

    def features(inputs: torch.Tensor) -> torch.Tensor:
        phases = inputs.flatten(start_dim=1).float() @ frequencies
        return torch.cat([phases.cos(), phases.sin()], dim=1)

    return features


def patch_features(sample: torch.Tensor, rng: np.random.RandomState) -> Features:
    """Return responses to whitened patches of retained images, averaged over the quadrants [1]_.

    Parameters
    ----------
    sample : tensor of shape (n, height, width) or (n, channels, height, width)
        Retained images.
    rng : numpy.random.RandomState
        Draws the patches.

    Returns
    -------
    callable
        Maps images to features of shape (n, 512).

    References
    ----------
    .. [1] A. Coates, H. Lee, A. Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature
       Learning", AISTATS, 2011.
    """
    images = _small_images(sample)
    side = min(images.shape[-2:])
    size, stride = min(max(side // 5, 3), 6), max(1, round(side / 16))
    n, _, height, width = images.shape
    which = torch.as_tensor(rng.randint(n, size=_N_PATCHES))
    rows = rng.randint(height - size + 1, size=_N_PATCHES)
    columns = rng.randint(width - size + 1, size=_N_PATCHES)
    patches = torch.stack(
        [
            images[k, :, r : r + size, c : c + size]
            for k, r, c in zip(which.tolist(), rows, columns, strict=True)
        ]
    ).flatten(start_dim=1)
    floor = 0.01 * patches.var(dim=1).mean().clamp_min(1e-12)  # noise in uniform patches stays low
    patches = (patches - patches.mean(dim=1, keepdim=True)) / torch.sqrt(
        patches.var(dim=1, keepdim=True) + floor
    )
    values, vectors = torch.linalg.eigh(torch.cov(patches.T).double())
    whitening = ((vectors / torch.sqrt(values.clamp_min(0) + 0.1)) @ vectors.T).float()
    center = patches.mean(dim=0)
    directions = (patches[:_N_FILTERS] - center) @ whitening
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    weights = directions @ whitening
    offsets = (weights @ center)[:, None, None]
    sums = weights.sum(dim=1)[:, None, None]
    kernels = weights.unflatten(1, (images.shape[1], size, size))
    n_pixels = weights.shape[1]

    def features(inputs: torch.Tensor) -> torch.Tensor:
        images = _small_images(inputs)
        mean = avg_pool2d(images, size, stride).mean(dim=1, keepdim=True)
        square = avg_pool2d(images.square(), size, stride).mean(dim=1, keepdim=True)
        variance = (square - mean.square()).clamp_min(0) * n_pixels / (n_pixels - 1)
        responses = conv2d(images, kernels, stride=stride) - mean * sums
        responses = responses / torch.sqrt(variance + floor) - offsets
        halves = [(responses - 0.5).clamp_min(0), (-responses - 0.5).clamp_min(0)]
        return adaptive_avg_pool2d(torch.cat(halves, dim=1), 2).flatten(start_dim=1)

    return features


def _small_images(inputs: torch.Tensor) -> torch.Tensor:
    images = (inputs.unsqueeze(1) if inputs.ndim == 3 else inputs).float()
    factor = min(images.shape[-2:]) // _LARGEST_SIDE
    return avg_pool2d(images, factor) if factor > 1 else images


def network_features(module: nn.Module, head: str | None = None) -> Features:
    """Return the inputs of the last linear layer of a module, which stays in evaluation mode."""
    module.eval()
    layer = head_of(module, head)

    def features(inputs: Any) -> torch.Tensor:
        return outputs_and_features(module, inputs, layer)[1].flatten(start_dim=1).float()

    return features


@dataclass(frozen=True)
class LabelModelSummary:
    """Kind and accuracy of a label model.

    Parameters
    ----------
    kind : {"patches", "random_features", "initial", "learned"}
        Its features: responses to image patches, random Fourier features of the inputs, or the
        features before the last layer of the untrained or of the trained network.
    accuracy : float
        Leave-one-out accuracy on the retained samples.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import LabelModelSummary
    >>> LabelModelSummary("patches", 0.61)
    LabelModelSummary(kind='patches', accuracy=0.61)
    """

    kind: str
    accuracy: float


@dataclass(frozen=True)
class LabelModel:
    """A ridge classifier of the retained samples.

    Attributes
    ----------
    kind : str
    accuracy : float
        As in :class:`LabelModelSummary`.
    loss : float
        Leave-one-out log loss on the retained samples, in nats.
    """

    kind: str
    accuracy: float
    loss: float
    _features: Features
    _mean: torch.Tensor
    _scale: torch.Tensor
    _weights: torch.Tensor
    _temperature: float
    _present: torch.Tensor

    def log_probabilities(self, data: NetData, index: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities at the temperature that predicts the retained samples best.

        Classes without retained samples have the probability 0.

        Parameters
        ----------
        data : NetData
            All samples.
        index : int64 tensor of shape (n,)
            The samples to predict.

        Returns
        -------
        tensor of shape (n, n_classes)
        """
        found = []
        for batch in index.split(data.batch_size):
            Z = _standardized(self._features, data, batch, self._mean, self._scale)
            scores = self._temperature * (Z @ self._weights)
            found.append(scores.masked_fill(~self._present, -torch.inf).log_softmax(dim=1))
        return torch.cat(found).float()

    @property
    def summary(self) -> LabelModelSummary:
        """Kind and accuracy, for users."""
        return LabelModelSummary(self.kind, self.accuracy)

    @property
    def sharpness(self) -> float:
        r"""The power :math:`\max(1, 0.7 / (1 - a))` that gives them a network's confidence.

        The probabilities of the label model are calibrated. A network is more confident about
        samples that it has not seen; the higher its accuracy a, the more so.
        """
        return max(1.0, 0.7 / max(1.0 - self.accuracy, 0.01))


def fit_label_model(
    data: NetData,
    rng: np.random.RandomState,
    *,
    kind: str = "auto",
    initial: nn.Module | None = None,
) -> LabelModel:
    """Fit ridge regressions to the retained samples, and return the one that predicts them best.

    Parameters
    ----------
    data : NetData
        The network and its samples.
    rng : numpy.random.RandomState
        Draws features, and samples if there are too many.
    kind : {"auto", "patches", "random_features", "initial"}, default="auto"
        Kind of features. "auto" tries those of the untrained network, if it is given, and patches
        if the network is convolutional, or random features otherwise.
    initial : torch.nn.Module, default=None
        The network as it was before it was trained on the samples.

    Returns
    -------
    LabelModel
    """
    index = draw_samples(data.retain, _MAX_SAMPLES, rng)
    n_drawn = min(_N_PAIRED_SAMPLES, data.most_samples(_MOST_BYTES))
    sample = data.inputs(draw_samples(index, n_drawn, rng))
    is_array = isinstance(sample, torch.Tensor) and sample.is_floating_point()
    candidates: dict[str, Callable[[], Features]] = {}
    if initial is not None:
        candidates["initial"] = lambda: network_features(initial)
    if is_array and _sees_images(data.module, sample):
        candidates["patches"] = lambda: patch_features(sample, rng)
    elif is_array:
        candidates["random_features"] = lambda: fourier_features(sample, rng)
    if kind != "auto" and kind in candidates:
        candidates = {kind: candidates[kind]}
    elif kind == "random_features" and is_array:
        candidates = {kind: lambda: fourier_features(sample, rng)}
    elif not candidates:  # token ids, for example, of a network whose initial weights are lost
        candidates["learned"] = lambda: network_features(data.module)
    features = {name: make() for name, make in candidates.items()}
    if len(features) == 1 or len(index) <= _N_COMPARED:
        fitted = (_fit_ridge(data, index, name, each) for name, each in features.items())
        return max(fitted, key=lambda model: model.accuracy)
    some = draw_samples(index, _N_COMPARED, rng)
    compared = [_fit_ridge(data, some, name, each) for name, each in features.items()]
    best = max(compared, key=lambda model: model.accuracy).kind
    return _fit_ridge(data, index, best, features[best])


def _sees_images(module: nn.Module, sample: torch.Tensor) -> bool:
    is_convolutional = any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    return is_convolutional and sample.ndim in (3, 4) and min(sample.shape[-2:]) >= 4


@torch.no_grad()
def _fit_ridge(data: NetData, index: torch.Tensor, kind: str, features: Features) -> LabelModel:
    """Fit a ridge regression of +1 and -1 for each class, with the ridge that predicts best."""
    batches = index.split(data.batch_size)
    raw = torch.cat([features(data.inputs(batch)).float() for batch in batches])
    mean, scale = raw.mean(dim=0), raw.std(dim=0, correction=0).clamp_min(1e-6)
    blocks = [_with_one((block - mean) / scale) for block in raw.split(_BLOCK)]
    codes = data.codes[index]
    T = 2 * torch.nn.functional.one_hot(codes, data.n_classes).double() - 1
    S = sum(block.T @ block for block in blocks)
    B = sum(block.T @ t for block, t in zip(blocks, T.split(_BLOCK), strict=True))
    values, vectors = torch.linalg.eigh(S)
    gains = [1 / (values.clamp_min(0) + alpha * len(index)) for alpha in _ALPHAS]
    rotated = vectors.T @ B
    left_out: list[list[torch.Tensor]] = [[] for _ in gains]
    for block, t in zip(blocks, T.split(_BLOCK), strict=True):
        turned = block @ vectors
        for k, gain in enumerate(gains):
            leverage = (turned.square() @ gain)[:, None].clamp_max(1 - 1e-9)
            predicted = turned @ (gain[:, None] * rotated)
            left_out[k].append(t - (t - predicted) / (1 - leverage))
    scores = [torch.cat(parts) for parts in left_out]
    accuracies = [(each.argmax(dim=1) == codes).double().mean().item() for each in scores]
    best = int(np.argmax(accuracies))
    present = data.present()
    temperature, loss = _temperature(scores[best].masked_fill(~present, -torch.inf), codes)
    return LabelModel(
        kind,
        accuracies[best],
        loss,
        features,
        mean,
        scale,
        vectors @ (gains[best][:, None] * rotated),
        temperature,
        present,
    )


def _with_one(block: torch.Tensor) -> torch.Tensor:
    return torch.cat([block.double(), block.new_ones(len(block), 1).double()], dim=1)


@torch.no_grad()
def _standardized(
    features: Features, data: NetData, batch: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    return _with_one((features(data.inputs(batch)).float() - mean) / scale)


def _temperature(scores: torch.Tensor, codes: torch.Tensor) -> tuple[float, float]:
    """Return the factor of the scores with the smallest log loss, and this loss."""
    losses = [
        torch.nn.functional.cross_entropy(factor * scores, codes).item() for factor in _TEMPERATURES
    ]
    best = int(np.argmin(losses))
    return _TEMPERATURES[best], losses[best]


def draw_samples(index: torch.Tensor, n_samples: int, rng: np.random.RandomState) -> torch.Tensor:
    """Draw at most `n_samples` indices without replacement."""
    if len(index) <= n_samples:
        return index
    return index[torch.as_tensor(rng.choice(len(index), n_samples, replace=False))]


def fit_classifier(data: NetData, classifier: Any) -> Any:
    """Fit a clone of a classifier to the class indices of the flattened retained samples."""
    codes = data.codes[data.retain].cpu().numpy()
    return clone(classifier).fit(flat_samples(data, data.retain), codes)


def flat_samples(data: NetData, index: torch.Tensor) -> FloatArray:
    """Return samples as vectors on the CPU, of shape (n, n_features).

    Real numbers are flattened. In place of other inputs, such as token ids, the features before the
    last layer of the module are returned.
    """

    def vectors(batch: torch.Tensor) -> torch.Tensor:
        inputs = data.inputs(batch)
        if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
            return inputs.flatten(start_dim=1)
        return data.features(batch)

    return torch.cat(
        [vectors(batch).float().cpu() for batch in index.split(data.batch_size)]
    ).numpy()


def accuracy_of(model: LabelModel, data: NetData, index: torch.Tensor) -> float:
    """Return the accuracy of a label model on some samples."""
    predicted = model.log_probabilities(data, index).argmax(dim=1)
    return (predicted == data.codes[index]).double().mean().item()


class UnseenOutputs:
    r"""Estimated outputs for the samples to forget of a network that was not trained on them.

    If the original network has memorized its training samples, the estimate is the prediction of a
    label model of the retained samples. If it has memorized nothing, the estimate is its own
    output, restricted to classes that have retained samples. With the log loss L of the original
    network on retained samples, and the loss :math:`L_u` on samples that it has not seen, the
    probabilities are

    .. math:: p_{\mathrm{label}}^{s m}\, p_{\mathrm{net}}^{1 - m} / Z,
        \qquad m = \max(0, 1 - L / L_u) ,

    where Z makes their sum 1.

    A weighted sum of both would never be confident where they disagree, as a network often is.

    Parameters
    ----------
    data : NetData
        The original network, not changed yet, and its samples.
    model : LabelModel
        The label model, whose leave-one-out loss takes the place of :math:`L_u`.
    rng : numpy.random.RandomState
        Draws the retained samples whose loss is computed.
    held_out : (NetData, tensor) or None, default=None
        Samples that the network was not trained on, from :func:`held_out_samples`. They determine
        :math:`L_u` and the power s, with which the label model is as confident as the network.

    Attributes
    ----------
    memorized : float
        The weight m.
    """

    def __init__(
        self,
        data: NetData,
        model: LabelModel,
        rng: np.random.RandomState,
        held_out: tuple[NetData, torch.Tensor] | None = None,
    ) -> None:
        self._data = data
        self._model = model
        self._held_out = held_out
        seen = _log_loss(data, draw_samples(data.retain, _N_WATCHED, rng))
        unseen = model.loss if held_out is None else _log_loss(*held_out)
        self.memorized = max(0.0, 1.0 - seen / max(unseen, _SMALLEST_LOSS))

    def probabilities(self, *, sharpen: bool) -> torch.Tensor:
        """Return probabilities for the samples to forget, of shape (n_forget, n_classes).

        Parameters
        ----------
        sharpen : bool
            Whether the label model becomes as confident as a network.

        Returns
        -------
        tensor
        """
        labels = self._model.log_probabilities(self._data, self._data.forget)
        power = self._power(labels) if sharpen else 1.0
        # A logarithm of zero would be lost if its weight is zero, too.
        labels, own = (x.clamp_min(_SMALLEST_LOG) for x in (labels, self._own().log()))
        mixed = self.memorized * power * labels + (1 - self.memorized) * own
        return mixed.masked_fill(~self._data.present(), -torch.inf).softmax(dim=1)

    def accuracy(self) -> float:
        r"""Return the expected accuracy on the samples to forget.

        The accuracy of the label model is multiplied by the ratio of the network's accuracy to its
        own on samples that are held out, if there are any.

        Returns
        -------
        float
        """
        data = self._data
        score = accuracy_of(self._model, data, data.forget)
        if self._held_out is not None:
            others, known = self._held_out
            hits = others.outputs(known).argmax(dim=1) == others.codes[known]
            known_accuracy = accuracy_of(self._model, others, known)
            if known_accuracy > 0:
                score = min(1.0, score * hits.double().mean().item() / known_accuracy)
        own = (self._own().argmax(dim=1) == data.codes[data.forget]).double().mean().item()
        return self.memorized * score + (1 - self.memorized) * own

    def _own(self) -> torch.Tensor:
        """Return the probabilities of the original network, restricted to present classes."""
        found = present_probabilities(self._data, self._data.forget)
        present = self._data.present().float()
        return torch.where(found.any(dim=1, keepdim=True), found, present / present.sum())

    def _power(self, labels: torch.Tensor) -> float:
        if self._held_out is None:
            return self._model.sharpness
        confidence = probabilities(*self._held_out).amax(dim=1).mean()
        errors = [
            abs(((power * labels).softmax(dim=1).amax(dim=1).mean() - confidence).item())
            for power in _POWERS
        ]
        return float(_POWERS[int(np.argmin(errors))])


def held_out_samples(
    data: NetData, X_val: Any, codes_val: IntArray | torch.Tensor | None
) -> tuple[NetData, torch.Tensor] | None:
    """Return samples that a network was not trained on, and indices of those in retained classes.

    Parameters
    ----------
    data : NetData
        The original network and its samples.
    X_val : array, tensor or reader of n_validation samples, or None
        Samples that the net was not trained on.
    codes_val : array or tensor of shape (n_validation,), or None
        Class indices of these samples.

    Returns
    -------
    (NetData, int64 tensor) or None
        None if no sample belongs to a retained class: the others reveal nothing about the
        predictions for retained classes.
    """
    if X_val is None or codes_val is None:
        return None
    request = ForgetRequest(np.arange(0), np.arange(len(codes_val)))
    others = NetData(data.module, X_val, codes_val, request)
    known = torch.nonzero(data.present()[others.codes])[:, 0].cpu()
    return (others, known) if len(known) else None


def _log_loss(data: NetData, index: torch.Tensor) -> float:
    own = probabilities(data, index).gather(1, data.codes[index][:, None])
    return -own.clamp_min(_SMALLEST_LOSS).log().mean().item()
