"""Parts that the docstrings of the regressor and of the classifier have in common."""

from ..utils._shared_docs import INPUT_FACTS, with_shared_docs

with_common_docs = with_shared_docs(
    {
        "parameters": r"""
    n_support : int, float in (0, 1) or "auto", default="auto"
        Number of support points, or their share of the distinct training rows. "auto" is a fifth
        of the rows, at least 50 and at most 200. Never more than there are distinct rows.

    kernel : {"exponential", "laplacian", "rbf"}, default="laplacian"
        Form of the kernel. With bandwidths :math:`b_{ik}` (``bandwidths_``) it is
        :math:`\exp(-\sqrt{\sum_k b_{ik} (x_k - c_{ik})^2})`,
        :math:`\exp(-\sum_k b_{ik} |x_k - c_{ik}|)` or
        :math:`\exp(-\sum_k b_{ik} (x_k - c_{ik})^2)`.

    gamma : float or "median", default="median"
        Bandwidth to begin with, for standardised features. "median" makes the median exponent
        between random rows equal to 4.

    locality : float in [0, 1] or "auto", default="auto"
        How far the bandwidths of one support point may go from those that all share. 1 leaves
        them free, 0 ties them together; between, deviations decay at ``1 / locality - 1`` times
        the learning rate. "auto" is 1 up to a ridge of 0.03, and ``0.03 / alpha_`` above: noisy
        data cannot afford many free bandwidths.

    support_dropout : float in [0, 1) or "auto", default="auto"
        Share of the support points that a training step leaves out, drawn anew every time. It
        keeps bandwidths from fitting noise. "auto" is a hundredth of the number of bandwidths
        per row, at most 0.1.

    learn_targets : bool, default=True
        Whether the targets that the support points interpolate are learned, beginning at the
        data. False keeps the data, as in the paper.

    alpha : float, "auto" or "learn", default="auto"
        Ridge of the interpolation. "auto" takes the best of kernel ridge regression with the
        first bandwidths, by the leave-one-out error on at most 500 rows, times the share that
        these are of all rows, and at least 1e-3. "learn" trains it along, beginning at 1e-3.

    growth : {"random", "error", "error_sampled"} or None, default="random"
        How support points are added to the first third: at random, those of largest absolute
        error, or drawn with odds proportional to it. None starts with all of them, at random.

    n_warmup : int, default=300
        Steps on bandwidths that all support points share.

    n_growth_stages : int, default=5
        Number of times that support points are added.

    growth_iter : int, default=100
        Steps before each time.

    max_iter : int, default=2000
        Steps with all support points, while the learning rate decays to one percent.

    batch_size : int or "auto", default="auto"
        Rows in a step. "auto" is a fortieth of the rows, at least 128 and at most 512.

    learning_rate : float, default=1e-2
        Step length of Adam on the bandwidths, and on ``log(alpha)`` when that is learned.

    target_learning_rate : float, default=1e-3
        Step length of Adam on the targets. Slow targets fit less of the noise.

    beta_2 : float in [0, 1), default=0.98
        Decay of Adam's second moment.

    standardize : bool, default=True
        Whether features are brought to mean 0 and variance 1 during training. Fitted attributes
        are in the units of the input all the same.
""",
        "computing": """
    engine : {"auto", "numba", "torch"}, default="auto"
        What does the arithmetic. "auto" is numba on the CPU, else torch.

    device : str, torch.device or None, default=None
        Where the torch engine works: "cpu", "cuda", "mps", or "auto" for the best there is.
        None is the CPU.

    random_state : int, RandomState instance or None, default=None
        Seed of the choice of support points and of the batches. The same seed gives the same
        model on any number of threads and for any order of the rows.

    warm_start : bool, default=False
        Whether a further call of `fit` goes on from the fitted support points with `max_iter`
        steps, adding support points if `n_support` has grown.

    verbose : int, default=0
        Prints the loss every 100 steps when positive.
""",
        "support": """
    support_ : ndarray of shape (n_support_,)
        Indices of the support points in the training data.

    support_vectors_ : ndarray of shape (n_support_, n_features)
        The support points.
""",
        "machine": """
    alpha_ : float
        Ridge of the interpolation.

    n_support_ : int
        Number of support points.

    feature_importances_ : ndarray of shape (n_features,)
        Mean over the support points of the exponent's change for one standard deviation of the
        feature, ``bandwidths_ * std**2`` (``* std`` for the laplacian kernel), weighted with the
        absolute values of ``dual_coef_``; sums to one.
""",
        "input_facts": INPUT_FACTS,
    }
)
