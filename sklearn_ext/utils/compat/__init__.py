"""Reports of fits to scikit-learn's callbacks, which releases before 1.9 lack.

With an older release, estimators fit in the same way but report to no callback.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import sklearn

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class _NoContext:
        """Takes the reports of a fit and never asks to stop."""

        def subcontext(self, *args: Any, **kwargs: Any) -> Self:
            return self

        def call_on_fit_task_begin(self, *args: Any, **kwargs: Any) -> Self:
            return self

        def call_on_fit_task_end(self, *args: Any, **kwargs: Any) -> bool:
            return False

        def propagate_callback_context(self, estimator: Any) -> nullcontext[None]:
            return nullcontext()

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's class of the same name."""

        def set_callbacks(self, *callbacks: Any) -> Self:
            """Raise an error, because callbacks require scikit-learn 1.9."""
            raise RuntimeError(
                f"set_callbacks requires scikit-learn 1.9 or newer, got {sklearn.__version__}."
            )

        def _init_callback_context(self, *args: Any, **kwargs: Any) -> _NoContext:
            return _NoContext()

    def with_callbacks(fit: Any) -> Any:
        """Return the method itself."""
        return fit


class FitTasks:
    """Reports a fit to the callbacks of its estimator, as a sequence of finished tasks.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        Its method that fits is decorated with `with_callbacks`.
    n_tasks : int or None
        Number of tasks to come; None means that it is unknown.
    X, y : object
        Training data as `fit` received them, for callbacks that ask for them.
    sample_weight : object, default=None
    """

    def __init__(
        self, estimator: Any, n_tasks: int | None, X: Any, y: Any, sample_weight: Any = None
    ) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        self._estimator = estimator
        self._context = estimator._init_callback_context(max_subtasks=n_tasks)
        self._context.call_on_fit_task_begin(estimator=estimator, **self._data)

    def __call__(self, name: str, attributes: Callable[[], dict[str, Any]] | None = None) -> bool:
        """Report a finished task, and return whether a callback asks to stop.

        Parameters
        ----------
        name : str
        attributes : callable, default=None
            Returns the attributes with which a copy of the estimator counts as fitted, as if the
            fit had stopped now. None means that it cannot be used yet.

        Returns
        -------
        bool
        """
        task = self._context.subcontext(name)
        return self._end(task.call_on_fit_task_begin(estimator=self._estimator), attributes)

    @contextmanager
    def fit_of(self, name: str, estimator: Any) -> Iterator[None]:
        """Report the fit of another estimator in a ``with`` block as one task.

        The callbacks that scikit-learn propagates follow the fit itself, too.

        Parameters
        ----------
        name : str
        estimator : CallbackSupportMixin
        """
        task = self._context.subcontext(name)
        task.call_on_fit_task_begin(estimator=self._estimator)
        with task.propagate_callback_context(estimator):
            yield
        self._end(task, None)

    def end(self) -> None:
        """Report the end of the fit, when the estimator has its fitted attributes."""
        self._end(self._context, lambda: {})

    def _end(self, context: Any, attributes: Callable[[], dict[str, Any]] | None) -> bool:
        return context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=attributes, **self._data
        )


def never_stop(name: str) -> bool:
    """Stand in for :class:`FitTasks` where nobody follows the fit."""
    return False


__all__ = ["CallbackSupportMixin", "FitTasks", "never_stop", "with_callbacks"]
