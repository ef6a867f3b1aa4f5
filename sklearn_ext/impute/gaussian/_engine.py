"""The interface of the engines that compute the Gaussian model."""

from typing import TYPE_CHECKING, Any, Protocol

from ...utils._typing import BoolArray, FloatArray
from ...utils._validation import computes_with_numba

if TYPE_CHECKING:
    import torch


class GaussianEngine(Protocol):
    """Conditional Gaussians and kernels of samples, on NumPy arrays in float64.

    Pass a table that `table` returns only to the engine that created it. Missing values are NaN.
    """

    name: str

    def table(self, X: FloatArray) -> Any:
        """Prepare samples for the other methods."""

    def moments(
        self, table: Any, mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Sum E[x - mean] and E[(x - mean)(x - mean)'] over samples, given observed entries."""

    def posterior(
        self, table: Any, mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return completed samples, and variances that are 0 at observed entries."""

    def draw(self, table: Any, mean: FloatArray, cov: FloatArray, noise: FloatArray) -> FloatArray:
        """Complete samples by draws from the conditional Gaussian.

        The k-th missing value of a sample uses the k-th column of `noise`.
        """

    def leave_one_out(
        self, table: Any, mean: FloatArray, cov: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        r"""Predict each observed entry from the others of its sample; NaN at missing values.

        Mean and variance of the prediction are

        .. math:: x_p - u_p / (S_{oo}^{-1})_{pp}, \qquad 1 / (S_{oo}^{-1})_{pp}, \qquad
            u = S_{oo}^{-1} (x_o - \mu_o).
        """

    def expected_kernel(
        self,
        Z_a: FloatArray,
        V_a: FloatArray,
        Z_b: FloatArray,
        V_b: FloatArray,
        gamma: float,
    ) -> FloatArray:
        """Compute the expected Gaussian kernel of samples with independent Gaussian entries."""

    def smooth(
        self,
        Z: FloatArray,
        V: FloatArray,
        missing: BoolArray,
        anchors: tuple[FloatArray, FloatArray, BoolArray, FloatArray],
        gamma: float,
    ) -> tuple[FloatArray, FloatArray]:
        """Return weighted sums of the anchors' residuals, and sums of weights, at missing values.

        Anchors are means, variances, observed entries and residuals of other samples.
        """


def make_engine(
    engine: str = "auto", device: "str | torch.device | None" = None, n_jobs: int | None = None
) -> GaussianEngine:
    """Return the engine that `engine` and `device` select, and import only that one.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
    device : str, torch.device or None
    n_jobs : int or None
        Number of threads of the numba engine.

    Returns
    -------
    GaussianEngine
    """
    if computes_with_numba(engine, device):
        from ._engine_numba import GaussianNumbaEngine

        return GaussianNumbaEngine(n_jobs)

    from ...neural import resolve_device
    from ._engine_torch import GaussianTorchEngine

    return GaussianTorchEngine(resolve_device(device))
