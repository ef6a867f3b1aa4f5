"""Model Stock, from the angles between fine-tuned networks."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..neural.files import KeyMap
from ..utils._typing import RandomState
from ._base import BaseSoup, Mixed
from .ingredients import Evaluation, SoupNetwork
from .recipes import merge_model_stock


class ModelStock(BaseSoup):
    r"""Model Stock: a point between a base and an average, determined by angles.

    For each tensor, with the average :math:`\bar w` of N ingredients, the base :math:`w_0` and the
    mean cosine c of the angles between the differences :math:`w_i - w_0`, the soup is
    :math:`w = t\, \bar w + (1 - t)\, w_0` with :math:`t = N c / (1 + (N - 1) c)` [1]_. Two
    ingredients are enough, and nothing is learned on the mixing samples.

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

    base : source of weights or None, default=None
        Weights from which the ingredients were fine-tuned: anything that may be an element of
        `ingredients`. None uses the weights of a fitted `estimator`, or the common start of
        ingredients that are trained here.

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
        Coefficients of the ingredients in each parameter tensor. The base has the remaining
        coefficient, so rows need not sum to 1.

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

    ratios_ : dict of str to float
        The ratio t of each parameter.

    See Also
    --------
    UniformSoup : The average, without the base.
    WiSEFT : One ratio for all parameters, chosen on the mixing samples.
    merge_model_stock : The algorithm as a function.

    References
    ----------
    .. [1] D.-H. Jang, S. Yun, D. Han, "Model Stock: All We Need Is Just a Few Fine-Tuned Models",
       ECCV 2024, arXiv:2403.19522.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ModelStock
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = ModelStock(n_ingredients=3, random_state=0).fit(X, y)
    >>> bool(soup.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSoup._parameter_constraints,
        "base": "no_validation",
    }
    _recipe_attributes = ("ratios_",)
    _is_linear = False

    def __init__(
        self,
        estimator: Any = None,
        *,
        ingredients: Any = None,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        n_ingredients: int | None = None,
        base: Any = None,
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
        self.base = base

    def _mix(
        self, network: SoupNetwork, evaluations: Sequence[Evaluation], rng: np.random.RandomState
    ) -> Mixed:
        n = len(network.store)
        ratios = merge_model_stock(
            network.net.module_, network.store.ingredients, network.required_base()
        )
        network.refresh_buffers_(range(n))
        coef = np.repeat(np.array(list(ratios.values()))[:, None] / n, n, axis=1)
        groups = {name: [name] for name in ratios}
        return Mixed(coef, groups, {"ratios_": ratios})
