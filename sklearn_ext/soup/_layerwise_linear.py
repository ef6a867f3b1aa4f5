"""Linear combinations with given weights."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..neural.files import KeyMap
from ..utils._typing import FloatArray, RandomState
from ._base import BaseSoup, Mixed
from .ingredients import Evaluation, SoupNetwork, weights_by_tensor
from .recipes import LAYERWISE_CONSTRAINT, GroupingRule, parameter_groups


class LayerwiseLinear(BaseSoup):
    r"""Linear merge: a combination of ingredients with given weights, which may differ by layer.

    The weights of the soup are :math:`w_g = \sum_i \alpha_{gi} w_{ig}` for the parameters g of each
    group [1]_. Use this class if you know the weights; :class:`MEHLSoup` learns them.

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

    weights : array-like, dict of str to array-like, or None, default=None
        Weights of shape (n_ingredients,) or (n_groups, n_ingredients), or a dict from the name of a
        group to weights of shape (n_ingredients,). Groups that a dict does not name are averaged.
        None averages all groups.

    layerwise : bool, "module" or callable, default=False
        How parameters are divided into groups, each with its own weights. True makes each tensor a
        group. False puts all of them in one group, and "module" groups tensors by the module that
        owns them. A callable takes the name of a parameter and returns the name of its group.

    normalize : bool, default=True
        Whether to divide the weights of each group by their sum. If not, they must sum to 1.

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

    See Also
    --------
    MEHLSoup : Learns the weights.
    UniformSoup : Equal weights.

    References
    ----------
    .. [1] M. Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models
       Improves Accuracy without Increasing Inference Time", ICML 2022, arXiv:2203.05482.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import LayerwiseLinear
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = LayerwiseLinear(n_ingredients=3, weights=[2, 1, 1], random_state=0).fit(X, y)
    >>> soup.coef_
    array([[0.5 , 0.25, 0.25]])
    >>> bool(soup.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSoup._parameter_constraints,
        "weights": ["array-like", Mapping, None],
        "layerwise": LAYERWISE_CONSTRAINT,
        "normalize": ["boolean"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        ingredients: Any = None,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        n_ingredients: int | None = None,
        weights: ArrayLike | Mapping[str, ArrayLike] | None = None,
        layerwise: GroupingRule = False,
        normalize: bool = True,
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
        self.weights = weights
        self.layerwise = layerwise
        self.normalize = normalize

    def _mix(
        self, network: SoupNetwork, evaluations: Sequence[Evaluation], rng: np.random.RandomState
    ) -> Mixed:
        n, store = len(network.store), network.store
        groups = parameter_groups(store.parameters, self.layerwise)
        coef = self._checked_weights(list(groups), n)
        store.combine_(weights_by_tensor(coef, groups), range(n))
        network.refresh_buffers_(range(n))
        return Mixed(coef, groups)

    def _checked_weights(self, groups: Sequence[str], n: int) -> FloatArray:
        equal = np.full(n, 1.0 / n)
        if isinstance(self.weights, Mapping):
            unknown = [name for name in self.weights if name not in groups]
            if unknown:
                raise ValueError(
                    f"weights must name groups of parameters such as {list(groups)[:5]}, got "
                    f"{unknown[:5]}."
                )
            rows = [np.asarray(self.weights.get(name, equal), float) for name in groups]
        else:
            given = np.asarray(equal if self.weights is None else self.weights, dtype=float)
            rows = list(given if given.ndim == 2 else [given] * len(groups))
        if len(rows) != len(groups) or any(row.shape != (n,) for row in rows):
            raise ValueError(
                f"weights must have one entry for each of {n} ingredients, in one row or in "
                f"{len(groups)} rows for the groups, got {self.weights!r}."
            )
        coef = np.stack(rows)
        sums = coef.sum(axis=1, keepdims=True)
        usable = np.abs(sums) > 1e-8 if self.normalize else np.abs(sums - 1.0) <= 1e-6
        if not np.isfinite(coef).all() or not usable.all():
            allowed = "not sum to 0" if self.normalize else "sum to 1"
            raise ValueError(
                f"weights must be finite and must {allowed} in each group with "
                f"normalize={self.normalize}, got {self.weights!r}."
            )
        return coef / sums if self.normalize else coef
