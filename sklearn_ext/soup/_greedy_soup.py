"""The average of ingredients that a validation set chooses."""

import numpy as np
from sklearn.utils._param_validation import StrOptions

from ._base import BaseSoup, Mixed
from ._docs import with_common_parts
from ._selection import by_quality, select_greedily_


@with_common_parts
class GreedySoup(BaseSoup):
    """The average of the weights of those networks that improve it.

    Ingredients are tried in the order of their scores; one stays in the average if the score on
    the mixing rows rises. The score is never below that of the best ingredient.

    Parameters
    ----------
    {sources}

    tie : {"reject", "accept"}, default="reject"
        Whether an ingredient that leaves the score as it is becomes a member.

    {common}

    Attributes
    ----------
    {attributes}

    order_ : ndarray of shape (n_ingredients,)
        Ingredients in the order in which they were tried.

    selected_ : ndarray of shape (n_selected,)
        Members of the average, in the order in which they joined.

    See Also
    --------
    UniformSoup : The average of all.
    MEHLSoup : Learned coefficients of any sign.

    References
    ----------
    .. [1] M. Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models
       Improves Accuracy without Increasing Inference Time", ICML 2022, arXiv:2203.05482.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import GreedySoup
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = GreedySoup(n_ingredients=3, random_state=0).fit(X, y)
    >>> soup.soup_scores_["soup"] >= soup.soup_scores_["best_single"]
    True
    """

    _parameter_constraints = {
        **BaseSoup._parameter_constraints,
        "tie": [StrOptions({"reject", "accept"})],
    }

    def __init__(
        self,
        estimator=None,
        *,
        ingredients=None,
        param_grid=None,
        n_ingredients=None,
        tie="reject",
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
        self.tie = tie

    def _mix(self, bench, evaluations, rng):
        order = by_quality(evaluations)
        members = select_greedily_(bench, order, evaluations[order[0]].score, self.tie)
        coef = np.zeros((1, len(order)))
        coef[0, members] = 1.0 / len(members)
        found = {"order_": order, "selected_": np.array(members)}
        return Mixed(coef, {"all": list(bench.parameters)}, found)
