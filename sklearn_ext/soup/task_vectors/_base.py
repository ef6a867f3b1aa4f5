"""Base class of the rules that merge task vectors."""

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from ...utils._typing import FloatArray
from .._base import BaseSoup, Mixed
from ..ingredients import Evaluation, SoupNetwork
from ..recipes import (
    TaskVectorConfig,
    add_task_vector_,
    by_quality,
    merged_task_vector,
    parameter_groups,
)

# Factors that "auto" tries, relative to the factor that makes the weights sum to 1.
_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


class BaseTaskVectorSoup(BaseSoup):
    """A base network plus a scaled task vector, which is merged from those of the ingredients.

    A subclass provides the settings of its rule. Without a parameter `weights`, all ingredients
    have the same weight.
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSoup._parameter_constraints,
        "base": "no_validation",
        "weights": [Real, "array-like"],
        "scaling": [StrOptions({"auto"}), Interval(Real, None, None, closed="neither")],
        "density": [Interval(Real, 0, 1, closed="right")],
        "normalize": ["boolean"],
        "elect_signs": ["boolean"],
    }
    _recipe_attributes = ("scaling_", "history_")
    _is_linear = False
    _factors: tuple[float, ...] = _FACTORS

    def __init__(
        self,
        estimator: Any,
        *,
        base: Any,
        scaling: float | str,
        **params: Any,
    ) -> None:
        super().__init__(estimator, **params)
        self.base = base
        self.scaling = scaling

    @abstractmethod
    def _config(self, weights: FloatArray) -> TaskVectorConfig:
        """Return the settings of the rule."""

    def _mix(
        self, network: SoupNetwork, evaluations: Sequence[Evaluation], rng: np.random.RandomState
    ) -> Mixed:
        base, store = network.required_base(), network.store
        members = range(len(store))
        config = self._config(merging_weights(getattr(self, "weights", 1.0), len(store)))
        total = config.weights.sum()
        if config.normalize and abs(total) < 1e-8:
            raise ValueError(f"weights must not sum to 0, got {config.weights.tolist()}.")
        unit = 1.0 if config.normalize or total <= 0 else 1.0 / total
        scalings = [unit * factor for factor in self._factors]
        if not isinstance(self.scaling, str):
            scalings = [float(self.scaling)]
        vector = merged_task_vector(
            network.net.module_, store.ingredients, base, config=config, rng=rng
        )
        tried = []
        for scaling in scalings:
            add_task_vector_(store, base, vector, scaling)
            network.refresh_buffers_(members)
            tried.append(network.evaluate())
            network.after_step()
        finite = [k for k, evaluation in enumerate(tried) if np.isfinite(evaluation.loss)]
        if not finite:
            raise ValueError(
                f"scaling must be smaller, got {self.scaling!r}: the loss is not finite."
            )
        best = finite[by_quality([tried[k] for k in finite])[0]]
        add_task_vector_(store, base, vector, scalings[best])
        network.refresh_buffers_(members)
        history = [
            {"scaling": scaling, "score": evaluation.score, "loss": evaluation.loss}
            for scaling, evaluation in zip(scalings, tried, strict=True)
        ]
        coef = scalings[best] * config.weights / (total if config.normalize else 1.0)
        groups = parameter_groups(store.parameters, layerwise=False)
        fitted = {"scaling_": scalings[best], "history_": history}
        return Mixed(coef[None, :], groups, fitted)


def merging_weights(weights: float | ArrayLike, n_ingredients: int) -> FloatArray:
    """Return one weight per ingredient.

    Raises
    ------
    ValueError
        If the number of weights differs from that of the ingredients, or a weight is not finite.
    """
    array = np.asarray(weights, dtype=np.float64)
    if array.shape not in ((), (n_ingredients,)) or not np.isfinite(array).all():
        raise ValueError(
            f"weights must be a finite number or {n_ingredients} of them, one per ingredient, got "
            f"{weights!r}."
        )
    return np.broadcast_to(array, (n_ingredients,)).copy()
