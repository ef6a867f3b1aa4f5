"""A soup on disk: weights as safetensors, and beside them how they were made, as JSON.

The recipe's ``models`` are those of a linear merge whose weights are not normalised: they sum to 1
already, and some may be negative. Each model lists its weight for every parameter.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .._version import __version__
from ..neural import load_tensors, save_tensors
from ._layout import layout_of
from ._shelf import weights_by_tensor

_FORMAT = "sklearn_ext.soup/1"
_ELSEWHERE = ("estimator_", "coef_", "ingredients_")  # in the weights, the models, or nowhere


def save_soup(soup, path):
    """Write the weights and the recipe of a fitted soup.

    Parameters
    ----------
    soup : BaseSoup
    path : path-like
        Of the weights, ending with ``.safetensors``; the recipe goes to the same name with
        ``.json``.
    """
    path = Path(path)
    layout = layout_of(soup.estimator_.module_)
    save_tensors(path, layout.own_tensors(), metadata={"format": "pt"})
    weights = weights_by_tensor(soup.coef_, soup.groups_)
    models = [
        {
            "model": name,
            "parameters": {
                "weight": [{"filter": tensor, "value": row[k]} for tensor, row in weights.items()]
            },
        }
        for k, name in enumerate(soup.ingredient_names_)
    ]
    fitted = {
        name: _encoded(value)
        for name, value in vars(soup).items()
        if name.endswith("_") and not name.startswith("_") and name not in _ELSEWHERE
    }
    recipe = {
        "format": _FORMAT,
        "class": type(soup).__name__,
        "versions": {"sklearn_ext": __version__, "torch": version("torch")},
        "weights": path.name,
        "merge_method": "linear",
        "parameters": {"normalize": False},
        "models": models,
        "target_shape": list(soup._target_shape),
        "fitted": fitted,
    }
    path.with_suffix(".json").write_text(json.dumps(recipe, indent=1))


def read_soup(soup, path):
    """Read what :func:`save_soup` wrote.

    Parameters
    ----------
    soup : BaseSoup
        Of the class that wrote it.
    path : path-like
        Of the weights.

    Returns
    -------
    tensors : dict of str to tensor
    attributes : dict
        All fitted attributes but the net.

    Raises
    ------
    FileNotFoundError
        If one of the two files is not there.
    ValueError
        If the recipe is of another class or format.
    """
    path = Path(path)
    recipe = json.loads(path.with_suffix(".json").read_text())
    if recipe.get("format") != _FORMAT or recipe["class"] != type(soup).__name__:
        raise ValueError(
            f"{str(path.with_suffix('.json'))!r} is a {recipe.get('class')} in the format "
            f"{recipe.get('format')!r}; needed is a {type(soup).__name__} in {_FORMAT!r}."
        )
    attributes = {name: _decoded(value) for name, value in recipe["fitted"].items()}
    tables = [
        {entry["filter"]: entry["value"] for entry in model["parameters"]["weight"]}
        for model in recipe["models"]
    ]
    attributes["coef_"] = np.array(
        [[table[members[0]] for table in tables] for members in attributes["groups_"].values()]
    )
    attributes["ingredients_"] = None
    attributes["_target_shape"] = tuple(recipe["target_shape"])
    return load_tensors(path), attributes


def _encoded(value):
    """Return JSON for a fitted attribute; arrays and tuples remember what they were."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(item) for item in value]}
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[key, _encoded(item)] for key, item in value.items()]}
    if isinstance(value, np.generic):
        return value.item()
    # Parameters of ingredients may be anything, and are here to be read.
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def _decoded(value):
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], dtype=np.dtype(value["dtype"]))
    if "tuple" in value:
        return tuple(_decoded(item) for item in value["tuple"])
    return {key: _decoded(item) for key, item in value["dict"]}
