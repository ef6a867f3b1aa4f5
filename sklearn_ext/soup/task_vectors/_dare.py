"""DARE: task vectors with randomly dropped entries."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from ...neural.files import KeyMap
from ...utils._typing import FloatArray, RandomState
from ..recipes import TaskVectorConfig
from ._base import BaseTaskVectorSoup


class DARE(BaseTaskVectorSoup):
    r"""DARE: task vectors with randomly dropped entries, which are rescaled.

    Each entry of a task vector is kept with the probability `density` and divided by it, so that
    its expectation stays the same [1]_. The task vectors are then summed as in
    :class:`TaskArithmetic`, or as in :class:`TIES` with `elect_signs`.

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

    weights : float or array-like of shape (n_ingredients,), default=1.0
        Weight of each task vector, or one weight for all of them.

    density : float in (0, 1], default=0.5
        Fraction of the entries of each tensor that are kept, drawn at random.

    elect_signs : bool, default=False
        Whether to count only entries whose sign agrees with that of the weighted sum.

    scaling : float or "auto", default="auto"
        Factor s of the merged task vector. "auto" tries several factors around the one that makes
        the weights sum to 1, and takes the one with the best score on the mixing samples; the loss
        breaks ties.

    normalize : bool, default=False
        Whether to divide by the sum of the weights that count.

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
        Coefficients of the task vectors, before entries are dropped. The base has the remaining
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

    scaling_ : float
        Factor of the merged task vector.

    history_ : list of dict
        Scaling, score and loss of each factor that was tried.

    See Also
    --------
    TaskArithmetic : The rule without dropping.
    TIES : Keeps the largest entries.
    merged_task_vector : The algorithm as a function.

    References
    ----------
    .. [1] L. Yu, B. Yu, H. Yu, F. Huang, Y. Li, "Language Models are Super Mario: Absorbing
       Abilities from Homologous Models as a Free Lunch", ICML 2024, arXiv:2311.03099.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import DARE
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = DARE(n_ingredients=3, random_state=0).fit(X, y)
    >>> bool(soup.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        ingredients: Any = None,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        n_ingredients: int | None = None,
        base: Any = None,
        weights: float | ArrayLike = 1.0,
        density: float = 0.5,
        elect_signs: bool = False,
        scaling: float | str = "auto",
        normalize: bool = False,
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
            base=base,
            scaling=scaling,
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
        self.density = density
        self.elect_signs = elect_signs
        self.normalize = normalize

    def _config(self, weights: FloatArray) -> TaskVectorConfig:
        return TaskVectorConfig(
            weights=weights,
            trim="random",
            density=self.density,
            elect_signs=self.elect_signs,
            normalize=self.normalize,
        )
