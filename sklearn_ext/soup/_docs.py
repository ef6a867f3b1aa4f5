"""Parts that the docstrings of all soups have in common."""

from ..utils._shared_docs import INPUT_FACTS, with_shared_docs

_PARTS = {
    "sources": """
    estimator : skorch.NeuralNet, FrozenEstimator or None, default=None
        The network: architecture, loss, optimiser and device. A classifier makes the soup a
        classifier, a regressor a regressor. A fitted one is copied with its classes, and its
        weights are the common start of the ingredients if they are trained here. None is the
        first ingredient's net, else a :class:`~sklearn_ext.neural.NetClassifier` of 10 epochs.

    ingredients : list, str, path-like or None, default=None
        Trained networks of one architecture that were fine-tuned from the same weights, head
        included: fitted skorch nets, :class:`~sklearn.frozen.FrozenEstimator` around them, torch
        modules, state dicts, or paths of ``.safetensors``, ``.pt`` or ``.pth`` files; or one
        folder or glob pattern of such files. `fit` then takes the **mixing** rows, which must not
        be rows that the ingredients were trained on: mixing on those picks the most overfitted.
        None trains ingredients.

    param_grid : dict, list of dicts or None, default=None
        Parameters of `estimator` that the ingredients are trained with, as lists of values or
        distributions, as for :class:`~sklearn.model_selection.GridSearchCV`. None trains with the
        estimator's own, and ingredients differ in the order of the rows only.

    n_ingredients : int or None, default=None
        Number of ingredients to train. None is all points of a grid of lists, else 3.
""",
    "common": """
    validation_fraction : float in (0, 1) or cross-validation splitter, default=0.2
        Rows that are held out of the training of the ingredients, to mix and to judge them; the
        first split of a splitter. Given `ingredients` are mixed on all rows.

    init_params : source of weights or None, default=None
        Where the training of all ingredients starts: anything that can be one of `ingredients`.
        None is the initial state of one network drawn with `random_state`, or the weights of a
        fitted `estimator`.

    scoring : str, callable or None, default=None
        Score on the mixing rows; None is the net's own (accuracy, or R2).

    refresh_bn : bool, default=True
        Whether running statistics of batch normalisation are estimated anew for each soup, on the
        training rows if ingredients are trained here, else on the mixing rows.

    cache_dir : str, path-like or None, default=None
        Folder for trained ingredients. A later fit trains those only that are not there yet for
        the same data, parameters, start and seed. None keeps them only during `fit`.

    n_jobs : int or None, default=None
        Ingredients that are trained side by side, each on one thread. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Seed of the initial network, of the split, of every ingredient and of the mixing.

    verbose : int, default=0
        Prints the score of every ingredient and of the soups when positive.
""",
    "attributes": """
    estimator_ : skorch.NeuralNet
        The soup: one fitted net, usable alone.

    coef_ : ndarray of shape (n_groups, n_ingredients)
        Coefficients of the ingredients in each group of parameters; rows sum to 1.

    groups_ : dict of str to list of str
        Names of the groups, and of the parameters in them.

    ingredients_ : list or None
        Paths or networks, None if they were trained without a `cache_dir`.

    ingredient_names_ : list of str
        What the tables call them.

    ingredient_params_ : list of dict
        Parameters that each was trained with; empty where `ingredients` were given.

    ingredient_scores_ : ndarray of shape (n_ingredients,)
        Score of each ingredient on the mixing rows.

    ingredient_losses_ : ndarray of shape (n_ingredients,)
        Mean loss of each ingredient on the mixing rows.

    soup_scores_ : dict of str to float
        Scores of ``"best_single"``, ``"uniform"`` and ``"soup"`` on the mixing rows. Coefficients
        were learned or chosen on these rows: judge the soup on others.

    soup_losses_ : dict of str to float
        Their losses.

    classes_ : ndarray of shape (n_classes,)
        Labels, for a classifier.

    input_shape_ : tuple of int or None
        Shape of a row of X, None if X was no array.
"""
    + INPUT_FACTS,
}

with_common_parts = with_shared_docs(_PARTS)
