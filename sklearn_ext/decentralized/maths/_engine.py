"""From the parameters `engine` and `device` to an engine; what is not used is not imported."""

from ...utils._validation import computes_with_numba


def make_engine(engine, device):
    """Return the engine that builds features, sums statistics and solves."""
    if computes_with_numba(engine, device):
        from ._engine_numba import NumbaEngine

        return NumbaEngine()

    from ...neural import resolve_device
    from ._engine_torch import TorchEngine

    return TorchEngine(resolve_device(device))
