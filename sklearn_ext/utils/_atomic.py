"""Fits and requests that either succeed or change nothing."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Fit = TypeVar("_Fit", bound=Callable[..., Any])
_Estimator = TypeVar("_Estimator")


def atomic_fit(fit: _Fit) -> _Fit:
    """Decorate `fit` so that a call that raises leaves the estimator as it was before.

    An estimator that was never fitted stays unfitted, and a fitted one keeps predicting as before.
    This must be the outermost decorator, so that the others clean up first. torch computes
    gradients afterwards if it did before: Ctrl-C in the middle of entering ``torch.no_grad``, a
    class in Python, would turn them off for good.
    """

    @functools.wraps(fit)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(self, "__dict__"):  # called on the class, with the first argument as self
            raise TypeError(
                f"{fit.__name__} must be called on an estimator, as in "
                f"Estimator(...).{fit.__name__}(...), got {type(self).__name__}."
            )
        before, torch = dict(vars(self)), sys.modules.get("torch")
        has_gradients = torch.is_grad_enabled() if torch is not None else True
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            if torch is not None:
                torch.set_grad_enabled(has_gradients)
            raise

    return cast(_Fit, wrapper)


def working_copy(estimator: _Estimator) -> _Estimator:
    """Return a shallow copy of an estimator, on which changes can be made safely.

    Assigning the ``__dict__`` of the copy to the original makes all changes in one step, which no
    exception can interrupt.
    """
    copied = object.__new__(type(estimator))
    vars(copied).update(vars(estimator))
    return copied
