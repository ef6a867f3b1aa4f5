"""The tasks of a fit, as a soup reports them to callbacks."""

from typing import Any


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
