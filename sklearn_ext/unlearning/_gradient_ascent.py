"""Forgetting by climbing the loss."""

from ._unlearner_base import BaseFineTuner


class GradientAscentUnlearner(BaseFineTuner):
    """Climb the loss of the rows to forget.

    Retained rows take no part. The loss has no upper bound, so a rate that is a little too large
    destroys the network. Running statistics of normalisation layers are left alone.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        One that is not fitted is fitted first. None is
        :class:`~sklearn_ext.neural.NetClassifier`.

    lr : float, default=1e-2
        Learning rate; decays to 0 along half a cosine.

    weight_decay : float, default=0
        Decay of the weights.

    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto" is five, fewer when that would be more than 50,000 rows.

    batch_size : int or None, default=None
        Rows of a step; None is the net's.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="sgd"
        What makes the steps; "sgd" has a momentum of 0.9.

    random_state : int, RandomState instance or None, default=None
        Seed of the original training, if there is any, and of all draws.

    verbose : int, default=0
        Prints the loss of each epoch when positive.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The model before.

    classes_ : ndarray of shape (n_classes,)
        Labels known to the original model.

    forget_idx_ : ndarray of int
        Rows that were to be forgotten.

    history_ : list of dict
        What happened in each epoch.

    input_shape_ : tuple of int
        Shape of one row of X.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, when all are strings.

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
