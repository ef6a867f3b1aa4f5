r"""Locally adaptive bandwidth (LAB) kernels and the outer loss of ridgeless regression.

Every center :math:`c_i` has its own row :math:`\theta_i` of bandwidths. The kernel between a
point and a center is

.. math::
    K(x, c_i) = \exp(-D(x, c_i)), \qquad D =
    \begin{cases}
    \sum_k \theta_{ik}^2 (x_k - c_{ik})^2           & \text{rbf} \\
    \sqrt{\sum_k \theta_{ik}^2 (x_k - c_{ik})^2}    & \text{exponential} \\
    \sum_k \theta_{ik}^2 |x_k - c_{ik}|             & \text{laplacian}
    \end{cases}

It is asymmetric, because only the second argument has bandwidths. Kernel matrices have one row
per point and one column per center; solving with the transpose would fit another function.

The model interpolates the targets :math:`T` of its centers (exactly for :math:`\lambda \to 0`):

.. math::
    f(x) = b + \sum_i \alpha_i K(x, c_i), \qquad \alpha = (K_{cc} + \lambda I)^{-1} (T - b),

and its bandwidths minimize the *outer* loss, the squared error on all training samples. The
functions below are pure. An engine, which is an argument, computes kernels, gradients and the
factorization.

Source: F. He, M. He, L. Shi, X. Huang, J. Suykens, "Enhancing Kernel Flexibility via Learning
Asymmetric Locally-Adaptive Kernels", arXiv:2310.05236.
"""

from typing import NamedTuple

from .engines import EngineArray, LABEngine

KERNELS = ("exponential", "laplacian", "rbf")


class OuterLoss(NamedTuple):
    """The outer loss on a batch, and its gradients.

    Parameters
    ----------
    value : float
        Weighted mean squared error, summed over outputs.
    theta : array of shape (m, d)
        Gradient with respect to the square roots of the bandwidths.
    targets : array of shape (m, q)
        Gradient with respect to the targets of the centers.
    alpha : float
        Derivative with respect to the ridge.
    residuals : array of shape (p, q)
        Predictions minus targets on the batch.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import OuterLoss
    >>> OuterLoss(0.5, theta=0.0, targets=0.0, alpha=0.1, residuals=1.0).value
    0.5
    """

    value: float
    theta: EngineArray
    targets: EngineArray
    alpha: float
    residuals: EngineArray


def dual_coefficients(
    engine: LABEngine,
    kernel: str,
    centers: EngineArray,
    theta: EngineArray,
    targets: EngineArray,
    alpha: float,
) -> EngineArray:
    r"""Solve :math:`(K_{cc} + \lambda I) \alpha = T`.

    Parameters
    ----------
    engine : LABEngine
        Engine that does the computations.
    kernel : {"exponential", "laplacian", "rbf"}
        Form of the kernel.
    centers : array of shape (m, d)
        Support points.
    theta : array of shape (m, d)
        Square roots of the bandwidths of the centers.
    targets : array of shape (m, q)
        Targets of the centers, minus the intercept.
    alpha : float
        The ridge :math:`\lambda`.

    Returns
    -------
    array of shape (m, q)

    Raises
    ------
    LinAlgError
        If the matrix is singular.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import dual_coefficients, make_engine
    >>> centers, theta, targets = np.array([[0.0], [1.0]]), np.ones((2, 1)), np.ones((2, 1))
    >>> dual_coefficients(make_engine(), "rbf", centers, theta, targets, 0.0).round(3)
    array([[0.731],
           [0.731]])
    """
    K, _ = engine.kernel(kernel, centers, centers, theta)
    return engine.factorize(K, alpha).solve(targets)


def outer_loss(
    engine: LABEngine,
    kernel: str,
    X: EngineArray,
    Y: EngineArray,
    weights: EngineArray,
    centers: EngineArray,
    targets: EngineArray,
    theta: EngineArray,
    alpha: float,
) -> OuterLoss:
    r"""Return the outer loss of a batch and its exact gradients, through the coefficients.

    With :math:`A = K_{cc} + \lambda I`, :math:`R = K_{xc}\alpha - Y`, and the adjoint
    :math:`V = A^{-T} K_{xc}^T G` of the coefficients' equation, where :math:`G = 2 w R / p`,

    .. math::
        L = \tfrac1p \sum_t w_t \lVert R_t \rVert^2, \quad
        \frac{\partial L}{\partial K} = \begin{bmatrix} G \\ -V \end{bmatrix} \alpha^T, \quad
        \frac{\partial L}{\partial T} = V, \quad
        \frac{\partial L}{\partial \lambda} = -\langle V, \alpha \rangle .

    Batch and centers are stacked, so that one kernel evaluation and one factorization serve the
    whole computation. The targets are those of a model without an intercept.

    Parameters
    ----------
    engine : LABEngine
        Engine that does the computations.
    kernel : {"exponential", "laplacian", "rbf"}
        Form of the kernel.
    X : array of shape (p, d)
        Samples of the batch.
    Y : array of shape (p, q)
        Targets of the samples.
    weights : array of shape (p, 1)
        Weights :math:`w_t` of the samples.
    centers : array of shape (m, d)
        Support points.
    targets : array of shape (m, q)
        Targets T of the support points.
    theta : array of shape (m, d)
        Square roots of the bandwidths of the centers.
    alpha : float
        The ridge :math:`\lambda`.

    Returns
    -------
    OuterLoss
        The loss and its gradients with respect to theta, T and the ridge.

    Raises
    ------
    LinAlgError
        If the kernel matrix of the centers is singular.

    References
    ----------
    .. [1] F. He, M. He, L. Shi, X. Huang, J. Suykens, "Enhancing Kernel Flexibility via Learning
       Asymmetric Locally-Adaptive Kernels", arXiv:2310.05236, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import make_engine, outer_loss
    >>> rng = np.random.default_rng(0)
    >>> X, Y, weights = rng.normal(size=(5, 2)), rng.normal(size=(5, 1)), np.ones((5, 1))
    >>> loss = outer_loss(make_engine(), "rbf", X, Y, weights, X[:3], Y[:3], np.ones((3, 2)), 0.0)
    >>> loss.theta.shape
    (3, 2)
    >>> bool(abs(loss.residuals[:3]).max() < 1e-12)  # the support is interpolated
    True
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
