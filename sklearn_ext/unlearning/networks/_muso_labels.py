r"""Labels for the forget set: from a model of the retained samples, or from the network's head.

A network computes :math:`[\phi(x), 1] W` with its penultimate features :math:`\phi` and a head W,
whose last row is the bias. The features, with a column of ones, are :math:`Z_r` (n, q) for
retained samples and :math:`Z_u` for samples to forget under the present network, and
:math:`Z_u^p` for samples to forget under the original network. Heads are computed in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist
from sklearn.base import clone

from ...neural import class_labels, head_of, outputs_and_features, to_tensor
from ...utils._typing import FloatArray
from ..exact import RandomFeatureClassifier
from ..steps import FineTuneConfig
from ._base import NetData

_N_COMPONENTS = 750  # 1,000 give the same gaps at 1.3 to 1.5 times the cost of unlearning
_RIDGE = 0.1
_N_PAIRED_SAMPLES = 500  # samples whose distances determine the width of the kernel
_MAX_SAMPLES = 5000  # the number of features limits the accuracy long before
_FIRST_EPS, _LAST_EPS = 1e-6, 1e-2
_HEAD_EPS = 1e-3
_HEAD_SHARPNESS = 4.0  # soft targets are the softmax of scores in [0, 1] times this factor
_CHUNK = 1024


@dataclass(frozen=True)
class MUSOConfig:
    """Settings of :func:`muso`.

    Parameters
    ----------
    training : FineTuneConfig
        Settings of the fine-tuning.
    label_model : str, classifier, array-like or callable, default="random_features"
        Estimates the labels of the samples to forget, as in :class:`MUSOUnlearner`.
    soft_targets : bool, default=False
        Whether the targets are probabilities instead of labels.
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
    label_model: Any = "random_features"
    soft_targets: bool = False
    subset_ratio: float = 0.2
    eps: float | None = None
    head: str | None = None
    initial_head: ArrayLike | None = None


