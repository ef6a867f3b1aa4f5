r"""Locally adaptive bandwidth (LAB) kernels and the outer loss of ridgeless regression.

Every centre :math:`c_i` owns a row :math:`\theta_i` of bandwidths. The kernel between a point
and a centre is

.. math::
    K(x, c_i) = \exp(-D(x, c_i)), \qquad D =
    \begin{cases}
    \sum_k \theta_{ik}^2 (x_k - c_{ik})^2           & \text{rbf} \\
    \sqrt{\sum_k \theta_{ik}^2 (x_k - c_{ik})^2}    & \text{exponential} \\
    \sum_k \theta_{ik}^2 |x_k - c_{ik}|             & \text{laplacian}
    \end{cases}

It is asymmetric, because the second argument carries the bandwidths. Kernel matrices have one
row a point and one column a centre; solving with the transpose would fit another function.

The model interpolates the targets :math:`T` of its centres (exactly so for
:math:`\lambda \to 0`):

.. math::
    f(x) = b + \sum_i \alpha_i K(x, c_i), \qquad \alpha = (K_{cc} + \lambda I)^{-1} (T - b),

and its bandwidths minimise the *outer* loss, the squared error on all training rows. These
functions are pure and know nothing of the library that does the arithmetic: an ``engine``
(:class:`NumbaEngine`, :class:`TorchEngine`) supplies kernels, gradients and the factorisation.

Source: F. He, M. He, L. Shi, X. Huang, J. Suykens, "Enhancing Kernel Flexibility via Learning
Asymmetric Locally-Adaptive Kernels", arXiv:2310.05236.
"""

from typing import Any, NamedTuple

KERNELS = ("exponential", "laplacian", "rbf")


class OuterLoss(NamedTuple):
    """The outer loss on a batch and its gradients."""

    value: float
    theta: Any
    targets: Any
    alpha: float
    residuals: Any


def dual_coefficients(engine, kernel, centers, theta, targets, alpha):
    r"""Solve :math:`(K_{cc} + \lambda I) \alpha = T`.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    kernel : {"exponential", "laplacian", "rbf"}
    centers, theta : arrays of shape (m, d)
    targets : array of shape (m, q)
        Targets of the centres, less the intercept.
    alpha : float
        The ridge :math:`\lambda`.

    Returns
    -------
    array of shape (m, q)
    """
    K, _ = engine.kernel(kernel, centers, centers, theta)
    return engine.factorize(K, alpha).solve(targets)


def outer_loss(engine, kernel, X, Y, weights, centers, targets, theta, alpha):
    r"""Outer loss of a batch and its exact gradients, through the coefficients.

    With :math:`A = K_{cc} + \lambda I`, :math:`R = K_{xc}\alpha - Y`, and the adjoint
    :math:`V = A^{-T} K_{xc}^T G` of the coefficients' equation, where :math:`G = 2 w R / p`,

    .. math::
        L = \tfrac1p \sum_t w_t \lVert R_t \rVert^2, \quad
        \frac{\partial L}{\partial K} = \begin{bmatrix} G \\ -V \end{bmatrix} \alpha^T, \quad
        \frac{\partial L}{\partial T} = V, \quad
        \frac{\partial L}{\partial \lambda} = -\langle V, \alpha \rangle .

    Batch and centres are stacked, so one kernel evaluation and one factorisation serve all of
    it. Targets are those of a model without intercept.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    kernel : {"exponential", "laplacian", "rbf"}
    X : array of shape (p, d)
    Y : array of shape (p, q)
    weights : array of shape (p, 1)
    centers, theta : arrays of shape (m, d)
    targets : array of shape (m, q)
    alpha : float

    Returns
    -------
    OuterLoss
    """
    p = X.shape[0]
    points = engine.vstack(X, centers)
    K, D = engine.kernel(kernel, points, centers, theta)
    system = engine.factorize(K[p:], alpha)
    coef = system.solve(targets)

    residuals = K[:p] @ coef - Y
    G = (2.0 / p) * weights * residuals
    V = system.solve(K[:p].T @ G, transposed=True)

    return OuterLoss(
        value=float((G * residuals).sum()) / 2.0,
        theta=engine.theta_gradient(
            kernel, points, centers, theta, K, D, engine.vstack(G, -V), coef
        ),
        targets=V,
        alpha=-float((V * coef).sum()),
        residuals=residuals,
    )
