"""Callbacks of fits, which releases of scikit-learn before 1.9 lack.

With an older release, estimators fit in the same way but report to no callback.
"""

from contextlib import nullcontext
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


__all__ = ["CallbackSupportMixin", "with_callbacks"]
