"""The hyperplane learned soup, mixed in blocks that fit into memory."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ..neural.files import KeyMap
from ..utils._typing import RandomState
from ._base import BaseSoup, Mixed
from .ingredients import Evaluation, SoupNetwork
from .recipes import LAYERWISE_CONSTRAINT, GroupingRule, MEHLConfig, learn_mehl_coefficients


class MEHLSoup(BaseSoup):
    r"""Memory-efficient hyperplane learned soup.

    The weights of the soup are :math:`w_g = \sum_i \alpha_{gi} w_{ig}` for each group g of
    parameters. The coefficients may have any sign and satisfy :math:`\sum_i \alpha_{gi} = 1`. They
    are learned by gradient descent on the loss over the mixing samples. A step costs one backward
    pass through one network. Ingredients are read from memory-mapped files, so the fit needs memory
    for about four networks, however many ingredients there are.

    Parameters
    ----------
    estimator : skorch.NeuralNet, FrozenEstimator or None, default=None
        The network, with its loss, optimizer and device. The soup of a classifier is a classifier,
        and the soup of a regressor is a regressor. A fitted net is copied with its classes, and its
        weights are the common start of ingredients that are trained here. None uses the net of the
        first ingredient or, without ingredients, a :class:`~sklearn_ext.NetClassifier` with 10
        epochs.

    ingredients : list, str, path-like or None, default=None
        Trained networks of one architecture that were fine-tuned from the same weights, head
        included: fitted skorch nets, :class:`~sklearn.frozen.FrozenEstimator` around them, torch
        modules, state dicts, or paths; or a folder or glob pattern of paths. A path is a file or
        folder that :class:`~sklearn_ext.neural.LazyTensors` reads, such as a checkpoint of the
        Hugging Face libraries. `fit` then takes the **mixing samples**. Do not use samples
        that the ingredients were trained on, because they favor the most overfitted ingredient.
        None trains the ingredients in `fit`.

    param_grid : dict, list of dicts or None, default=None
        Parameters of `estimator` that vary between ingredients: lists of values, as for
        :class:`~sklearn.model_selection.GridSearchCV`, or distributions. None trains all
        ingredients with the estimator's own parameters, so that they differ only in their seeds and
        thus in the order of the samples.

    n_ingredients : int or None, default=None
        Number of ingredients to train. None trains one for each point of a grid of lists, or 3
        otherwise.

    layerwise : bool, "module" or callable, default=True
        How parameters are divided into groups, each with its own coefficients. True makes each
        tensor a group, which is the "MEHL-Soup+" of the paper. False puts all of them in one group,
        and "module" groups tensors by the module that owns them. A callable takes the name of a
        parameter and returns the name of its group.

    block_size : int or None, default=None
        Number of ingredients that are mixed at a time. None mixes all of them, or, with directions
        that are stored on a GPU by default, as many as fit into half of its free memory.

    n_directions : int or None, default=None
        Number of leading directions of each group along which a block is mixed: those along which
        its ingredients differ most. A step then reads `n_directions` half-precision copies of the
        network instead of all ingredients, which makes it several times as fast with many
        ingredients, and the fit keeps them in memory. None uses the direction of every ingredient.

    n_outer : int, default=1
        Passes over all ingredients. Each pass divides them into new random blocks.

    max_epochs : int, default=5
        Passes over the mixing samples for each block.

    min_iter : int, default=50
        Minimum number of steps for each block. If `max_epochs` passes take fewer steps, further
        passes follow.

    learning_rate : float, default=0.03
        Peak learning rate of the optimizer.

    batch_size : int, default=64
        Number of mixing samples per step.

    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer of the coefficients. Its weight decay is set to 0.

    warmup : float in [0, 1] or None, default=0.2
        Fraction of the steps of a block during which the learning rate rises before falling to 0
        along a cosine. None keeps it constant.

    clip_norm : float or None, default=1.0
        Maximum norm of the gradient with respect to the weights. Longer gradients are scaled down
        to it. None disables clipping.

    scale : {"mean", "unit", "raw"}, default="mean"
        Unit of the learning rate. With "mean", it is a change in a coefficient, the same for short
        and long directions. With "unit", it is a distance between weights, as in the published
        code, and must be tuned for each network. With "raw", it is a change in a coefficient along
        directions that keep their lengths.

    start : {"mean", "first_block"}, default="mean"
        Where the first block starts: at the mean of all ingredients, or at the mean of the block,
        as in the published code.

    directions : {"auto", "streamed", "stored"}, default="auto"
        Whether the ingredients of a block are read at each step ("streamed") or kept on the device
        of the net ("stored"), which needs memory for `block_size` more networks. "auto" streams on
        the CPU, and on a GPU if half of its free memory is too small for a block.

    validation_fraction : float in (0, 1) or cross-validation splitter, default=0.2
        Fraction of the samples to hold out from training, for mixing and evaluation. The first
        split of a splitter is used. If `ingredients` are given, all samples are mixing samples.

    init_params : source of weights or None, default=None
        Weights from which all ingredients are trained: anything that may be an element of
        `ingredients`. None starts from the weights of a fitted `estimator`, or else from random
        weights that are drawn with `random_state`.

    key : str or None, default=None
        Entry with the weights in training checkpoints from ``torch.save``; dots separate nested
        names. None takes the first of "model", "state_dict", "model_state_dict", "module" and "ema"
        that a checkpoint has.

    key_map : dict, callable or None, default=None
        New names for stored tensors whose names differ from those of the network; None as a name
        leaves a tensor out. Prefixes that wrappers add, such as ``"module."``, need no entry.

    scoring : str, callable or None, default=None
        Score on the mixing samples. None uses the score of the net: accuracy or R2.

    refresh_bn : bool, default=True
        Whether to re-estimate the running statistics of batch normalization for each soup: on the
        training samples if the ingredients are trained here, and on the mixing samples otherwise.

    cache_dir : str, path-like or None, default=None
        Folder for trained ingredients. A later `fit` with the same data, parameters, start and seed
        trains only the missing ones. None keeps the ingredients only during `fit`.

    n_jobs : int or None, default=None
        Number of ingredients to train in parallel, each with one thread. It does not affect the
        results.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the split, the training and the mixing. Pass an int for
        reproducible results across calls.

    verbose : int, default=0
        If positive, `fit` prints the scores of the ingredients and of the soups.

    Attributes
    ----------
    estimator_ : skorch.NeuralNet
        The soup as one fitted net, which you can use alone.

    coef_ : ndarray of shape (n_groups, n_ingredients)
        Coefficients of the ingredients in each group of parameters. Each row sums to 1.

    groups_ : dict of str to list of str
        Names of the parameters in each group, by name of the group.

    ingredients_ : list or None
        Paths or networks. None if the ingredients were trained without `cache_dir`.

    ingredient_names_ : list of str
        Names of the ingredients, as `coef_frame` shows them.

    ingredient_params_ : list of dict
        Parameters with which each ingredient was trained. The dicts are empty if `ingredients` were
        given.

    ingredient_scores_ : ndarray of shape (n_ingredients,)
        Score of each ingredient on the mixing samples.

    ingredient_losses_ : ndarray of shape (n_ingredients,)
        Mean loss of each ingredient on the mixing samples.

    soup_scores_ : dict of str to float
        Scores of ``"best_single"``, ``"uniform"`` and ``"soup"`` on the mixing samples.
        Coefficients are chosen or learned on these samples, so evaluate the soup on others.

    soup_losses_ : dict of str to float
        Losses of the same three networks.

    classes_ : ndarray of shape (n_classes,)
        Class labels. Defined only for a classifier.

    input_shape_ : tuple of int or None
        Shape of one sample. None if X was not an array.

    n_features_in_ : int
        Number of features seen during fit. Defined only when X is an array.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    history_ : list of dict
        Pass over the ingredients ("outer"), block, epoch, step, loss and learning rate of each
        step.

    See Also
    --------
    LearnedSoup : Learned coefficients that are positive.
    SoupCoefficientDisplay : Plots the coefficients.
    learn_mehl_coefficients : The algorithm as a function.
    coefficient_gradient : The gradient that it follows.

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

    _parameter_constraints: dict[str, Any] = {
        **BaseSoup._parameter_constraints,
        "layerwise": LAYERWISE_CONSTRAINT,
        "block_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_directions": [Interval(Integral, 1, None, closed="left"), None],
        "n_outer": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "min_iter": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [callable],
        "warmup": [Interval(Real, 0, 1, closed="both"), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "scale": [StrOptions({"mean", "unit", "raw"})],
        "start": [StrOptions({"mean", "first_block"})],
        "directions": [StrOptions({"auto", "streamed", "stored"})],
    }
    _recipe_attributes = ("history_",)

    def __init__(
        self,
        estimator: Any = None,
        *,
        ingredients: Any = None,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        n_ingredients: int | None = None,
        layerwise: GroupingRule = True,
        block_size: int | None = None,
        n_directions: int | None = None,
        n_outer: int = 1,
        max_epochs: int = 5,
        min_iter: int = 50,
        learning_rate: float = 0.03,
        batch_size: int = 64,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        warmup: float | None = 0.2,
        clip_norm: float | None = 1.0,
        scale: str = "mean",
        start: str = "mean",
        directions: str = "auto",
        validation_fraction: Any = 0.2,
        init_params: Any = None,
        key: str | None = None,
        key_map: KeyMap | None = None,
        scoring: str | Callable[..., float] | None = None,
        refresh_bn: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            ingredients=ingredients,
            param_grid=param_grid,
            n_ingredients=n_ingredients,
            validation_fraction=validation_fraction,
            init_params=init_params,
            key=key,
            key_map=key_map,
            scoring=scoring,
            refresh_bn=refresh_bn,
            cache_dir=cache_dir,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.layerwise = layerwise
        self.block_size = block_size
        self.n_directions = n_directions
        self.n_outer = n_outer
        self.max_epochs = max_epochs
        self.min_iter = min_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.scale = scale
        self.start = start
        self.directions = directions

    @classmethod
    def from_paper(cls, **params: Any) -> Self:
        """Make a MEHL-Soup+ with the settings of the published code.

        This sets ``block_size=18``, ``start="first_block"``, ``scale="unit"``, ``min_iter=0``,
        ``learning_rate=0.01`` and ``batch_size=128``, the settings with which 72 networks were
        mixed in one pass. All other settings are the defaults. The published code clips the
        gradient for vision transformers only; pass ``clip_norm=None`` for other networks. Pass
        ``layerwise=False`` for MEHL-Soup without the "+".

        Parameters
        ----------
        **params : dict
            Further parameters. They take precedence over the settings of the paper.

        Returns
        -------
        MEHLSoup
        """
        published = {
            "block_size": 18,
            "start": "first_block",
            "scale": "unit",
            "min_iter": 0,
            "learning_rate": 0.01,
            "batch_size": 128,
        }
        return cls(**{**published, **params})

    def _mix(
        self, network: SoupNetwork, evaluations: Sequence[Evaluation], rng: np.random.RandomState
    ) -> Mixed:
        config = MEHLConfig(**{f.name: getattr(self, f.name) for f in fields(MEHLConfig)})
        learned = learn_mehl_coefficients(
            network.net.module_,
            network.store.ingredients,
            network.mixing.X,
            network.mixing.targets,
            network.loss_of,
            config=config,
            rng=rng,
            after_step=network.after_step,
        )
        network.refresh_buffers_(range(len(network.store)))
        return Mixed(learned.coef.numpy(), learned.groups, {"history_": learned.history})
