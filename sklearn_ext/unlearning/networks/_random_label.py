"""Forgetting by wrong labels."""

import torch

from ...neural import to_tensor
from ._fixed_targets import BaseFixedTargets
from ._unlearner_docs import with_unlearner_docs
from ._wrong_labels import draw_wrong_labels


@with_unlearner_docs
class RandomLabelUnlearner(BaseFixedTargets):
    """Train on all rows, those to forget with random wrong labels.

    Also known as amnesiac unlearning. A wrong label is drawn once for each row, as often as it is
    among the retained rows. It tends to forget more than retraining would.

    Parameters
    ----------
    {estimator}

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
    .. [1] L. Graves, V. Nagisetty, V. Ganesh, "Amnesiac Machine Learning", AAAI, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import RandomLabelUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RandomLabelUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator=None,
        *,
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

    def _training_rows(self, request):
        codes = request.codes.cpu().numpy()
        wrong = draw_wrong_labels(codes[request.forget], codes[request.retain], request.rng)
        targets = request.codes.clone()
        targets[request.forget] = to_tensor(wrong, request.net)
        return torch.arange(len(targets)), targets
