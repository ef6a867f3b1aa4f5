"""A fitted diffusion model as one safetensors file."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..neural import load_tensors, save_tensors
from ..neural.files import (
    checked_fields,
    integer,
    items,
    labels,
    labels_as_json,
    one_of,
    parse_json,
    read_file,
    text,
)
from ..utils._typing import Array, FloatArray
from ._diffusion import Diffusion, UnitRange
from ._training import MOMENTS, WEIGHTS

_FORMAT = "sklearn_ext.ConditionalDDPM/1"
_DESCRIPTION = "description"
_SAMPLE_SHAPE = "row_shape"  # the key in files of this format
_ARRAYS = ("center", "half_width", "levels", "loss_curve", "class_prior")
_LARGEST_SAMPLE = 2**27
_LARGEST_GENERATOR = 10_000
_TOLERANCE = 1e-6


def _shape(value: Any, name: str) -> tuple[int, ...]:
    return tuple(items(integer(1, _LARGEST_SAMPLE))(value, name))


_FIELDS = {
    "format": one_of(_FORMAT),
    _SAMPLE_SHAPE: _shape,
    "input_shape_": _shape,
    "n_features_in_": integer(1),
    "n_iter_": integer(0),
    "score_seed_": integer(0),
    "classes_": labels,
    "forgotten_classes_": labels,
    "feature_names_in_": lambda value, name: np.array(items(text)(value, name), dtype=object),
}


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
            f"training.{k}": torch.as_tensor(value) for k, value in fitted.training_state.items()
        }
    description = {
        "format": _FORMAT,
        _SAMPLE_SHAPE: diffusion.sample_shape,
        "input_shape_": fitted.input_shape,
        "n_features_in_": fitted.n_features_in,
        "n_iter_": fitted.n_iter,
        "score_seed_": fitted.score_seed,
        "classes_": labels_as_json(fitted.classes),
        "forgotten_classes_": labels_as_json(fitted.forgotten_classes),
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
    source = repr(str(path))
    # Files of torch.save have no place for a checksum.
    is_own = Path(path).suffix == ".safetensors"
    tensors = read_file(path)[0] if is_own else load_tensors(path)
    missing = sorted({_DESCRIPTION, *_ARRAYS} - tensors.keys())
    if missing:
        raise ValueError(
            f"{source} is not a checkpoint of a ConditionalDDPM: it lacks the tensors {missing}."
        )
    stored = tensors[_DESCRIPTION]
    if stored.dtype != torch.uint8 or stored.ndim != 1:
        raise ValueError(f"{_DESCRIPTION} in {source} must be the bytes of JSON text.")
    text_of = f"{_DESCRIPTION} in {source}"
    fields = checked_fields(
        parse_json(bytes(stored.tolist()), text_of),
        _FIELDS,
        text_of,
        may_lack=("feature_names_in_",),
    )
    arrays = {name: _array(tensors[name], f"{name} in {source}") for name in _ARRAYS}
    _check_agreement(fields, arrays, source)
    sample_shape, classes = fields[_SAMPLE_SHAPE], fields["classes_"]
    module = build_module(sample_shape, len(classes)).eval()
    try:
        module.load_state_dict(_below(tensors, "module."))
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {source} do not fit the denoiser specified by the parameters "
            f"module and width: {error}"
        ) from error
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"module.{name} in {source} must contain finite numbers only.")
    for name, buffer in module.named_buffers():
        if bool(torch.isnan(buffer).any()):  # masks may be infinite
            raise ValueError(f"module.{name} in {source} must contain numbers only.")
    state = _below(tensors, "training.")
    if state:
        _check_training_state(state, module, fields["n_iter_"], source)
    unit_range = UnitRange(arrays["center"], arrays["half_width"])
    return DDPMCheckpoint(
        diffusion=Diffusion(module, arrays["levels"], unit_range, sample_shape, len(classes)),
        classes=classes,
        forgotten_classes=fields["forgotten_classes_"],
        class_prior=arrays["class_prior"],
        loss_curve=arrays["loss_curve"],
        training_state={k: value.numpy() for k, value in state.items()} if state else None,
        input_shape=fields["input_shape_"],
        n_features_in=fields["n_features_in_"],
        n_iter=fields["n_iter_"],
        score_seed=fields["score_seed_"],
        feature_names_in=fields.get("feature_names_in_"),
    )


def _array(tensor: torch.Tensor, name: str) -> FloatArray:
    if tensor.dtype not in (torch.float32, torch.float64) or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} must contain finite numbers in single or double precision.")
    return tensor.numpy()


def _check_agreement(
    fields: Mapping[str, Any], arrays: Mapping[str, FloatArray], source: str
) -> None:
    """Check that the values in a checkpoint belong together."""
    sample_shape, classes = fields[_SAMPLE_SHAPE], fields["classes_"]
    sizes = [math.prod(fields[name]) for name in (_SAMPLE_SHAPE, "input_shape_")]
    prior, levels = arrays["class_prior"], arrays["levels"]
    names = fields.get("feature_names_in_")
    shape = arrays["center"].shape
    fits = arrays["half_width"].shape == shape and len(shape) <= len(sample_shape)
    fits = fits and all(
        size in (1, own) for size, own in zip(shape[::-1], sample_shape[::-1], strict=False)
    )
    rules = {
        f"{_SAMPLE_SHAPE} and input_shape_ must have the same number of entries": sizes[0]
        == sizes[1]
        <= _LARGEST_SAMPLE,
        "n_features_in_ must be one of the sizes of input_shape_ or their product": fields[
            "n_features_in_"
        ]
        in (*fields["input_shape_"], sizes[1]),
        "feature_names_in_ must name all features": names is None
        or len(names) == fields["n_features_in_"],
        "forgotten_classes_ must be some of classes_": set(fields["forgotten_classes_"].tolist())
        <= set(classes.tolist()),
        "class_prior must be the frequencies of classes_": prior.shape == classes.shape
        and bool((prior >= 0).all())
        and abs(float(prior.sum()) - (len(classes) > 0)) < _TOLERANCE,
        "center and half_width must broadcast against a sample": fits,
        "half_width must not be negative": bool((arrays["half_width"] >= 0).all()),
        "levels must be numbers from 0 to 1": levels.ndim == 1
        and len(levels) > 0
        and bool(((levels >= 0) & (levels <= 1)).all()),
        "loss_curve must have one entry per step": arrays["loss_curve"].shape
        == (fields["n_iter_"],),
    }
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(f"{source} is not a valid checkpoint: {rule}.")


def _check_training_state(
    state: Mapping[str, torch.Tensor], module: nn.Module, n_iter: int, source: str
) -> None:
    """Check that training can continue from the stored tensors."""
    own = {WEIGHTS + name: tensor for name, tensor in module.state_dict().items()}
    trained = [p for p in module.parameters() if p.requires_grad]
    moments = {f"{name}.{k}": p for name in MOMENTS for k, p in enumerate(trained)}
    allowed = {**own, **moments}
    unknown = sorted(state.keys() - allowed.keys() - {"step", "generator"})
    missing = sorted({*own, "step", "generator"} - state.keys())
    wrong = [
        name
        for name, tensor in state.items()
        if name in allowed
        and (tensor.shape != allowed[name].shape or bool(torch.isnan(tensor).any()))
    ]
    steps = [int(state["step"])] if "step" in state and state["step"].numel() == 1 else []
    wrong += [] if steps == [n_iter] else ["step"]
    wrong += [] if _is_generator_state(state.get("generator")) else ["generator"]
    if unknown or missing or wrong:
        raise ValueError(
            f"The state of the training in {source} must fit the denoiser: it lacks {missing[:5]}, "
            f"has the unknown tensors {unknown[:5]}, and has invalid values in {wrong[:5]}."
        )


def _is_generator_state(stored: torch.Tensor | None) -> bool:
    if stored is None or stored.dtype != torch.uint8 or stored.ndim != 1:
        return False
    if len(stored) != len(torch.Generator().get_state()):
        return len(stored) <= _LARGEST_GENERATOR  # the state of a generator on another device
    try:
        torch.Generator().set_state(stored)
    except RuntimeError:
        return False
    return True


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
