"""The array operations that LAB kernels need, and the choice of a library for them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import gen_batches

from ...utils._typing import FloatArray
from ...utils._validation import computes_with_numba

if TYPE_CHECKING:
    import torch

EngineArray: TypeAlias = Any  # an ndarray or a tensor, depending on the engine
_BLOCK_SIZE = 2**18  # elements of the kernel matrices that are evaluated at a time


class LinearSystem(Protocol):
    """A factorized square matrix."""

    def solve(self, B: EngineArray, transposed: bool = False) -> EngineArray:
        """Solve ``A @ x = B``, or ``A.T @ x = B``."""
        ...


class LABEngine(Protocol):
    """Array operations that the LAB formulas need.

    :func:`make_engine` returns an engine. All matrices have one row per point and one column per
    center.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import make_engine
    >>> make_engine("numba").zeros(1, 2)
    array([[0., 0.]])
    """

    name: str

    def in_single_precision(self) -> "LABEngine":
        """Return an engine for training steps: float32 if that is faster, or the engine itself.

        Returns
        -------
        LABEngine
        """
        ...

    def asarray(self, x: ArrayLike) -> EngineArray:
        """Return the values as a contiguous array of the engine.

        Parameters
        ----------
        x : array-like
            Values to convert.

        Returns
        -------
        array
        """
        ...

    def to_numpy(self, x: EngineArray) -> FloatArray:
        """Return an array of the engine as an ndarray of float64.

        Parameters
        ----------
        x : array
            Array of the engine.

        Returns
        -------
        ndarray
        """
        ...

    def zeros(self, *shape: int) -> EngineArray:
        """Return an array of zeros.

        Parameters
        ----------
        *shape : int
            Shape of the array.

        Returns
        -------
        array
        """
        ...

    def vstack(self, a: EngineArray, b: EngineArray) -> EngineArray:
        """Return the rows of one array followed by those of another.

        Parameters
        ----------
        a : array of shape (n, d)
            First rows.
        b : array of shape (m, d)
            Last rows.

        Returns
        -------
        array of shape (n + m, d)
        """
        ...

    def repeat_row(self, row: EngineArray, n: int) -> EngineArray:
        """Return n copies of a row.

        Parameters
        ----------
        row : array of shape (1, d)
            Row to copy.
        n : int
            Number of copies.

        Returns
        -------
        array of shape (n, d)
        """
        ...

    def norm(self, x: EngineArray) -> float:
        """Return the Frobenius norm.

        Parameters
        ----------
        x : array
            Array of any shape.

        Returns
        -------
        float
        """
        ...

    def kernel(
        self, kernel: str, points: EngineArray, centers: EngineArray, theta: EngineArray
    ) -> tuple[EngineArray, EngineArray]:
        """Return the kernel matrix and the exponents that its gradient needs.

        Parameters
        ----------
        kernel : {"exponential", "laplacian", "rbf"}
            Form of the kernel.
        points : array of shape (n, d)
            First arguments of the kernel.
        centers : array of shape (m, d)
            Second arguments of the kernel.
        theta : array of shape (m, d)
            Square roots of the bandwidths of each center.

        Returns
        -------
        K : array of shape (n, m)
            ``exp(-D)``.
        D : array
            The exponents if :meth:`theta_gradient` needs them, otherwise an array of any shape.
        """
        ...

    def factorize(self, K: EngineArray, alpha: float) -> LinearSystem:
        """Factorize ``K + alpha * I``.

        Parameters
        ----------
        K : array of shape (m, m)
            Kernel matrix of the centers.
        alpha : float
            Ridge.

        Returns
        -------
        LinearSystem
            Solver for the matrix and its transpose.

        Raises
        ------
        LinAlgError
            If the matrix is singular.
        """
        ...

    def theta_gradient(
        self,
        kernel: str,
        points: EngineArray,
        centers: EngineArray,
        theta: EngineArray,
        K: EngineArray,
        D: EngineArray,
        left: EngineArray,
        right: EngineArray,
    ) -> EngineArray:
        """Return the gradient in theta of a loss whose gradient in K is ``left @ right.T``.

        Parameters
        ----------
        kernel : {"exponential", "laplacian", "rbf"}
            Form of the kernel.
        points : array of shape (n, d)
            First arguments of the kernel.
        centers : array of shape (m, d)
            Second arguments of the kernel.
        theta : array of shape (m, d)
            Square roots of the bandwidths.
        K : array of shape (n, m)
            As returned by :meth:`kernel`.
        D : array
            As returned by :meth:`kernel`.
        left : array of shape (n, q)
            Left factor of the gradient in K.
        right : array of shape (m, q)
            Right factor of the gradient in K.

        Returns
        -------
        array of shape (m, d)
        """
        ...


def make_engine(engine: str = "auto", device: "str | torch.device | None" = None) -> LABEngine:
    """Return the engine that the parameters `engine` and `device` of the estimators select.

    Only the selected library is imported.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}, default="auto"
        Library that does the computations. "auto" selects numba on the CPU and torch elsewhere.
    device : str, torch.device or None, default=None
        Device of the torch engine; None means the CPU.

    Returns
    -------
    LABEngine

    Raises
    ------
    ValueError
        If numba is requested on a device other than the CPU, or the device is not available.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import make_engine
    >>> make_engine("auto").name
    'numba'
    """
    if computes_with_numba(engine, device):
        from ._lab_engine_numba import LABNumbaEngine

        return LABNumbaEngine()

    from ...neural import resolve_device
    from ._lab_engine_torch import LABTorchEngine

    return LABTorchEngine(resolve_device(device))


def kernel_features(
    engine: LABEngine, kernel: str, X: FloatArray, centers: FloatArray, bandwidths: FloatArray
) -> FloatArray:
    """Return the kernels between samples and centers in the user's units.

    Parameters
    ----------
    engine : LABEngine
    kernel : {"exponential", "laplacian", "rbf"}
    X : ndarray of shape (n_samples, n_features)
    centers, bandwidths : ndarrays of shape (n_support, n_features)

    Returns
    -------
    ndarray of shape (n_samples, n_support)
        Values in the dtype of X.
    """
    out = np.empty((len(X), len(centers)), dtype=X.dtype)
    for chunk, K in _kernel_blocks(engine, kernel, X, centers, bandwidths):
        out[chunk] = engine.to_numpy(K)
    return out


def evaluate_expansion(
    engine: LABEngine,
    kernel: str,
    X: FloatArray,
    centers: FloatArray,
    bandwidths: FloatArray,
    coef: FloatArray,
    intercept: FloatArray,
) -> FloatArray:
    """Return the values of a kernel expansion in the user's units.

    Parameters
    ----------
    engine : LABEngine
    kernel : {"exponential", "laplacian", "rbf"}
    X : ndarray of shape (n_samples, n_features)
    centers, bandwidths : ndarrays of shape (n_support, n_features)
    coef : ndarray of shape (n_support, n_outputs)
    intercept : ndarray of shape (n_outputs,)

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        Values in the dtype of X.
    """
    out = np.empty((len(X), coef.shape[1]), dtype=X.dtype)
    coef = engine.asarray(coef)
    for chunk, K in _kernel_blocks(engine, kernel, X, centers, bandwidths):
        out[chunk] = engine.to_numpy(K @ coef) + intercept
    return out


def _kernel_blocks(
    engine: LABEngine, kernel: str, X: FloatArray, centers: FloatArray, bandwidths: FloatArray
) -> Iterator[tuple[slice, EngineArray]]:
    """Yield slices of X and their kernel matrices, which stay in the cache of a core."""
    # Only differences matter: points centered at the mean of the centers keep them in float32.
    shift = centers.mean(axis=0)
    shifted, theta = engine.asarray(centers - shift), engine.asarray(np.sqrt(bandwidths))
    for chunk in gen_batches(len(X), max(1, _BLOCK_SIZE // len(centers))):
        points = engine.asarray(X[chunk] - shift)
        yield chunk, engine.kernel(kernel, points, shifted, theta)[0]
