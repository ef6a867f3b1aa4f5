"""A fitted pipeline and its requests as arrays and JSON."""

import base64
import hashlib
import json
import pickle
from typing import Any

import joblib
import numpy as np
import safetensors.numpy
from sklearn.frozen import FrozenEstimator

from ....utils._typing import Array, FloatArray
from .._model import PipelineConfig, PipelineModel
from .._samples import StoredSamples
from ._serialization import NotStorableError, Tensors, decode, encode


def encoded_model(
    config: PipelineConfig, model: PipelineModel, attributes: dict[str, Any]
) -> tuple[Tensors, Any]:
    """Encode a fitted pipeline, without deleted samples.

    Parameters
    ----------
    config : PipelineConfig
        Settings of the fit. Frozen steps that cannot be stored are only named.
    model : PipelineModel
        Fitted steps and samples.
    attributes : dict of str to object
        Other content to store.

    Returns
    -------
    tensors : dict of str to ndarray
    header : object
        As JSON.
    """
    tensors: Tensors = {}
    samples = model.samples.compressed()
    content = {
        "config": {"pin": config.pin, "on_pinned": config.on_pinned, "seed": config.seed},
        "samples": [
            samples.X,
            samples.y,
            samples.weights,
            samples.ids,
            samples.pinned,
            samples.head_index,
        ],
        "attributes": attributes,
    }
    header: Any = {name: encode(value, tensors, name) for name, value in content.items()}
    for kind, steps in (("given", config.steps), ("steps", model.steps)):
        header[kind] = [[name, _encoded_step(kind, name, step, tensors)] for name, step in steps]
    return tensors, header


def decoded_model(
    tensors: Tensors, header: Any, frozen: dict[str, Any]
) -> tuple[PipelineConfig, PipelineModel, dict[str, Any]]:
    """Restore a fitted pipeline from `encoded_model`.

    Parameters
    ----------
    tensors : dict of str to ndarray
    header : object
    frozen : dict of str to transformer
        By name, the frozen steps that were only named.

    Returns
    -------
    config : PipelineConfig
    model : PipelineModel
    attributes : dict of str to object

    Raises
    ------
    ValueError
        If the content is something else, or if a frozen step is missing.
    """
    try:
        settings, parts, attributes = (
            decode(header[name], tensors) for name in ("config", "samples", "attributes")
        )
        given, steps = (
            [(name, _decoded_step(name, step, tensors, frozen)) for name, step in header[kind]]
            for kind in ("given", "steps")
        )
        *arrays, head_index = parts
        samples = StoredSamples(*arrays)
        samples.head_index = head_index
        config = PipelineConfig(steps=given, **settings)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"The file does not contain a ForgettingPipeline: {error!r}") from error
    return config, PipelineModel(steps, samples), attributes


def encoded_request(record: dict[str, Any], given: Any) -> dict[str, Any]:
    """Return the entry of the log for a request, with the samples given to it, or None."""
    entry = dict(record)
    if given is not None:
        tensors: Tensors = {}
        entry["json"] = encode(list(given), tensors, "learn")
        entry["data"] = base64.b64encode(safetensors.numpy.save(tensors)).decode()
    return entry


def decoded_request(entry: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the record and the samples of a request from `encoded_request`."""
    record = {k: v for k, v in entry.items() if k not in ("json", "data")}
    if "json" not in entry:
        return record, None
    return record, decode(entry["json"], safetensors.numpy.load(base64.b64decode(entry["data"])))


def hash_of_steps(steps: Any, start: str = "") -> str:
    """Hash everything on which the output of steps depends.

    Parameters
    ----------
    steps : list of (str, estimator)
        Fitted steps.
    start : str, default=""
        Hash of the steps before.

    Returns
    -------
    str
    """
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for name, step in steps:
        _update(digest, *_content(name, step))
    return digest.hexdigest()


def hash_of_head(start: str, coef: FloatArray, intercept: FloatArray, classes: Array | None) -> str:
    """Hash a linear model whose features have the hash `start`."""
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    _update(digest, "", {"coef": coef, "intercept": np.asarray(intercept)})
    if classes is not None:
        digest.update(repr(classes.tolist()).encode())
    return digest.hexdigest()


def _encoded_step(kind: str, name: str, step: Any, tensors: Tensors) -> Any:
    own: Tensors = {}
    try:
        encoded = encode(step, own, f"{kind}.{name}")
    except NotStorableError as error:
        if not isinstance(step, FrozenEstimator):
            raise NotStorableError(
                f"The step {name!r} cannot be stored: {error} If it needs no fit, or was fitted to "
                "other data, put it into a FrozenEstimator, and give it to `load` as `frozen`."
            ) from error
        return {"frozen": type(step.estimator).__name__}
    tensors.update(own)
    return encoded


def _decoded_step(name: str, data: Any, tensors: Tensors, frozen: dict[str, Any]) -> Any:
    if isinstance(data, dict) and set(data) == {"frozen"}:
        if name not in frozen:
            raise ValueError(
                f"The step {name!r}, a frozen {data['frozen']}, was not stored. Pass "
                f"frozen={{{name!r}: transformer}}."
            )
        step = frozen[name]
        return step if isinstance(step, FrozenEstimator) else FrozenEstimator(step)
    return decode(data, tensors)


def _content(name: str, step: Any) -> tuple[Any, Tensors]:
    """Return the content of a step, or only its type if it can be neither stored nor pickled."""
    tensors: Tensors = {}
    try:
        return encode(step, tensors, name), tensors
    except NotStorableError:
        pass
    try:
        return joblib.hash(step), {}
    except (pickle.PicklingError, AttributeError, TypeError):
        return type(step).__name__, {}


def _update(digest: Any, data: Any, tensors: Tensors) -> None:
    digest.update(json.dumps(data, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
