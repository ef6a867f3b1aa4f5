"""From the parameters `engine` and `device` to an engine; what is not used is not imported."""

from ..utils._validation import computes_with_numba


def make_engine(engine, device, n_jobs=None):
    """Return the engine of the Gaussian model; `n_jobs` is the numba engine's threads."""
    if computes_with_numba(engine, device):
        from ._gaussian_engine_numba import NumbaEngine

        return NumbaEngine(n_jobs)

    from ..neural import resolve_device
    from ._gaussian_engine_torch import TorchEngine

    return TorchEngine(resolve_device(device))
