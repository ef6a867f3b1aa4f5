r"""Labels for the rows to forget from the last layer of a network, in float64.

A network is :math:`[\phi(x), 1] W` with its penultimate features :math:`\phi` and the head W, whose
last row is the bias. Features, with a column of ones, are :math:`Z_r` (n, q) of retained rows and
:math:`Z_u` of the rows to forget, under the present network; :math:`Z_u^p` under the original one.
"""

import torch


def with_ones(features):
    """Append a column of ones to features of shape (n, q - 1), in float64."""
    features = features.to(torch.float64)
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def stacked_head(weight, bias):
    """Return the head W of shape (q, n_classes), in float64, from a linear layer's weights.

    Parameters
    ----------
    weight : tensor of shape (n_classes, q - 1)
    bias : tensor of shape (n_classes,) or None

    Returns
    -------
    tensor of shape (q, n_classes)
    """
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return torch.cat([weight.T, bias[None]]).to(torch.float64)


def row_space_projection(Z, eps):
    r"""Return :math:`\Pi = (S + \varepsilon I)^+ S` with :math:`S = Z^T Z`.

    It equals :math:`Z^T (Z Z^T + \varepsilon I)^{-1} Z`, through a q x q system instead of an
    n x n one. It is the identity if Z has full column rank and eps vanishes. Both factors commute
    with S, so the eigenvectors of S give it without a loss by cancellation.

    Parameters
    ----------
    Z : tensor of shape (n, q), float64
    eps : float

    Returns
    -------
    tensor of shape (q, q)
    """
    values, vectors = torch.linalg.eigh(Z.T @ Z)
    values = values.clamp_min(0.0)
    tiny = torch.finfo(values.dtype).eps * len(values) * values.max()
    kept = torch.where(values > tiny, values / (values + eps), 0.0)
    return (vectors * kept) @ vectors.T


def projected_head(Z_r, W_0, W_p, eps):
    r"""Return :math:`R = \Pi_\varepsilon (W_p - W_0) + W_0`, MUSO's head of the retrained model.

    The outputs of the original network on retained rows stand for their targets.

    Parameters
    ----------
    Z_r : tensor of shape (n, q)
    W_0, W_p : tensors of shape (q, n_classes)
        Head at the start of the original training and after it.
    eps : float

    Returns
    -------
    tensor of shape (q, n_classes)
    """
    return row_space_projection(Z_r, eps) @ (W_p - W_0) + W_0


def projected_scores(Z_u, Z_u_original, R, W_p):
    r"""Return :math:`V = Z_u R + (Z_u - Z_u^p) W_p` (MUSO, eq. 2); a row's label is its argmax.

    Parameters
    ----------
    Z_u, Z_u_original : tensors of shape (n, q)
    R, W_p : tensors of shape (q, n_classes)

    Returns
    -------
    tensor of shape (n, n_classes)
    """
    return Z_u @ R + (Z_u - Z_u_original) @ W_p


def leave_out_head(Z_r, T_r, W_0, eps):
    r"""Return the ridge head of the retained rows, which the rows to forget have no part in.

    .. math::
        A = W_0 + (S + \lambda I)^{-1} Z_r^T (T_r - Z_r W_0), \qquad
        \lambda = \varepsilon \, \mathrm{tr}(S) / q .

    Parameters
    ----------
    Z_r : tensor of shape (n, q), float64
    T_r : tensor of shape (n, n_classes)
        Targets of the retained rows, one-hot.
    W_0 : tensor of shape (q, n_classes)
    eps : float
        Ridge, as a share of the mean eigenvalue of S.

    Returns
    -------
    tensor of shape (q, n_classes)
    """
    S = Z_r.T @ Z_r
    ridge = eps * torch.trace(S) / len(S)
    factor = torch.linalg.cholesky(S + ridge * torch.eye(len(S), dtype=S.dtype, device=S.device))
    return W_0 + torch.cholesky_solve(Z_r.T @ (T_r - Z_r @ W_0), factor)


def best_class(scores, present):
    """Return the class of the largest score among those present.

    Parameters
    ----------
    scores : tensor of shape (n, n_classes)
    present : tensor of shape (n_classes,) of bool

    Returns
    -------
    tensor of shape (n,), int64
    """
    return scores.masked_fill(~present, -torch.inf).argmax(dim=1)
