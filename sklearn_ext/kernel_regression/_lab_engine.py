"""From the parameters `engine` and `device` to an engine; what is not used is not imported."""

from ..utils._validation import computes_with_numba


def make_engine(engine, device):
    """Return the engine that does the arithmetic of :mod:`._lab_kernel`."""
    if computes_with_numba(engine, device):
        from ._lab_engine_numba import NumbaEngine

        return NumbaEngine()

    from ..neural import resolve_device
    from ._lab_engine_torch import TorchEngine

    return TorchEngine(resolve_device(device))
