"""Networks that estimate the noise in samples, given times in [0, 1) and class codes."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from ..neural import seeded
from ..utils._typing import Array

# The errors that a network can raise if it is called with the wrong arguments.
UNUSABLE = (TypeError, ValueError, RuntimeError, AttributeError, IndexError)
_N_SINUSOIDS = 64
_LONGEST_PERIOD = 10_000.0
_TIME_SCALE = 1000.0
_GROUP = 8  # channels that share a normalization
_PATCHED_FROM = 16  # images whose sides have at least this many pixels are divided into patches


def exact_array(tensor: torch.Tensor) -> Array:
    """Return a copy of a tensor as an array; NumPy has no bfloat16, whose values fit in float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


class ModuleStoredByArrays(nn.Module):
    """A module that is stored as its constructor's arguments and arrays of weights.

    In this form, skops can store the module, although it does not accept tensors, and a machine
    that lacks the module's device can load it.

    Parameters
    ----------
    **arguments
        The arguments of the subclass's constructor.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments

    def __getstate__(self) -> dict[str, Any]:
        tensors = self.state_dict()
        return {
            "arguments": self.arguments,
            "weights": {name: exact_array(tensor) for name, tensor in tensors.items()},
            "dtype": str(next(iter(tensors.values())).dtype),
            "frozen": [name for name, p in self.named_parameters() if not p.requires_grad],
            "device": str(next(iter(tensors.values())).device),
            "training": self.training,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        with seeded(0):  # the weights drawn here are replaced below
            type(self).__init__(self, **state["arguments"])
        self.to(getattr(torch, state.get("dtype", "torch.float32").removeprefix("torch.")))
        weights = {name: torch.from_numpy(w.copy()) for name, w in state["weights"].items()}
        self.load_state_dict(weights)
        for name in state["frozen"]:
            self.get_parameter(name).requires_grad_(False)
        self.train(state["training"])
        if state["device"] != "cpu" and _is_available(state["device"]):
            self.to(state["device"])


def _is_available(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def time_embedding(t: torch.Tensor, n_outputs: int = _N_SINUSOIDS) -> torch.Tensor:
    r"""Return sines and cosines of 1000 t at frequencies that fall from 1 to 1/10000.

    Parameters
    ----------
    t : tensor of shape (n,)
        Times in [0, 1).
    n_outputs : int, default=64
        Number of sines and cosines together.

    Returns
    -------
    tensor of shape (n, n_outputs)
    """
    half = n_outputs // 2
    exponents = torch.arange(half, device=t.device, dtype=t.dtype) / half
    angles = _TIME_SCALE * t[:, None] * torch.exp(-math.log(_LONGEST_PERIOD) * exponents)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class Condition(nn.Module):
    r"""The time and the class as one vector, :math:`z = s(W_z\, s(W_t\,\tau(t)) + E_c)`.

    s is the SiLU, :math:`\tau` is the :func:`time_embedding`, and E has one row per class and a
    last one for "any class".
    """

    def __init__(self, n_classes: int, width: int) -> None:
        super().__init__()
        self.time = nn.Linear(_N_SINUSOIDS, width)
        self.classes = nn.Embedding(n_classes + 1, width)
        self.both = nn.Linear(width, width)

    def forward(self, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return F.silu(self.both(F.silu(self.time(time_embedding(t))) + self.classes(c)))


class _ResidualBlock(nn.Module):
    r""":math:`u + B\, s(A(\mathrm{LN}(u) + z))`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, u: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return u + self.second(F.silu(self.first(self.norm(u) + z)))