class HeadLabels:
    """Labels from the features of a network that changes between calls.

    Parameters
    ----------
    data : NetData
        The network and its samples. The module must still be the original one.
    config : MUSOConfig
        Settings of the method; `label_model` is "head" or "projection".
    n_epochs : int
        Epochs of the training.
    rng : numpy.random.RandomState
        Draws the retained samples.
    """

    def __init__(
        self, data: NetData, config: MUSOConfig, n_epochs: int, rng: np.random.RandomState
    ) -> None:
        self._data = data
        self._config = config
        self._n_epochs = n_epochs
        self._rng = rng
        self._present = data.present()
        self._layer = head_of(data.module, config.head)
        bias = self._layer.bias
        self._original_head = stacked_head(
            self._layer.weight.detach(), None if bias is None else bias.detach()
        )
        self._initial_head = _checked_head(config.initial_head, self._original_head)
        self._fitted_head = self._original_head
        is_projection = config.label_model == "projection"
        self._original_features = self._features(data.forget) if is_projection else None

    def refit(self, epoch: int) -> None:
        """Fit the head to a new draw of retained samples."""
        retain = self._data.retain
        n_drawn = max(1, round(self._config.subset_ratio * len(retain)))
        drawn = retain[torch.as_tensor(self._rng.choice(len(retain), n_drawn, replace=False))]
        Z_r = self._features(drawn)
        if self._original_features is None:
            one_hot = torch.nn.functional.one_hot(self._data.codes[drawn], self._data.n_classes)
            eps = _HEAD_EPS if self._config.eps is None else self._config.eps
            self._fitted_head = leave_out_head(
                Z_r, one_hot.to(torch.float64), self._initial_head, eps
            )
        else:
            eps = (
                _rising_eps(epoch, self._n_epochs) if self._config.eps is None else self._config.eps
            )
            self._fitted_head = projected_head(Z_r, self._initial_head, self._original_head, eps)

    def targets(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the targets of samples of the forget set, given by their positions in it."""
        Z_u = self._features(self._data.forget[positions])
        if self._original_features is None:
            scores = _HEAD_SHARPNESS * (Z_u @ self._fitted_head)
        else:
            scores = projected_scores(
                Z_u, self._original_features[positions], self._fitted_head, self._original_head
            )
        if self._config.soft_targets:
            return scores.masked_fill(~self._present, -torch.inf).softmax(dim=1).float()
        return best_class(scores, self._present)

    @torch.no_grad()
    def _features(self, index: torch.Tensor) -> torch.Tensor:
        module = self._data.module.eval()
        chunks = [
            outputs_and_features(module, self._data.X[chunk], self._layer)[1]
            for chunk in index.split(_CHUNK)
        ]
        return with_ones(torch.cat(chunks))


def fit_random_features(
    data: NetData, rng: np.random.RandomState, *, n_components: int = _N_COMPONENTS
) -> RandomFeatureClassifier:
    """Fit random features to the retained samples, which also determine the kernel width.

    Parameters
    ----------
    data : NetData
        The samples.
    rng : numpy.random.RandomState
        Draws the random features and, where there are too many, the samples.
    n_components : int
        Number of random frequencies.

    Returns
    -------
    RandomFeatureClassifier
        A classifier of class indices.
    """
    index = data.retain
    if len(index) > _MAX_SAMPLES:
        index = index[torch.as_tensor(rng.choice(len(index), _MAX_SAMPLES, replace=False))]
    X = flat_samples(data, index)
    paired = X[rng.choice(len(X), min(len(X), _N_PAIRED_SAMPLES), replace=False)]
    squares = pdist(paired, "sqeuclidean")
    classifier = RandomFeatureClassifier(
        n_components,
        gamma=1.0 / max(float(np.median(squares)), 1e-12),
        alpha=_RIDGE,
        random_state=rng.randint(2**31 - 1),
    )
    return classifier.fit(X, data.codes[index].cpu().numpy())


def fit_classifier(data: NetData, classifier: Any) -> Any:
    """Fit a clone of a classifier to the class indices of the flattened retained samples."""
    codes = data.codes[data.retain].cpu().numpy()
    return clone(classifier).fit(flat_samples(data, data.retain), codes)


def call_label_function(data: NetData, function: Callable[..., ArrayLike]) -> ArrayLike:
    """Return what a user's function gives for the retained samples and the forget set."""
    retained, forget = data.X[data.retain], data.X[data.forget]
    labels = class_labels(data.net)[data.codes[data.retain].cpu().numpy()]
    return function(retained.cpu().numpy(), labels, forget.cpu().numpy())


def predicted_targets(data: NetData, model: Any, soft: bool) -> torch.Tensor:
    """Return the predictions of a classifier of class indices as targets of the forget set."""
    X = flat_samples(data, data.forget)
    if not soft:
        return to_tensor(model.predict(X).astype(np.int64), data.net)
    probabilities = np.zeros((len(X), data.n_classes), dtype=np.float32)
    probabilities[:, np.asarray(model.classes_, dtype=int)] = model.predict_proba(X)
    return to_tensor(probabilities, data.net)


def given_targets(data: NetData, values: ArrayLike, soft: bool) -> torch.Tensor:
    """Return the labels or scores that a user provides as targets of the forget set.

    Raises
    ------
    ValueError
        If their shape is wrong, soft targets are not probabilities, or a label is unknown.
    """
    values = np.asarray(values)
    n_forget, n_classes = len(data.forget), data.n_classes
    if values.shape == (n_forget, n_classes):
        values = values.astype(np.float32)
        if not soft:
            return to_tensor(values.argmax(axis=1), data.net)
        if (values < 0).any() or not np.allclose(values.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError(
                "label_model must give probabilities, which are not negative and sum to one for "
                "each sample, if soft_targets=True."
            )
        return to_tensor(values, data.net)
    if values.shape != (n_forget,):
        raise ValueError(
            f"label_model must give one label for each of the {n_forget} samples to forget, or "
            f"scores of shape {(n_forget, n_classes)}, got shape {values.shape}."
        )
    classes = class_labels(data.net)
    if unknown := set(values.tolist()).difference(classes.tolist()):
        raise ValueError(
            f"label_model gives the labels {unknown}, which are not classes of the net."
        )
    codes = to_tensor(np.searchsorted(classes, values).astype(np.int64), data.net)
    return torch.nn.functional.one_hot(codes, n_classes).float() if soft else codes


def flat_samples(data: NetData, index: torch.Tensor) -> FloatArray:
    """Return samples as rows of a table on the CPU."""
    return data.X[index].flatten(start_dim=1).cpu().numpy()


def _rising_eps(epoch: int, n_epochs: int) -> float:
    """Return the ridge of the published rule, which rises along half a cosine."""
    fraction = (1 - np.cos(np.pi * epoch / max(n_epochs - 1, 1))) / 2
    return _FIRST_EPS + (_LAST_EPS - _FIRST_EPS) * fraction


def _checked_head(initial_head: ArrayLike | None, like: torch.Tensor) -> torch.Tensor:
    if initial_head is None:
        return torch.zeros_like(like)
    head = torch.as_tensor(np.asarray(initial_head), dtype=like.dtype, device=like.device)
    if head.shape != like.shape:
        raise ValueError(
            f"initial_head must have shape {tuple(like.shape)}, with one row per feature and the "
            f"biases in the last row, got {tuple(head.shape)}."
        )
    return head


def with_ones(features: torch.Tensor) -> torch.Tensor:
    """Append a column of ones to features of shape (n, q - 1), in float64."""
    features = features.to(torch.float64)
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def stacked_head(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return the head W of a linear layer, in float64.

    Parameters
    ----------
    weight : tensor of shape (n_classes, q - 1)
        Weights of the layer.
    bias : tensor of shape (n_classes,) or None
        Biases of the layer; None means zero.

    Returns
    -------
    tensor of shape (q, n_classes)
    """
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return torch.cat([weight.T, bias[None]]).to(torch.float64)


def row_space_projection(Z: torch.Tensor, eps: float) -> torch.Tensor:
    r"""Return :math:`\Pi = (S + \varepsilon I)^+ S` with :math:`S = Z^T Z`.

    This equals :math:`Z^T (Z Z^T + \varepsilon I)^{-1} Z`, but needs a q x q system instead of an
    n x n one. It is the identity if Z has full column rank and eps vanishes. Both factors commute
    with S, so the eigenvectors of S give the product without cancellation.

    Parameters
    ----------
    Z : tensor of shape (n, q), float64
        Features with a column of ones.
    eps : float
        Ridge.

    Returns
    -------
    tensor of shape (q, q)
    """
    values, vectors = torch.linalg.eigh(Z.T @ Z)
    values = values.clamp_min(0.0)
    tiny = torch.finfo(values.dtype).eps * len(values) * values.max()
    kept = torch.where(values > tiny, values / (values + eps), 0.0)
    return (vectors * kept) @ vectors.T


def projected_head(
    Z_r: torch.Tensor, W_0: torch.Tensor, W_p: torch.Tensor, eps: float
) -> torch.Tensor:
    r"""Return :math:`R = \Pi_\varepsilon (W_p - W_0) + W_0`, MUSO's estimate of the retrained head.

    The outputs of the original network on the retained samples take the place of their targets.

    Parameters
    ----------
    Z_r : tensor of shape (n, q)
        Features of retained samples.
    W_0 : tensor of shape (q, n_classes)
        Head before the original training.
    W_p : tensor of shape (q, n_classes)
        Head after the original training.
    eps : float
        Ridge of the projection.

    Returns
    -------
    tensor of shape (q, n_classes)
    """
    return row_space_projection(Z_r, eps) @ (W_p - W_0) + W_0


def projected_scores(
    Z_u: torch.Tensor, Z_u_original: torch.Tensor, R: torch.Tensor, W_p: torch.Tensor
) -> torch.Tensor:
    r"""Return :math:`V = Z_u R + (Z_u - Z_u^p) W_p` (MUSO, eq. 2), the scores of forget samples.

    The label of a sample is the class with the largest score.

    Parameters
    ----------
    Z_u : tensor of shape (n, q)
        Features of the samples under the present network.
    Z_u_original : tensor of shape (n, q)
        Features of the samples under the original network.
    R : tensor of shape (q, n_classes)
        Estimate of the retrained head, from :func:`projected_head`.
    W_p : tensor of shape (q, n_classes)
        Head after the original training.

    Returns
    -------
    tensor of shape (n, n_classes)

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.unlearning.networks import projected_scores
    >>> Z, W = torch.tensor([[1.0, 2.0]]), torch.eye(2)
    >>> projected_scores(Z, Z, W, W)  # features that have not changed keep the original scores
    tensor([[1., 2.]])
    """
    return Z_u @ R + (Z_u - Z_u_original) @ W_p


def leave_out_head(
    Z_r: torch.Tensor, T_r: torch.Tensor, W_0: torch.Tensor, eps: float
) -> torch.Tensor:
    r"""Return the ridge head of the retained samples, which does not involve the forget set.

    .. math::
        A = W_0 + (S + \lambda I)^{-1} Z_r^T (T_r - Z_r W_0), \qquad
        \lambda = \varepsilon \, \mathrm{tr}(S) / q .

    Parameters
    ----------
    Z_r : tensor of shape (n, q), float64
        Features of retained samples.
    T_r : tensor of shape (n, n_classes)
        One-hot targets of the retained samples.
    W_0 : tensor of shape (q, n_classes)
        Head that the ridge penalty pulls towards.
    eps : float
        Ridge, as a multiple of the mean eigenvalue of S.

    Returns
    -------
    tensor of shape (q, n_classes)
    """
    S = Z_r.T @ Z_r
    ridge = eps * torch.trace(S) / len(S)
    factor = torch.linalg.cholesky(S + ridge * torch.eye(len(S), dtype=S.dtype, device=S.device))
    return W_0 + torch.cholesky_solve(Z_r.T @ (T_r - Z_r @ W_0), factor)


def best_class(scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Return the class with the largest score among the classes that are present.

    Parameters
    ----------
    scores : tensor of shape (n, n_classes)
        Scores of the samples.
    present : tensor of shape (n_classes,) of bool
        Classes that may be chosen.

    Returns
    -------
    tensor of shape (n,), int64
    """
    return scores.masked_fill(~present, -torch.inf).argmax(dim=1)
