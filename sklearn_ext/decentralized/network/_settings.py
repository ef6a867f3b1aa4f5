"""Settings that all nodes must share, and their comparison before the first message."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from ..._version import __version__
from ...utils._typing import FloatArray
from .._config import DeKRRConfig
from .._node_samples import NodeSamples

_LONGEST_VALUE = 80


def describe_settings(
    config: DeKRRConfig, samples: NodeSamples, *, asynchronous: bool, update: bool
) -> dict[str, Any]:
    """Return all settings on which messages and solution depend, but no sample.

    Returns
    -------
    dict
        Numbers, strings and lists by name.
    """
    anchors = config.anchors
    grids = {
        f"{name}_grid": list(getattr(config, f"{name}_grid"))
        for name in ("gamma", "alpha", "consensus_weight")
        if getattr(config, name) == "cv"
    }
    return {
        "method": "partial_fit" if update else "fit",
        "version": __version__,
        "number of features": samples.X.shape[1],
        "number of outputs": samples.Y.shape[1],
        "dtype of X": str(samples.X.dtype),
        "graph": describe_graph(config.adjacency),
        "n_components": config.sizes.tolist(),
        "anchors": None if anchors is None else _digest(anchors),
        "cv": repr(config.cv) if config.cross_validates else None,
        "asynchronous": asynchronous,
        **{
            name: getattr(config, name)
            for name in (
                *("gamma", "alpha", "consensus_weight", "feature_selection", "oversampling"),
                *("fit_intercept", "solver", "damping", "max_iter", "tol", "on_failure"),
                *("message_dtype", "censoring", "censoring_decay"),
            )
        },
        **grids,
    }


def describe_graph(adjacency: FloatArray) -> list[Any]:
    """Return the edges of a graph, with their weights unless these are 1."""
    edges = zip(*np.nonzero(np.triu(adjacency)), strict=True)
    return [
        [int(i), int(j)] if adjacency[i, j] == 1 else [int(i), int(j), float(adjacency[i, j])]
        for i, j in edges
    ]


def _digest(array: Any) -> str:
    dense = array.toarray() if sparse.issparse(array) else np.asarray(array)
    content = hashlib.sha256(np.ascontiguousarray(dense, dtype=np.float64).tobytes())
    return f"{dense.shape} {content.hexdigest()[:12]}"


def check_settings(settings: Mapping[int, Mapping[str, Any]]) -> None:
    """Check that all nodes have the same settings.

    Parameters
    ----------
    settings : dict of int to dict
        Settings by node.

    Raises
    ------
    ValueError
        If the settings differ. The message, which is the same at every node, names the settings and
        the nodes that differ.
    """
    names = sorted({name for own in settings.values() for name in own})
    differences = []
    for name in names:
        nodes = defaultdict(list)
        for rank, own in settings.items():
            nodes[repr(own.get(name, "missing"))].append(rank)
        if len(nodes) > 1:
            # The value of the majority comes first, because the others are likely to be wrong.
            groups = sorted(nodes.items(), key=lambda item: (-len(item[1]), item[1]))
            shown = "; ".join(f"{_shortened(value)} at {_names(at)}" for value, at in groups)
            differences.append(f"{name} is {shown}")
    if differences:
        raise ValueError(
            f"All nodes must have the same settings, but {', and '.join(differences)}."
        )


def _names(ranks: list[int]) -> str:
    return ("node " if len(ranks) == 1 else "nodes ") + ", ".join(map(str, ranks))


def _shortened(value: str) -> str:
    if len(value) <= _LONGEST_VALUE:
        return value
    return f"{value[:_LONGEST_VALUE]}... ({hashlib.sha256(value.encode()).hexdigest()[:8]})"
