"""Parts that the docstrings of detectors have in common."""

from ..utils._shared_docs import INPUT_FACTS, with_shared_docs

with_common_parts = with_shared_docs(
    {
        "estimator": """
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted one is copied; one
        that is not is cloned and fitted, and None is a :class:`NetClassifier`. Cloning the
        detector, as searches and cross-validation do, forgets what a bare net has learned: put a
        fitted one into a :class:`~sklearn.frozen.FrozenEstimator`.
""",
        "rows": """
    head : str or None, default=None
        Name of the linear layer that returns the logits; None is the last one.

    outlier_label : int or str, default=-1
        Label in y that means "of no class". Such rows are left out.
""",
        "rejection": """
    id_rejection_rate : float in (0, 1), default=0.05
        Share of new in-distribution rows that `predict` may call outliers.
""",
        "held_out": """
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that is kept from fitting and sets the threshold. With a fitted
        `estimator` there is nothing else to fit, and all rows set it: pass rows that the net was
        not trained on, or too many new ones will be rejected.
""",
        "learned_held_out": """
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that is kept from fitting and sets the threshold.
""",
        "seed": """
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of these rows, and of the training of `estimator` where it is not
        fitted.
""",
        "classifier": """
    classifier_ : skorch.NeuralNetClassifier
        The fitted classifier.

    classes_ : ndarray of shape (n_classes,)
        Its labels.

    offset_ : float
        Threshold of the scores.
""",
        "facts": """
    input_shape_ : tuple of int
        Shape of one row of X.
"""
        + INPUT_FACTS,
    }
)
