"""Forgetting by climbing the loss."""

from ._fixed_targets import BaseFixedTargets
from ._unlearner_docs import with_unlearner_docs


@with_unlearner_docs
class GradientAscentUnlearner(BaseFixedTargets):
    """Climb the loss of the rows to forget.

    Retained rows take no part. The loss has no upper bound, so a rate that is a little too large
    destroys the network. Running statistics of normalisation layers are left alone.

    Parameters
    ----------
    {estimator}

    lr : float, default=1e-2
        Learning rate; decays to 0 along half a cosine.

    {passes}

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="sgd"
        What makes the steps; "sgd" has a momentum of 0.9.

    {seed}

    Attributes
    ----------
    {models}

    {facts}

    See Also
    --------
    SFRonUnlearner : Climbs with a step of bounded length, and repairs.

    References
    ----------
    .. [1] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei, S. Liu, "SalUn: Empowering Machine Unlearning
       via Gradient-based Weight Saliency in Both Image Classification and Generation",
       arXiv:2310.12508, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import GradientAscentUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GradientAscentUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator=None,
        *,
        lr=1e-2,
        weight_decay=0.0,
        max_epochs="auto",
        batch_size=None,
        optimizer="sgd",
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
        return request.forget, request.codes[request.forget]

    def _loss(self, request, outputs, targets):
        return -super()._loss(request, outputs, targets)

    def _options(self, request):
        return {"freeze_norm": True}