def _set_to_zero(layer: nn.Linear | nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class MLPDenoiser(ModuleStoredByArrays):
    """A residual MLP for vectors of features, or for the pixels of small images.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of a sample.
    n_classes : int
        Number of classes. Class codes are 0 to ``n_classes - 1``, and `n_classes` itself means
        "any class".
    width : int, default=192
        Number of units in every layer.
    n_blocks : int, default=3
        Number of residual blocks.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.generative import MLPDenoiser
    >>> denoiser = MLPDenoiser((4,), n_classes=2)
    >>> denoiser(torch.zeros(5, 4), torch.zeros(5), torch.full((5,), 2)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self, input_shape: Sequence[int], n_classes: int, width: int = 192, n_blocks: int = 3
    ) -> None:
        super().__init__(
            input_shape=tuple(input_shape), n_classes=n_classes, width=width, n_blocks=n_blocks
        )
        n_features = math.prod(input_shape)
        self.condition = Condition(n_classes, width)
        self.inner = nn.Linear(n_features, width)
        self.blocks = nn.ModuleList(_ResidualBlock(width) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(width)
        self.outer = nn.Linear(width, n_features)
        _set_to_zero(self.outer)

    def forward(self, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Estimate the noise in samples.

        Parameters
        ----------
        x : tensor of shape (n, ...)
            Noisy samples.
        t : tensor of shape (n,)
            Time of each sample, in [0, 1).
        c : int64 tensor of shape (n,)
            Class code of each sample.

        Returns
        -------
        tensor of the shape of x
        """
        z = self.condition(t, c)
        u = self.inner(x.flatten(1))
        for block in self.blocks:
            u = block(u, z)
        return self.outer(F.silu(self.norm(u))).view_as(x)


class _ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with a scale and a shift by z between them, and a skip connection."""

    def __init__(self, n_inputs: int, n_outputs: int, width: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(n_inputs // _GROUP, n_inputs)
        self.first = nn.Conv2d(n_inputs, n_outputs, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * n_outputs)
        self.second_norm = nn.GroupNorm(n_outputs // _GROUP, n_outputs)
        self.second = nn.Conv2d(n_outputs, n_outputs, 3, padding=1)
        same = n_inputs == n_outputs
        # The name is part of the checkpoints.
        self.past = nn.Identity() if same else nn.Conv2d(n_inputs, n_outputs, 1)
        _set_to_zero(self.second)

    def forward(self, u: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        h = self.second_norm(self.first(F.silu(self.first_norm(u))))
        scale, shift = self.modulation(z)[:, :, None, None].chunk(2, dim=1)
        return self.past(u) + self.second(F.silu(torch.addcmul(shift, h, 1 + scale)))


class UNetDenoiser(ModuleStoredByArrays):
    """A U-Net of two resolutions for images.

    The pixels of each patch of a larger image become channels, which makes the same network
    several times faster. Images are padded to a size that the network can halve.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of an image, (height, width) or (channels, height, width).
    n_classes : int
        Number of classes. Class codes are 0 to ``n_classes - 1``, and `n_classes` itself means
        "any class".
    width : int, default=32
        Number of channels at the fine resolution, a multiple of 8. The coarse resolution has
        twice as many.
    patch_size : int or "auto", default="auto"
        Side of the patches in pixels. "auto" is 2 for images of at least 16 x 16 pixels, else 1.

    Raises
    ------
    ValueError
        If `input_shape` is not the shape of an image, or `width` is not a multiple of 8.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.generative import UNetDenoiser
    >>> denoiser = UNetDenoiser((28, 28), n_classes=10)
    >>> denoiser(torch.zeros(2, 28, 28), torch.zeros(2), torch.tensor([3, 10])).shape
    torch.Size([2, 28, 28])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_classes: int,
        width: int = 32,
        patch_size: int | str = "auto",
    ) -> None:
        super().__init__(
            input_shape=tuple(input_shape),
            n_classes=n_classes,
            width=width,
            patch_size=patch_size,
        )
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "A U-Net needs images of shape (height, width) or (channels, height, width), "
                f"got samples of shape {tuple(input_shape)}."
            )
        if width % _GROUP != 0:
            raise ValueError(f"width must be a multiple of {_GROUP}, got {width}.")
        if isinstance(patch_size, str):
            patch_size = 2 if min(input_shape[-2:]) >= _PATCHED_FROM else 1
        self.patch_size = patch_size
        n_channels = math.prod(input_shape[:-2]) * patch_size**2
        self.condition = Condition(n_classes, 4 * width)
        self.inner = nn.Conv2d(n_channels, width, 3, padding=1)
        self.fine = _ConvBlock(width, width, 4 * width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(_ConvBlock(2 * width, 2 * width, 4 * width) for _ in range(2))
        self.up = nn.Conv2d(2 * width, width, 1)
        self.merged = _ConvBlock(2 * width, width, 4 * width)
        self.norm = nn.GroupNorm(width // _GROUP, width)
        self.outer = nn.Conv2d(width, n_channels, 3, padding=1)
        _set_to_zero(self.outer)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub lacks it

    def forward(self, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Estimate the noise in images.

        Parameters
        ----------
        x : tensor of shape (n, height, width) or (n, channels, height, width)
            Noisy images.
        t : tensor of shape (n,)
            Time of each sample, in [0, 1).
        c : int64 tensor of shape (n,)
            Class code of each sample.

        Returns
        -------
        tensor of the shape of x
        """
        z = self.condition(t, c)
        height, width = x.shape[-2:]
        multiple = 2 * self.patch_size
        images = F.pad(
            x.reshape(len(x), -1, height, width), (0, -width % multiple, 0, -height % multiple)
        )
        u = F.pixel_unshuffle(images, self.patch_size)
        fine = self.fine(self.inner(u.contiguous(memory_format=torch.channels_last)), z)
        u = self.down(fine)
        for block in self.coarse:
            u = block(u, z)
        u = F.interpolate(self.up(u), scale_factor=2.0)
        u = self.merged(torch.cat([u, fine], dim=1), z)
        u = F.pixel_shuffle(self.outer(F.silu(self.norm(u))), self.patch_size)
        return u[..., :height, :width].reshape(x.shape)


_NAMED: dict[str, Callable[..., nn.Module]] = {"mlp": MLPDenoiser, "unet": UNetDenoiser}


def build_denoiser(
    module: str | nn.Module | Callable[[tuple[int, ...], int], nn.Module] | None,
    width: int | None,
    sample_shape: tuple[int, ...],
    n_classes: int,
) -> nn.Module:
    """Return a new denoiser, or a copy of the given one.

    Parameters
    ----------
    module : {"mlp", "unet"}, torch.nn.Module, callable or None
        The network to build or copy. None means the MLP for vectors of features and the U-Net for
        images. A callable is called with `sample_shape` and `n_classes`.
    width : int or None
        Number of units or channels. None means the default of the network.
    sample_shape : tuple of int
        Shape in which the network sees a sample.
    n_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
    """
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    if module is None:
        module = "mlp" if len(sample_shape) == 1 else "unet"
    if isinstance(module, str):
        module = _NAMED[module] if width is None else partial(_NAMED[module], width=width)
    return module(sample_shape, n_classes)


@torch.no_grad()
def check_denoiser(module: nn.Module, sample_shape: tuple[int, ...], n_classes: int) -> None:
    """Try a denoiser on two samples. This also initializes the lazy layers of a network.

    Parameters
    ----------
    module : torch.nn.Module
    sample_shape : tuple of int
        Shape in which the network sees a sample.
    n_classes : int
        Number of classes; as a class code, it means "any class".

    Raises
    ------
    ValueError
        If the network cannot be called, or returns anything but an estimate of the noise.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    x = torch.zeros(2, *sample_shape, device=device)
    codes = torch.full((2,), n_classes, device=device)
    in_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        output = module(x, x.new_full((2,), 0.5), codes)
    except UNUSABLE as error:
        raise ValueError(
            f"module={type(module).__name__} must have forward(x, t, c) for samples x of shape "
            f"{tuple(x.shape)}, times t and class codes c from 0 to {n_classes}, but {error}."
        ) from error
    finally:
        for part in in_training:
            part.training = True
    if not isinstance(output, torch.Tensor) or output.shape != x.shape:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(
            f"module={type(module).__name__} must return one estimate of the noise for each entry "
            f"of its samples, of shape {tuple(x.shape)}, got {found}."
        )
