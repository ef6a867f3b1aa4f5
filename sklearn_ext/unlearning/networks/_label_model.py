"""A model of the retained samples that predicts the labels of the forget set.

MUSO trains with its labels, and SFRon estimates from its accuracy when to stop.
"""

from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist
from sklearn.base import clone

from ...utils._typing import FloatArray
from ..exact import RandomFeatureClassifier
from ._base import NetData

_N_COMPONENTS = 750  # 1,000 give the same gaps at 1.3 to 1.5 times the cost of unlearning
_RIDGE = 0.1
_N_PAIRED_SAMPLES = 500  # samples whose distances determine the width of the kernel
_BATCH = 1024
_MAX_SAMPLES = 5000  # the number of features limits the accuracy long before


def fit_random_features(
    data: NetData, rng: np.random.RandomState, *, n_components: int = _N_COMPONENTS
) -> RandomFeatureClassifier:
    """Fit random features to the retained samples, which also determine the kernel width.

    Parameters
    ----------
    data : NetData
        The samples.
    rng : numpy.random.RandomState
        Draws the random features and, where there are too many, the samples.
    n_components : int
        Number of random frequencies.

    Returns
    -------
    RandomFeatureClassifier
        A classifier of class indices.
    """
    index = data.retain
    if len(index) > _MAX_SAMPLES:
        index = index[torch.as_tensor(rng.choice(len(index), _MAX_SAMPLES, replace=False))]
    X = flat_samples(data, index)
    paired = X[rng.choice(len(X), min(len(X), _N_PAIRED_SAMPLES), replace=False)]
    squares = pdist(paired, "sqeuclidean")
    classifier = RandomFeatureClassifier(
        n_components,
        gamma=1.0 / max(float(np.median(squares)), 1e-12),
        alpha=_RIDGE,
        random_state=rng.randint(2**31 - 1),
    )
    return classifier.fit(X, data.codes[index].cpu().numpy())


def fit_classifier(data: NetData, classifier: Any) -> Any:
    """Fit a clone of a classifier to the class indices of the flattened retained samples."""
    codes = data.codes[data.retain].cpu().numpy()
    return clone(classifier).fit(flat_samples(data, data.retain), codes)


def flat_samples(data: NetData, index: torch.Tensor) -> FloatArray:
    """Return samples as vectors on the CPU, of shape (n, n_features).

    Real numbers are flattened. In place of other inputs, such as token ids, the features before the
    last layer of the module are returned.
    """

    def vectors(batch: torch.Tensor) -> torch.Tensor:
        inputs = data.inputs(batch)
        if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
            return inputs.flatten(start_dim=1)
        return data.features(batch)

    return torch.cat([vectors(batch).float().cpu() for batch in index.split(_BATCH)]).numpy()
