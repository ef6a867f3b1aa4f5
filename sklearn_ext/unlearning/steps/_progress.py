"""Telling a user's callbacks how far a network is with forgetting."""

import copy


class Progress:
    """One step an epoch or iteration of a fit, as scikit-learn's callbacks count them.

    Parameters
    ----------
    estimator : BaseUnlearner
    net : skorch.NeuralNetClassifier
        The net that is changed; callbacks that ask for a fitted estimator get a copy.
    data : dict
        X, y and metadata of `fit`.
    attributes : dict
        What a fitted estimator needs besides the net.
    """

    def __init__(self, estimator, net, data, attributes):
        self._estimator = estimator
        self._net = net
        self._data = data
        self._attributes = attributes
        self._context = None

    def begin(self, n_steps):
        """Announce so many steps."""
        self._context = self._estimator._init_callback_context(max_subtasks=n_steps)
        self._context.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def step(self):
        """Tell that a step is done, and return whether a callback wants no more."""
        step = self._context.subcontext("step")
        step.call_on_fit_task_begin(estimator=self._estimator)
        return self._end(step)

    def end(self):
        """Tell that all is done."""
        self._end(self._context)

    def _end(self, context):
        return context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=self._fitted, **self._data
        )

    def _fitted(self):
        net = copy.deepcopy(self._net)
        net.module_.eval()
        return self._attributes | {"estimator_": net}
