"""The arithmetic that LAB kernels need, and the choice of a library that does it."""

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..utils._typing import FloatArray
from ..utils._validation import computes_with_numba

if TYPE_CHECKING:
    import torch

EngineArray: TypeAlias = Any  # an ndarray or a tensor, depending on the engine


class LinearSystem(Protocol):
    """A factorized square matrix."""

    def solve(self, B: EngineArray, transposed: bool = False) -> EngineArray:
        """Solve ``A @ x = B``, or ``A.T @ x = B``."""
        ...


class LABEngine(Protocol):
    """What the formulas of LAB need from a library of arrays.

    :func:`make_engine` returns one. All matrices have one row per point and one column per
    center.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import make_engine
    >>> make_engine("numba").zeros(1, 2)
    array([[0., 0.]])
    """

    name: str

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
            The exponents where :meth:`theta_gradient` needs them, of any shape elsewhere.
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
            Solves with the matrix and with its transpose.

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
            As :meth:`kernel` returned it.
        D : array
            As :meth:`kernel` returned it.
        left : array of shape (n, q)
            Left factor of the gradient in K.
        right : array of shape (m, q)
            Right factor of the gradient in K.

        Returns
        -------
        array of shape (m, d)
        """
        ...

    def predict(
        self,
        kernel: str,
        X: EngineArray,
        centers: EngineArray,
        theta: EngineArray,
        coef: EngineArray,
        intercept: EngineArray,
    ) -> EngineArray:
        """Return ``K @ coef + intercept``.

        Parameters
        ----------
        kernel : {"exponential", "laplacian", "rbf"}
            Form of the kernel.
        X : array of shape (n, d)
            Points to predict.
        centers : array of shape (m, d)
            Centers of the expansion.
        theta : array of shape (m, d)
            Square roots of the bandwidths.
        coef : array of shape (m, q)
            Coefficients of the expansion.
        intercept : array of shape (q,)
            Constants to add.

        Returns
        -------
        array of shape (n, q)
        """
        ...


def make_engine(engine: str = "auto", device: "str | torch.device | None" = None) -> LABEngine:
    """Return the engine that two parameters of the estimators ask for.

    Only the library that is used gets imported.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}, default="auto"
        Library that does the arithmetic. "auto" is numba on the CPU and torch elsewhere.
    device : str, torch.device or None, default=None
        Device of the torch engine; None is the CPU.

    Returns
    -------
    LABEngine

    Raises
    ------
    ValueError
        If numba is asked to work on another device than the CPU, or this machine does not have
        the device.

    Examples
    --------
    >>> from sklearn_ext.kernel_regression import make_engine
    >>> make_engine("auto").name
    'numba'
    """
    if computes_with_numba(engine, device):
        from ._lab_engine_numba import LABNumbaEngine

        return LABNumbaEngine()

    from ..neural import resolve_device
    from ._lab_engine_torch import LABTorchEngine

    return LABTorchEngine(resolve_device(device))


def evaluate_expansion(
    engine: LABEngine,
    kernel: str,
    X: FloatArray,
    centers: FloatArray,
    bandwidths: FloatArray,
    coef: FloatArray,
    intercept: FloatArray,
    *,
    chunk_size: int,
) -> FloatArray:
    """Return the values of a kernel expansion in the units of the user, chunk by chunk.

    Parameters
    ----------
    engine : LABEngine
    kernel : {"exponential", "laplacian", "rbf"}
    X : ndarray of shape (n_samples, n_features)
    centers, bandwidths : ndarrays of shape (n_support, n_features)
    coef : ndarray of shape (n_support, n_outputs)
    intercept : ndarray of shape (n_outputs,)
    chunk_size : int
        Number of samples that are evaluated at a time.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        Of the dtype of X.
    """
    # Only differences of points matter: around the mean of the centers they survive float32.
    shift = centers.mean(axis=0)
    arrays = [engine.asarray(a) for a in (centers - shift, np.sqrt(bandwidths), coef, intercept)]
    out = np.empty((len(X), coef.shape[1]), dtype=X.dtype)
    for start in range(0, len(X), chunk_size):
        chunk = slice(start, start + chunk_size)
        values = engine.predict(kernel, engine.asarray(X[chunk] - shift), *arrays)
        out[chunk] = engine.to_numpy(values)
    return out
