"""Weights on disk: single files, shards with an index, folders, and nested checkpoints."""

import argparse
import os
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from ._fields import mapping_of, parse_json, text

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_SUFFIXES = (".safetensors", *_TORCH_SUFFIXES)
_INDEX = ".index.json"
# Names of weights in folders of the Hugging Face libraries and OpenCLIP, the preferred ones first.
_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "open_clip_model")
# Entries of training checkpoints that contain the weights, the preferred ones first.
_ENTRIES = ("model", "state_dict", "model_state_dict", "module", "ema")
# Types of settings and scores in training checkpoints. Creating their instances runs no code.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    np._core.multiarray.scalar,
    np._core.multiarray._reconstruct,
    *{type(np.dtype(kind)) for kind in np.typecodes["All"]},
]
_allowing = threading.Lock()  # torch's list of allowed types belongs to the whole process

Reader = Callable[[str], torch.Tensor]


def open_source(path: Path, key: str | None) -> tuple[dict[str, Reader], dict[str, str]]:
    """Open a file or folder of weights.

    Parameters
    ----------
    path : Path
    key : str or None
        Entry of a training checkpoint.

    Returns
    -------
    readers : dict of str to callable
        For each tensor, a function that reads it, given its name.
    metadata : dict of str to str
        Text in the header of a safetensors file.
    """
    if path.is_dir():
        path = _weights_in_folder(path)
    if not path.name.endswith((*_SUFFIXES, _INDEX)):
        raise ValueError(f"path must end with one of {(*_SUFFIXES, _INDEX)}, got {str(path)!r}.")
    if not path.is_file():
        raise FileNotFoundError(f"The file {str(path)!r} does not exist.")
    if path.name.endswith(_INDEX):
        return _open_shards(path, key), {}
    try:
        return _open_file(path, key)
    except _ContentError as error:
        raise ValueError(f"{str(path)!r} {error}") from None
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is not a readable file of named tensors ({_reason(error)}); no code in "
            "it was executed."
        ) from error


def is_source(path: str) -> bool:
    """Return whether a path is a file or folder that contains weights, judging by its names."""
    if not os.path.isdir(path):
        return path.endswith(_SUFFIXES)
    return any(name.endswith((*_SUFFIXES, _INDEX)) for name in os.listdir(path))


def is_checkpoint_folder(path: str) -> bool:
    """Return whether a folder is one checkpoint, as the Hugging Face libraries write it."""
    names = os.listdir(path)
    has_model = any(name.startswith(_STEMS) and name.endswith(_SUFFIXES) for name in names)
    return (has_model and "config.json" in names) or any(name.endswith(_INDEX) for name in names)


class _ContentError(ValueError):
    """The file is readable, but its content is not the expected one."""


def _weights_in_folder(folder: Path) -> Path:
    preferred = [
        folder / f"{stem}{suffix}"
        for suffix in (".safetensors", f".safetensors{_INDEX}", ".bin", f".bin{_INDEX}")
        for stem in _STEMS
    ]
    found = [path for path in preferred if path.is_file()]
    if found:
        return found[0]
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(_INDEX))
    names = names or sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(names) == 1:
        return folder / names[0]
    what = f"{len(names)} files, {shortened(names)}" if names else "none"
    raise ValueError(
        f"The folder {str(folder)!r} must contain one file of weights that ends with one of "
        f"{(*_SUFFIXES, _INDEX)}, or {_STEMS[0]!r} with one of these endings, got {what}."
    )


def _open_shards(index: Path, key: str | None) -> dict[str, Reader]:
    source = str(index)
    stored = parse_json(index.read_bytes(), source)
    files = stored.get("weight_map") if isinstance(stored, dict) else None
    files = mapping_of(text)(files, f"weight_map in {source}")
    shards: dict[str, dict[str, Reader]] = {}
    for file in sorted(set(files.values())):
        if os.path.basename(file) != file or "\\" in file or not file.endswith(_SUFFIXES):
            raise ValueError(
                f"weight_map in {source} must name files of weights in its own folder, got "
                f"{file!r}."
            )
        shards[file] = open_source(index.parent / file, key)[0]
    lacking = [name for name, file in files.items() if name not in shards[file]]
    if lacking:
        raise ValueError(
            f"weight_map in {source} must name the files that contain its tensors, but "
            f"{files[lacking[0]]!r} lacks {lacking[0]!r}."
        )
    return {name: shards[file][name] for name, file in files.items()}


def _open_file(path: Path, key: str | None) -> tuple[dict[str, Reader], dict[str, str]]:
    if path.suffix == ".safetensors":
        if key is not None:
            raise _ContentError(f"has no entries, so key must be None, got {key!r}.")
        # The library opens the path twice, for the header and for the tensors. If a writer replaces
        # the file in between, the two do not belong together.
        while True:
            before = os.stat(path)
            file = safetensors.safe_open(path, framework="pt", device="cpu")
            if os.path.samestat(before, os.stat(path)):
                return dict.fromkeys(file.keys(), file.get_tensor), file.metadata() or {}
    with _allowing, torch.serialization.safe_globals(_HARMLESS):
        # Files from before torch 1.6 are not archives, and cannot be mapped into memory.
        content = torch.load(
            path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True
        )
    tensors = _tensors_of(content, key)
    return dict.fromkeys(tensors, tensors.__getitem__), {}


def _tensors_of(content: Any, key: str | None) -> dict[str, torch.Tensor]:
    """Return the named tensors in the content of a file from ``torch.save``."""
    if key is not None:
        content = _entry(content, key)
    elif isinstance(content, Mapping) and not _is_state_dict(content):
        nested = [name for name in _ENTRIES if _is_state_dict(content.get(name))]
        content = content[nested[0]] if nested else content
    if _is_state_dict(content):
        return dict(content)
    entry = "" if key is None else f" in the entry {key!r}"
    if not isinstance(content, Mapping):
        raise _ContentError(
            f"is not a readable file of named tensors: it contains a {type(content).__name__}"
            f"{entry}."
        )
    kinds = [f"{name!r} ({type(value).__name__})" for name, value in content.items()]
    raise _ContentError(
        f"is not a readable file of named tensors: it contains the entries {shortened(kinds)}"
        f"{entry}. Pass the name of the entry that contains the weights as key."
    )


def _entry(content: Any, key: str) -> Any:
    found = content
    for part in [key] if isinstance(content, Mapping) and key in content else key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            names = [str(name) for name in content] if isinstance(content, Mapping) else []
            raise _ContentError(f"lacks the entry key={key!r}; its entries are {shortened(names)}.")
        found = found[part]
    return found


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in content.items()
        )
    )


def shortened(names: list[str], most: int = 5) -> str:
    """Return at most five of the names as text, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line]  # torch names the type that it refuses
    return (named or lines or [type(error).__name__])[0][:150].rstrip(".")
