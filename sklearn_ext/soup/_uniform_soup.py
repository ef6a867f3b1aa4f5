"""The average of all ingredients."""

import numpy as np

from ._base import BaseSoup, Mixed
from ._docs import with_common_parts


@with_common_parts
class UniformSoup(BaseSoup):
    r"""The average of the weights of networks that were fine-tuned from the same start.

    One network instead of an ensemble: :math:`w = \frac{1}{N} \sum_i w_i`, at the cost of one.

    Parameters
    ----------
    {sources}

    {common}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    GreedySoup : The average of those ingredients that improve it.
    MEHLSoup : Learned coefficients of any sign.

    References
    ----------
    .. [1] M. Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models
       Improves Accuracy without Increasing Inference Time", ICML 2022, arXiv:2203.05482.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import UniformSoup
    >>> X, y = load_iris(return_X_y=True)
    >>> soup = UniformSoup(n_ingredients=3, random_state=0).fit(X, y)
    >>> soup.coef_.round(2)
    array([[0.33, 0.33, 0.33]])
    >>> bool(soup.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator=None,
        *,
        ingredients=None,
        param_grid=None,
        n_ingredients=None,
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

    def _mix(self, bench, evaluations, rng):
        n = len(bench.shelf)
        return Mixed(np.full((1, n), 1.0 / n), {"all": list(bench.parameters)})
