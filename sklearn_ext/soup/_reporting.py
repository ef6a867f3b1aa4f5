"""What a soup reports: the tasks of a fit to callbacks, and its parameters on one line."""

import inspect
from collections.abc import Mapping
from typing import Any

import skorch
import torch
from sklearn.frozen import FrozenEstimator

_MOST_SHOWN = 3
_LONGEST_VALUE = 60


class SoupProgress:
    """Reports a fit to scikit-learn's callbacks: one task per ingredient, then one per step.

    Parameters
    ----------
    soup : BaseSoup
    data : dict of str to object
        The samples, as callbacks get them.
    """

    def __init__(self, soup: Any, data: dict[str, Any]) -> None:
        self._soup = soup
        self._data = data
        self._context = soup._init_callback_context(max_subtasks=None)
        self._context.call_on_fit_task_begin(estimator=soup, **data)

    def after_run(self) -> bool:
        """Report that an ingredient is trained."""
        return self._report("ingredient")

    def after_step(self) -> bool:
        """Report a step of mixing, and return whether a callback asks to stop."""
        return self._report("step")

    def end(self) -> None:
        """Report the end of the fit."""
        self._finish(self._context)

    def _report(self, name: str) -> bool:
        task = self._context.subcontext(name)
        return self._finish(task.call_on_fit_task_begin(estimator=self._soup))

    def _finish(self, context: Any) -> bool:
        return context.call_on_fit_task_end(
            estimator=self._soup, reconstruction_attributes=lambda: {}, **self._data
        )


def one_line(soup: Any, longest: int) -> str:
    """Return the class of a soup and the parameters that differ from their defaults."""
    defaults = inspect.signature(type(soup)).parameters
    shown = [
        f"{name}={_brief(getattr(soup, name))}"
        for name, parameter in defaults.items()
        if getattr(soup, name) is not parameter.default
    ]
    line = f"{type(soup).__name__}({', '.join(shown)})"
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def _brief(value: Any) -> str:
    """Return a parameter as a few words on one line."""
    if isinstance(value, (skorch.NeuralNet, torch.nn.Module)):
        return type(value).__name__
    if isinstance(value, FrozenEstimator):
        return f"FrozenEstimator({_brief(value.estimator)})"
    if isinstance(value, (list, tuple)) and len(value) > _MOST_SHOWN:
        return f"<{len(value)} of {_brief(value[0])}>"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_brief, value))}]"
    if isinstance(value, Mapping) and any(isinstance(v, torch.Tensor) for v in value.values()):
        return f"<{len(value)} tensors>"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
