"""Forgetting by a teacher that knows nothing."""

import copy
from numbers import Real

import torch
from sklearn.utils._param_validation import Interval

from ...neural import log_probabilities, predict_logits
from ..steps._losses import distillation
from ._fixed_targets import BaseFixedTargets
from ._unlearner_docs import with_unlearner_docs


@with_unlearner_docs
class BadTeacherUnlearner(BaseFixedTargets):
    """Learn the retained rows from the original model, the others from a random one.

    The targets are probabilities: those of the original model for retained rows, those of the same
    network with new random weights for the rows to forget. Layers get new weights by their
    ``reset_parameters``; one that has no such method stays as it is.

    Parameters
    ----------
    {estimator}

    temperature : float, default=1
        Divides the logits of both teachers and of the student.

    lr : float, default=1e-3
        Learning rate; decays to 0 along half a cosine.

    {passes}

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        What makes the steps; "sgd" has a momentum of 0.9.

    {seed}

    Attributes
    ----------
    {models}

    {facts}

    See Also
    --------
    MUSOUnlearner : Trains on the forget rows, too, with labels as if they had never been seen.

    References
    ----------
    .. [1] V. Chundawat, A. Tarun, M. Mandal, M. Kankanhalli, "Can Bad Teaching Induce Forgetting?
       Unlearning in Deep Networks Using an Incompetent Teacher", arXiv:2205.08096, 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import BadTeacherUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BadTeacherUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints = {
        **BaseFixedTargets._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator=None,
        *,
        temperature=1.0,
        lr=1e-3,
        weight_decay=0.0,
        max_epochs="auto",
        batch_size=None,
        optimizer="adamw",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            lr=lr,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            random_state=random_state,
            verbose=verbose,
        )
        self.temperature = temperature

    def _training_rows(self, request):
        net = request.net
        targets = self._teach(net, request.X)
        novice = copy.deepcopy(net)
        for layer in novice.module_.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        targets[request.forget] = self._teach(novice, request.X[request.forget])
        return torch.arange(len(targets)), targets

    def _teach(self, net, X):
        return (log_probabilities(net, predict_logits(net, X)) / self.temperature).softmax(dim=1)

    def _loss(self, request, outputs, targets):
        log_p = log_probabilities(request.net, outputs)
        return distillation(log_p, targets, self.temperature)
