"""The fitted attributes of a diffusion model as one safetensors file."""

import json
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ..neural import load_tensors, save_tensors
from ._diffusion import Diffusion
from ._scaling import UnitRange

_FORMAT = "sklearn_ext.ConditionalDDPM/1"
_LABELS = ("classes_", "forgotten_classes_")
_PLAIN = ("input_shape_", "n_features_in_", "n_iter_", "score_seed_")
_DESCRIPTION = "description"


def write_checkpoint(path, fitted: dict) -> None:
    """Write fitted attributes, given by name, to a file."""
    diffusion: Diffusion = fitted["diffusion_"]
    tensors = {
        "center": torch.from_numpy(diffusion.unit_range.center),
        "half_width": torch.from_numpy(diffusion.unit_range.half_width),
        "levels": torch.from_numpy(diffusion.levels),
        "loss_curve": torch.from_numpy(fitted["loss_curve_"]),
        "class_prior": torch.from_numpy(fitted["class_prior_"]),
    }
    tensors |= {f"module.{k}": value for k, value in diffusion.module.state_dict().items()}
    state = fitted["training_state_"] or {}
    tensors |= {f"training.{k}": torch.from_numpy(value) for k, value in state.items()}
    description = {"format": _FORMAT, "row_shape": diffusion.row_shape}
    description |= {name: fitted[name] for name in _PLAIN}
    description |= {name: _labels_as_json(fitted[name]) for name in _LABELS}
    if "feature_names_in_" in fitted:
        description["feature_names_in_"] = fitted["feature_names_in_"].tolist()
    # The description is a tensor, not metadata: files of torch have no place for the latter.
    encoded = np.frombuffer(json.dumps(description).encode(), np.uint8).copy()
    save_tensors(path, {**tensors, _DESCRIPTION: torch.from_numpy(encoded)})


def read_checkpoint(path, build_module: Callable[[tuple[int, ...], int], nn.Module]) -> dict:
    """Return the fitted attributes that a file holds.

    Parameters
    ----------
    path : str or path-like
    build_module : callable
        From the shape of a row and the number of classes to a denoiser.

    Raises
    ------
    ValueError
        If it holds something else, or the weights of another architecture.
    """
    tensors = load_tensors(path)
    try:
        description = json.loads(bytes(tensors[_DESCRIPTION].tolist()))
        if description["format"] != _FORMAT:
            raise KeyError("format")
        fitted = {name: description[name] for name in _PLAIN}
        fitted |= {name: _labels_from_json(description[name]) for name in _LABELS}
        fitted["input_shape_"] = tuple(fitted["input_shape_"])
        fitted["loss_curve_"] = tensors["loss_curve"].numpy()
        fitted["class_prior_"] = tensors["class_prior"].numpy()
        state = {k: value.numpy() for k, value in _below(tensors, "training.").items()}
        fitted["training_state_"] = state or None
        unit_range = UnitRange(tensors["center"].numpy(), tensors["half_width"].numpy())
        row_shape, levels = tuple(description["row_shape"]), tensors["levels"].numpy()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is no checkpoint of a ConditionalDDPM.") from error
    if "feature_names_in_" in description:
        fitted["feature_names_in_"] = np.array(description["feature_names_in_"], dtype=object)
    n_classes = len(fitted["classes_"])
    module = build_module(row_shape, n_classes).eval()
    try:
        module.load_state_dict(_below(tensors, "module."))
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {str(path)!r} do not fit the denoiser that module and width ask for: "
            f"{error}"
        ) from error
    fitted["diffusion_"] = Diffusion(module, levels, unit_range, row_shape, n_classes)
    return fitted


def _below(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _labels_as_json(labels):
    dtype = "object" if labels.dtype.hasobject else labels.dtype.str
    return {"dtype": dtype, "values": labels.tolist()}


def _labels_from_json(stored):
    return np.array(stored["values"], dtype=np.dtype(stored["dtype"]))
