r"""Fusion of several scores into one, through their p-values among held-out samples.

The p-value of a score is the fraction of in-distribution samples whose scores are at most as high.
This makes scores of any scale comparable. Empirical p-values of n samples end at 1 / (n + 1), so
that all far outliers would tie; below the 10 % quantile, they continue with an exponential tail.
"""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np

from ..utils._typing import FloatArray

FusionMethod: TypeAlias = Literal["harmonic", "fisher", "min"]
FUSION_METHODS: tuple[FusionMethod, ...] = ("harmonic", "fisher", "min")
_TAIL = 0.1


def log_p_values(scores: FloatArray, reference: FloatArray) -> FloatArray:
    r"""Return smoothed log p-values of scores, continued by an exponential tail.

    Between reference scores, the logarithms of the empirical p-values are interpolated. Below the
    threshold u at the 10 % quantile, :math:`\log p(s) = \log p(u) - (u - s) / m`, where m is the
    mean excess :math:`u - s` of the reference scores below u.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher is more in-distribution.
    reference : ndarray of shape (n_reference,)
        Sorted scores of in-distribution samples that nothing was fitted on.

    Returns
    -------
    ndarray of shape (n,)
        At most 0, and increasing with the scores.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import log_p_values
    >>> log_p_values(np.array([-9.0, 0.0, 50.0]), reference=np.arange(100.0)).round(2)
    array([-5.67, -4.04, -0.68])
    """
    n = len(reference)
    k = min(max(1, int(_TAIL * n)), n - 1)
    levels = np.log(np.arange(1, n + 1) / (n + 1))
    threshold = reference[k]
    excess = threshold - reference[: max(k, 1)].mean()
    if excess <= 0.0:  # ties: any positive length keeps the order of scores below them
        excess = max(float(reference[-1] - threshold), np.finfo(np.float64).tiny, 1e-12)
    body = np.interp(scores, reference, levels)
    tail = levels[k] - (threshold - scores) / excess
    return np.where(scores < threshold, tail, body)


@dataclass(frozen=True)
class ScoreFusion:
    r"""Combine scores through their p-values.

    With p-values :math:`p_1, \dots, p_m` of m scores, the methods are

    - "harmonic": the logarithm of their harmonic mean [1]_, which needs no independence and is
      dominated by the smallest p-values;
    - "fisher": the sum of their logarithms [2]_, which adds up weak evidence from all scores;
    - "min": the logarithm of the smallest.

    The sum and the minimum are not calibrated for dependent scores. They need not be, because the
    threshold on the fused score is set on other held-out samples.

    Parameters
    ----------
    reference : ndarray of shape (n_reference, n_scores)
        Sorted columns of scores of in-distribution samples.
    method : {"harmonic", "fisher", "min"}, default="harmonic"
        How p-values are combined.

    References
    ----------
    .. [1] D. J. Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 116, 2019.
    .. [2] R. A. Fisher, "Statistical Methods for Research Workers", 1925.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import ScoreFusion
    >>> rng = np.random.RandomState(0)
    >>> fusion = ScoreFusion.from_scores(rng.normal(size=(500, 2)) * [1.0, 100.0])
    >>> fusion(np.array([[0.0, 0.0], [-5.0, 0.0], [0.0, -500.0]])).round(1)
    array([-0.6, -9.7, -9.3])
    """

    reference: FloatArray
    method: FusionMethod = "harmonic"

    @classmethod
    def from_scores(cls, scores: FloatArray, method: FusionMethod = "harmonic") -> Self:
        """Create a fusion from scores of in-distribution samples.

        Parameters
        ----------
        scores : ndarray of shape (n_reference, n_scores)
            Scores of samples that nothing was fitted on.
        method : {"harmonic", "fisher", "min"}, default="harmonic"
            How p-values are combined.

        Returns
        -------
        ScoreFusion
        """
        return cls(np.sort(scores, axis=0), method)

    def __call__(self, scores: FloatArray) -> FloatArray:
        """Return the fused score of each sample.

        Parameters
        ----------
        scores : ndarray of shape (n, n_scores)

        Returns
        -------
        ndarray of shape (n,)
            Higher is more in-distribution.
        """
        columns = zip(scores.T, self.reference.T, strict=True)
        log_p = np.stack([log_p_values(column, known) for column, known in columns], axis=1)
        if self.method == "fisher":
            return log_p.sum(axis=1)
        if self.method == "min":
            return log_p.min(axis=1)
        smallest = log_p.min(axis=1)
        return smallest - np.log(np.exp(smallest[:, None] - log_p).mean(axis=1))
