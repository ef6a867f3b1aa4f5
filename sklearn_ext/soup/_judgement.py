"""Which ingredients are fit for a soup, and whether they belong together."""

from dataclasses import replace

import numpy as np

from ..utils._warnings import warn_caller

_BASIN_FACTOR = 2.0


def without_diverged(prepared, evaluations):
    """Leave out ingredients that are not finite, and warn of it.

    Parameters
    ----------
    prepared : Prepared
    evaluations : list of Evaluation
        Of its ingredients.

    Returns
    -------
    prepared : Prepared
    evaluations : list of Evaluation

    Raises
    ------
    ValueError
        If none is left.
    """
    kept = [k for k, evaluation in enumerate(evaluations) if np.isfinite(evaluation.loss)]
    if len(kept) == len(evaluations):
        return prepared, evaluations
    names = [name for k, name in enumerate(prepared.names) if k not in kept]
    if not kept:
        raise ValueError(f"No ingredient is finite in weights and loss: {', '.join(names)}.")
    rest = "One is left, which is the soup." if len(kept) == 1 else f"{len(kept)} are left."
    warn_caller(
        f"Ingredients with weights or a loss that is not finite are left out: {', '.join(names)}. "
        + rest
    )
    shelf = prepared.bench.shelf
    shelf = replace(shelf, ingredients=[shelf.ingredients[k] for k in kept])
    chosen = {
        name: [getattr(prepared, name)[k] for k in kept] for name in ("sources", "names", "params")
    }
    bench = replace(prepared.bench, shelf=shelf)
    return replace(prepared, bench=bench, **chosen), [evaluations[k] for k in kept]


def warn_of_many_basins(uniform_loss, mean_loss):
    """Warn if the mean of the weights is far worse than the ingredients are.

    Parameters
    ----------
    uniform_loss : float
        Of the uniform soup.
    mean_loss : float
        Of the ingredients.
    """
    if not uniform_loss <= _BASIN_FACTOR * abs(mean_loss):
        warn_caller(
            f"The mean of the weights has a loss of {uniform_loss:.4g}, the ingredients one of "
            f"{mean_loss:.4g} on average: THE INGREDIENTS SHARE NO BASIN, and averaging them "
            "makes little sense. All must be fine-tuned from the same weights, head included."
        )
