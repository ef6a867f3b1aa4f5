"""Forgetting by wrong labels, in salient weights only."""

from numbers import Real

from sklearn.utils._param_validation import Interval

from ..steps._masks import summed_gradients, top_fraction_mask
from ._random_label import RandomLabelUnlearner
from ._unlearner_docs import with_unlearner_docs


@with_unlearner_docs
class SalUnUnlearner(RandomLabelUnlearner):
    """Train with random wrong labels, but only the weights that matter for the rows to forget.

    Weights are ranked by the size of the gradient of the loss, summed over the rows to forget;
    the others keep their values exactly.

    Parameters
    ----------
    {estimator}

    mask_fraction : float in [0, 1], default=0.5
        Share of the weights that may change.

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
    RandomLabelUnlearner : The same on all weights.

    References
    ----------
    .. [1] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei, S. Liu, "SalUn: Empowering Machine Unlearning
       via Gradient-based Weight Saliency in Both Image Classification and Generation",
       arXiv:2310.12508, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import SalUnUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SalUnUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints = {
        **RandomLabelUnlearner._parameter_constraints,
        "mask_fraction": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimator=None,
        *,
        mask_fraction=0.5,
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
        self.mask_fraction = mask_fraction

    def _options(self, request):
        module = request.module.eval()
        parameters = {
            name: weight for name, weight in module.named_parameters() if weight.requires_grad
        }

        def loss(rows):
            return request.row_losses(module(request.X[rows]), request.codes[rows]).mean()

        batches = request.forget.split(request.batch_size(self.batch_size))
        saliency = summed_gradients(loss, parameters, batches)
        return {"mask": top_fraction_mask(saliency, self.mask_fraction)}
