"""A fitted diffusion model as one safetensors file."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..neural import load_tensors, save_tensors
from ..utils._typing import Array, FloatArray
from ._diffusion import Diffusion, UnitRange

_FORMAT = "sklearn_ext.ConditionalDDPM/1"
_DESCRIPTION = "description"
_SAMPLE_SHAPE = "row_shape"  # the key in files of this format


@dataclass(frozen=True)
class DDPMCheckpoint:
    """The contents of a checkpoint: the fitted attributes of a :class:`ConditionalDDPM`.

    Attributes
    ----------
    diffusion : Diffusion
    classes, forgotten_classes : ndarray
    class_prior, loss_curve : ndarray of float
    training_state : dict of str to ndarray or None
    input_shape : tuple of int
    n_features_in, n_iter, score_seed : int
    feature_names_in : ndarray of object or None
    """

    diffusion: Diffusion
    classes: Array
    forgotten_classes: Array
    class_prior: FloatArray
    loss_curve: FloatArray
    training_state: dict[str, Array] | None
    input_shape: tuple[int, ...]
    n_features_in: int
    n_iter: int
    score_seed: int
    feature_names_in: Array | None


def write_checkpoint(path: str | os.PathLike[str], fitted: DDPMCheckpoint) -> None:
    """Write a fitted model to a file that ends with ``.safetensors``."""
    diffusion = fitted.diffusion
    tensors = {
        "center": torch.from_numpy(diffusion.unit_range.center),
        "half_width": torch.from_numpy(diffusion.unit_range.half_width),
        "levels": torch.from_numpy(diffusion.levels),
        "loss_curve": torch.from_numpy(fitted.loss_curve),
        "class_prior": torch.from_numpy(fitted.class_prior),
    }
    tensors |= {f"module.{k}": value for k, value in diffusion.module.state_dict().items()}
    if fitted.training_state is not None:
        tensors |= {
            f"training.{k}": torch.from_numpy(value) for k, value in fitted.training_state.items()
        }
    description = {
        "format": _FORMAT,
        _SAMPLE_SHAPE: diffusion.sample_shape,
        "input_shape_": fitted.input_shape,
        "n_features_in_": fitted.n_features_in,
        "n_iter_": fitted.n_iter,
        "score_seed_": fitted.score_seed,
        "classes_": _labels_as_json(fitted.classes),
        "forgotten_classes_": _labels_as_json(fitted.forgotten_classes),
    }
    if fitted.feature_names_in is not None:
        description["feature_names_in_"] = fitted.feature_names_in.tolist()
    # The description is a tensor because the files of torch.save have no place for metadata.
    encoded = np.frombuffer(json.dumps(description).encode(), np.uint8).copy()
    save_tensors(path, {**tensors, _DESCRIPTION: torch.from_numpy(encoded)})


def read_checkpoint(
    path: str | os.PathLike[str], build_module: Callable[[tuple[int, ...], int], nn.Module]
) -> DDPMCheckpoint:
    """Read a fitted model from a file.

    Parameters
    ----------
    path : str or path-like
    build_module : callable
        Called with the shape of a sample and the number of classes. It returns a denoiser.

    Returns
    -------
    DDPMCheckpoint

    Raises
    ------
    ValueError
        If the file is not a checkpoint, or has the weights of another architecture.
    """
    tensors = load_tensors(path)
    try:
        description = json.loads(bytes(tensors[_DESCRIPTION].tolist()))
        if description["format"] != _FORMAT:
            raise KeyError("format")
        classes = _labels_from_json(description["classes_"])
        forgotten = _labels_from_json(description["forgotten_classes_"])
        state = {k: value.numpy() for k, value in _below(tensors, "training.").items()}
        names = description.get("feature_names_in_")
        sample_shape, levels = tuple(description[_SAMPLE_SHAPE]), tensors["levels"].numpy()
        unit_range = UnitRange(tensors["center"].numpy(), tensors["half_width"].numpy())
        fitted = {
            "classes": classes,
            "forgotten_classes": forgotten,
            "class_prior": tensors["class_prior"].numpy(),
            "loss_curve": tensors["loss_curve"].numpy(),
            "training_state": state if len(state) > 0 else None,
            "input_shape": tuple(description["input_shape_"]),
            "n_features_in": description["n_features_in_"],
            "n_iter": description["n_iter_"],
            "score_seed": description["score_seed_"],
            "feature_names_in": None if names is None else np.array(names, dtype=object),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint of a ConditionalDDPM.") from error
    module = build_module(sample_shape, len(classes)).eval()
    try:
        module.load_state_dict(_below(tensors, "module."))
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {str(path)!r} do not fit the denoiser specified by the parameters "
            f"module and width: {error}"
        ) from error
    diffusion = Diffusion(module, levels, unit_range, sample_shape, len(classes))
    return DDPMCheckpoint(diffusion=diffusion, **fitted)


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _labels_as_json(labels: Array) -> dict[str, Any]:
    dtype = "object" if labels.dtype.hasobject else labels.dtype.str
    return {"dtype": dtype, "values": labels.tolist()}


def _labels_from_json(stored: dict[str, Any]) -> Array:
    return np.array(stored["values"], dtype=np.dtype(stored["dtype"]))
