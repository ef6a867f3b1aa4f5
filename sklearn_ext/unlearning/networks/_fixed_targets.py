"""Unlearners whose rows and targets are known before the first step."""

from abc import abstractmethod

from ._base import BaseFineTuner


class BaseFixedTargets(BaseFineTuner):
    """A fine-tuner on rows and targets that it chooses once."""

    def _unlearn(self, request):
        rows, targets = self._training_rows(request)
        return self._train(
            request,
            len(rows),
            lambda index: (request.X[rows[index]], targets[index]),
            **self._options(request),
        )

    @abstractmethod
    def _training_rows(self, request):
        """Return the rows to train on, as an index into X, and their targets."""

    def _options(self, request):
        """Return further arguments of the training loop."""
        return {}
