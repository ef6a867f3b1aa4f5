"""From a user's ``device`` parameter to a torch device."""

import torch


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the torch device that a `device` parameter means.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None
        None is the CPU; "auto" is the first of CUDA, MPS and the CPU that this machine has.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch does not know the device, or this machine lacks it.

    Examples
    --------
    >>> from sklearn_ext.neural import resolve_device
    >>> resolve_device(None)
    device(type='cpu')
    """
    if device is None:
        return torch.device("cpu")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must be None, 'auto', or a device known to torch such as 'cpu', 'cuda', "
            f"'cuda:1' or 'mps', got {device!r}."
        ) from error
    present = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    is_cuda = resolved.type == "cuda"
    if (f"cuda:{resolved.index or 0}" if is_cuda else resolved.type) not in present:
        raise ValueError(f"device={device!r} is not available here; available: {present}.")
    return resolved
