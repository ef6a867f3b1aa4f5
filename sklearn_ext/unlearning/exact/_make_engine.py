"""From the parameter `device` to what does the linear algebra; what is not used is not imported."""


def make_engine(device):
    """Return the engine of a device.

    Parameters
    ----------
    device : str, torch.device or None
        None is NumPy and SciPy on the CPU, anything else is torch on that device.

    Returns
    -------
    ScipyEngine or TorchEngine
    """
    if device is None:
        from ._engine import ScipyEngine

        return ScipyEngine()

    from ...neural import resolve_device
    from ._engine_torch import TorchEngine

    return TorchEngine(resolve_device(device))
