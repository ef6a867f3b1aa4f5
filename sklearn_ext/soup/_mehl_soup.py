"""The hyperplane learned soup, in blocks that fit into memory."""

from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import BaseSoup, Mixed
from ._coefficients import directions_for, learn_on_hyperplane_, learning_groups
from ._docs import with_common_parts
from ._mixing import Schedule


@with_common_parts
class MEHLSoup(BaseSoup):
    r"""Memory-efficient hyperplane learned soup.

    The weights of the soup are :math:`w = \sum_i \alpha_i w_i` with :math:`\sum_i \alpha_i = 1`
    and coefficients of any sign, for each group of parameters, learned by gradient descent on the
    loss on the mixing rows. A step costs one backward pass of one network and, since ingredients
    are read from memory maps, holds three to four of them in memory, however many there are.

    Parameters
    ----------
    {sources}

    layerwise : bool, "module" or callable, default=True
        Groups of parameters with coefficients of their own: True makes each tensor one (the
        "MEHL-Soup+" of the paper), False all of them together, "module" those of each layer. A
        callable takes the name of a parameter and returns that of its group.

    block_size : int or None, default=None
        Ingredients that are mixed at a time. None is all of them.

    n_outer : int, default=1
        Passes over all ingredients; each cuts them in new random blocks.

    max_epochs : int, default=5
        Passes over the mixing rows for each block.

    min_steps : int, default=50
        There are more passes where they would be fewer steps than this.

    lr : float, default=0.03
        Step length of the optimiser, at its peak.

    batch_size : int, default=64
        Mixing rows in a step.

    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Moves the coefficients, without weight decay.

    warmup : float in [0, 1] or None, default=0.2
        Share of the steps of a block in which the step length rises, before it falls to 0 along
        a cosine. None keeps it constant.

    clip_norm : float or None, default=1.0
        Largest norm of the gradient with respect to the weights.

    scale : {"mean", "unit", "raw"}, default="mean"
        Unit of the step length. "mean": a change of a coefficient, the same for short and long
        directions. "unit": a distance between weights, as in the published code; it must be tuned
        for each network. "raw": a change of a coefficient, of directions as they are.

    start : {"mean", "first_block"}, default="mean"
        Where the first block starts: at the mean of all ingredients, or at that of the block, as
        in the published code.

    directions : {"auto", "streamed", "stored"}, default="auto"
        Whether the ingredients of a block are read at each step or kept on the device of the net,
        which takes `block_size` more models of memory. "auto" reads on the CPU only.

    {common}

    Attributes
    ----------
    {attributes}

    history_ : list of dict
        Pass, block, epoch, step, loss and step length of every step.

    See Also
    --------
    LearnedSoup : Positive coefficients.
    SoupCoefficientDisplay : Plots the coefficients.

    References
    ----------
    .. [1] T. Li, W. Jiang, F. Liu, X. Huang, J. T. Kwok, "Learning Scalable Model Soup on a Single
       GPU: An Efficient Subspace Training Strategy", ECCV 2024, arXiv:2407.03641.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import MEHLSoup
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = MEHLSoup(layerwise=False, n_ingredients=3, random_state=0).fit(X, y)
    >>> soup.coef_.shape
    (1, 3)
    >>> round(float(soup.coef_.sum()), 6)
    1.0
    """

    _parameter_constraints = {
        **BaseSoup._parameter_constraints,
        "layerwise": ["boolean", StrOptions({"module"}), callable],
        "block_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_outer": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "min_steps": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [callable],
        "warmup": [Interval(Real, 0, 1, closed="both"), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "scale": [StrOptions({"mean", "unit", "raw"})],
        "start": [StrOptions({"mean", "first_block"})],
        "directions": [StrOptions({"auto", "streamed", "stored"})],
    }

    def __init__(
        self,
        estimator=None,
        *,
        ingredients=None,
        param_grid=None,
        n_ingredients=None,
        layerwise=True,
        block_size=None,
        n_outer=1,
        max_epochs=5,
        min_steps=50,
        lr=0.03,
        batch_size=64,
        optimizer=torch.optim.AdamW,
        warmup=0.2,
        clip_norm=1.0,
        scale="mean",
        start="mean",
        directions="auto",
        validation_fraction=0.2,
        init_params=None,
        scoring=None,
        refresh_bn=True,
        cache_dir=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            estimator,
            ingredients=ingredients,
            param_grid=param_grid,
            n_ingredients=n_ingredients,
            validation_fraction=validation_fraction,
            init_params=init_params,
            scoring=scoring,
            refresh_bn=refresh_bn,
            cache_dir=cache_dir,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.layerwise = layerwise
        self.block_size = block_size
        self.n_outer = n_outer
        self.max_epochs = max_epochs
        self.min_steps = min_steps
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.scale = scale
        self.start = start
        self.directions = directions

    def _mix(self, bench, evaluations, rng):
        groups, mixed = learning_groups(bench, self.layerwise)
        schedule = Schedule(
            max_epochs=self.max_epochs,
            min_steps=self.min_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            optimizer=self.optimizer,
            warmup=self.warmup,
            clip_norm=self.clip_norm,
        )
        coef, history = learn_on_hyperplane_(
            bench,
            mixed,
            schedule,
            rng,
            block_size=self.block_size or len(bench.shelf),
            n_outer=self.n_outer,
            scale=self.scale,
            start=self.start,
            directions=directions_for(bench.net, self.directions),
        )
        return Mixed(coef.numpy(), groups, {"history_": history})
