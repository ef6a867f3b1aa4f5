"""Parts that the docstrings of the unlearners of networks have in common."""

from ...utils._shared_docs import INPUT_FACTS, with_shared_docs

with_unlearner_docs = with_shared_docs(
    {
        "estimator": """
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        One that is not fitted is fitted first. None is
        :class:`~sklearn_ext.neural.NetClassifier`.
""",
        "passes": """
    weight_decay : float, default=0
        Decay of the weights.

    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto" is five, fewer when that would be more than 50,000 rows.

    batch_size : int or None, default=None
        Rows of a step; None is the net's.
""",
        "seed": """
    random_state : int, RandomState instance or None, default=None
        Seed of the original training, if there is any, and of all draws.

    verbose : int, default=0
        Prints the loss of each epoch when positive.
""",
        "models": """
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The model before.

    classes_ : ndarray of shape (n_classes,)
        Labels known to the original model.

    forget_idx_ : ndarray of int
        Rows that were to be forgotten.
""",
        "input_facts": INPUT_FACTS,
        "facts": """
    history_ : list of dict
        What happened in each epoch.

    input_shape_ : tuple of int
        Shape of one row of X.
"""
        + INPUT_FACTS,
    }
)
