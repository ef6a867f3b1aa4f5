"""The meaning of the parameters `engine` and `device`, the same for every estimator."""


def computes_with_numba(engine, device):
    """Whether `engine` and `device` mean numba on the CPU rather than torch.

    Parameters
    ----------
    engine : {"auto", "numba", "torch"}
        "auto" is numba on the CPU and torch on any other device.
    device : str, torch.device or None

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If numba is asked for on a device that is not the CPU.
    """
    on_cpu = device is None or str(device) == "cpu"
    if engine == "numba" and not on_cpu:
        raise ValueError(
            f"engine='numba' computes on the CPU only, got device={device!r}; "
            "use engine='torch' or device=None."
        )
    return engine == "numba" or (engine == "auto" and on_cpu)
