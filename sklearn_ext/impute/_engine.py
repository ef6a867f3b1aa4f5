"""One dispatcher from the parameters `engine` and `device` to an engine."""


def make_engine(engine, device, n_jobs=None):
    """Return the engine that does the arithmetic.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        "auto" is numba on the CPU and torch on any other device.
    device : str, torch.device or None
    n_jobs : int or None
        Threads of the numba engine.

    Raises
    ------
    ValueError
        If numba is asked for on a device that is not the CPU, or the device is not there.
    """
    on_cpu = device is None or str(device) == "cpu"
    if engine == "numba" or (engine == "auto" and on_cpu):
        if not on_cpu:
            raise ValueError(
                f"engine='numba' computes on the CPU only, got device={device!r}; "
                "use engine='torch' or device=None."
            )
        from ._gaussian_engine_numba import NumbaEngine

        return NumbaEngine(n_jobs)

    from ..neural import resolve_device
    from ._gaussian_engine_torch import TorchEngine

    return TorchEngine(resolve_device(device))
