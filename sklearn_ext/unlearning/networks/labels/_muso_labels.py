r"""MUSO's targets of the forget set, and the formulas for a network's head behind them.

A network computes :math:`[\phi(x), 1] W` with its penultimate features :math:`\phi` and a head W,
whose last row is the bias. The features, with a column of ones, are :math:`Z_r` (n, q) for
retained samples and :math:`Z_u` for samples to forget under the present network, and
:math:`Z_u^p` for samples to forget under the original network. Heads are computed in float64.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ....neural import encode_labels, head_of, head_parameters
from ....utils._typing import Array
from .._net_data import NetData
from ._label_model import flat_samples

_FIRST_EPS, _LAST_EPS = 1e-6, 1e-2
_HEAD_EPS = 1e-3
_HEAD_SHARPNESS = 4.0  # soft targets are the softmax of scores in [0, 1] times this factor


def call_label_function(
    data: NetData, function: Callable[..., ArrayLike], classes: Array
) -> ArrayLike:
    """Call a user's function on the retained samples, their labels and the forget set."""

    def arrays(inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return {name: part.cpu().numpy() for name, part in inputs.items()}
        return inputs.cpu().numpy()

    labels = classes[data.codes[data.retain].cpu().numpy()]
    return function(arrays(data.inputs(data.retain)), labels, arrays(data.inputs(data.forget)))


def predicted_targets(data: NetData, model: Any, soft: bool) -> torch.Tensor:
    """Return the predictions of a classifier of class indices as targets of the forget set."""
    X = flat_samples(data, data.forget)
    if not soft:
        return torch.as_tensor(model.predict(X).astype(np.int64), device=data.device)
    probabilities = np.zeros((len(X), data.n_classes), dtype=np.float32)
    probabilities[:, np.asarray(model.classes_, dtype=int)] = model.predict_proba(X)
    return torch.as_tensor(probabilities, device=data.device)


def given_targets(data: NetData, values: ArrayLike, soft: bool, classes: Array) -> torch.Tensor:
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
            return torch.as_tensor(values.argmax(axis=1), device=data.device)
        if (values < 0).any() or not np.allclose(values.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError(
                "label_model must give probabilities, which are not negative and sum to one for "
                f"each sample, if soft_targets=True, got values from {values.min():.3g} to "
                f"{values.max():.3g} with sums from {values.sum(axis=1).min():.3g} to "
                f"{values.sum(axis=1).max():.3g}."
            )
        return torch.as_tensor(values, device=data.device)
    if values.shape != (n_forget,):
        raise ValueError(
            f"label_model must give one label for each of the {n_forget} samples to forget, or "
            f"scores of shape {(n_forget, n_classes)}, got shape {values.shape}."
        )
    found = encode_labels(values, classes, name="label_model")
    codes = torch.as_tensor(found, device=data.device)
    return torch.nn.functional.one_hot(codes, n_classes).float() if soft else codes


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
        Head toward which the ridge penalty pulls.
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


class HeadLabels:
    """Labels from the features of a network that changes between calls.

    Parameters
    ----------
    data : NetData
        The original network, not changed yet, and its samples.
    rng : numpy.random.RandomState
        Draws the retained samples.
    rule : {"head", "projection"}
        Whether the head of a retrained network is estimated by :func:`leave_out_head` or by
        :func:`projected_head`.
    soft : bool
        Whether the targets are probabilities.
    n_epochs : int
        Epochs of the training.
    subset_ratio : float
        Fraction of the retained samples that are drawn in each epoch.
    eps : float or None
        Ridge; None means the default of the rule.
    head : str or None
        Name of the last linear layer; None means the last :class:`torch.nn.Linear`.
    initial_head : array-like of shape (n_penultimate + 1, n_classes) or None
        Head before the original training, with the biases in the last row; None means zero.
    """

    def __init__(
        self,
        data: NetData,
        rng: np.random.RandomState,
        *,
        rule: str,
        soft: bool,
        n_epochs: int,
        subset_ratio: float,
        eps: float | None,
        head: str | None,
        initial_head: ArrayLike | None,
    ) -> None:
        self._data = data
        self._rng = rng
        self._soft = soft
        self._n_epochs = n_epochs
        self._subset_ratio = subset_ratio
        self._eps = eps
        self._head = head
        self._present = data.present()
        self._original_features = None
        if rule == "projection":
            self._original_features = with_ones(data.features(data.forget, head))
        weight, bias = (
            part.to(data.device) for part in head_parameters(head_of(data.module, head))
        )
        self._original_head = stacked_head(weight, bias)
        self._initial_head = _checked_head(initial_head, self._original_head)
        self._fitted_head = self._original_head

    def refit(self, epoch: int) -> None:
        """Fit the head to a new draw of retained samples, in the epoch with this index."""
        retain = self._data.retain
        n_drawn = max(1, round(self._subset_ratio * len(retain)))
        drawn = retain[torch.as_tensor(self._rng.choice(len(retain), n_drawn, replace=False))]
        Z_r = with_ones(self._data.features(drawn, self._head))
        if self._original_features is None:
            one_hot = torch.nn.functional.one_hot(self._data.codes[drawn], self._data.n_classes)
            eps = _HEAD_EPS if self._eps is None else self._eps
            self._fitted_head = leave_out_head(
                Z_r, one_hot.to(torch.float64), self._initial_head, eps
            )
        else:
            eps = _rising_eps(epoch, self._n_epochs) if self._eps is None else self._eps
            self._fitted_head = projected_head(Z_r, self._initial_head, self._original_head, eps)

    def targets(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the targets of the samples at these positions of the forget set."""
        Z_u = with_ones(self._data.features(self._data.forget[positions], self._head))
        if self._original_features is None:
            scores = _HEAD_SHARPNESS * (Z_u @ self._fitted_head)
        else:
            scores = projected_scores(
                Z_u, self._original_features[positions], self._fitted_head, self._original_head
            )
        if self._soft:
            return scores.masked_fill(~self._present, -torch.inf).softmax(dim=1).float()
        return best_class(scores, self._present)


def _rising_eps(epoch: int, n_epochs: int) -> float:
    """Return the ridge of the published rule, which rises along half a cosine."""
    fraction = (1 - math.cos(math.pi * epoch / max(n_epochs - 1, 1))) / 2
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
