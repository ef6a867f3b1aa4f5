"""What `ConditionalDDPM` resolves from its parameters and the data before it trains."""

import copy
import math
from functools import partial
from numbers import Integral

import numpy as np
from torch import nn

from ._denoisers import MLPDenoiser, UNetDenoiser
from ._scaling import UnitRange

_NAMED = {"mlp": MLPDenoiser, "unet": UNetDenoiser}
_AUTO_EPOCHS = 256
_MOST_AUTO_STEPS = 6000


def auto_steps(n_samples: int, batch_size: int) -> int:
    """Return the steps of 256 passes over the rows, but 6,000 at most."""
    return min(math.ceil(_AUTO_EPOCHS * n_samples / batch_size), _MOST_AUTO_STEPS)


def resolve_row_shape(image_shape, input_shape) -> tuple[int, ...]:
    """Return the shape in which the denoiser sees a row.

    Raises
    ------
    ValueError
        If `image_shape` is no shape of an image, or holds another number of entries.
    """
    if image_shape is None:
        return tuple(input_shape)
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or not all(isinstance(k, Integral) and k > 0 for k in shape):
        raise ValueError(
            "image_shape must be None, (height, width) or (channels, height, width), "
            f"got {image_shape!r}."
        )
    if math.prod(shape) != math.prod(input_shape):
        raise ValueError(
            f"image_shape={image_shape!r} asks for {math.prod(shape)} entries a row, but rows "
            f"have {math.prod(input_shape)}."
        )
    return tuple(map(int, shape))


def resolve_unit_range(feature_range, X: np.ndarray, row_shape) -> UnitRange:
    """Return the map to [-1, 1]: of each feature of a table, of all pixels of images together.

    Raises
    ------
    ValueError
        If `feature_range` is neither "auto" nor a pair of rising numbers.
    """
    if isinstance(feature_range, str):
        axis = 0 if len(row_shape) == 1 else None
        return UnitRange.between(X.min(axis=axis), X.max(axis=axis))
    if len(feature_range) != 2 or not feature_range[0] < feature_range[1]:
        raise ValueError(
            f"feature_range must be 'auto' or a pair (low, high), got {feature_range!r}."
        )
    return UnitRange.between(*feature_range)


def build_denoiser(module, width, row_shape, n_classes) -> nn.Module:
    """Return a new denoiser, or a copy of the one given."""
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    if module is None:
        module = "mlp" if len(row_shape) == 1 else "unet"
    if isinstance(module, str):
        module = _NAMED[module] if width is None else partial(_NAMED[module], width=width)
    return module(row_shape, n_classes)
