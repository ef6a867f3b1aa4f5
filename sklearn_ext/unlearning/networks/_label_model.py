"""A model of the retained samples that predicts the labels of the forget set.

MUSO trains with its labels, and SFRon estimates from its accuracy when to stop.
"""

from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist
from sklearn.base import clone

from ...utils._typing import FloatArray, IntArray
from .._forget_request import ForgetRequest
from ..exact import RandomFeatureClassifier
from ._net_data import NetData

_N_COMPONENTS = 750  # 1,000 give the same gaps at 1.3 to 1.5 times the cost of unlearning
_N_SCORE_COMPONENTS = 500  # a score needs fewer random features than labels do
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


def expected_forget_score(
    data: NetData,
    rng: np.random.RandomState,
    X_val: Any = None,
    codes_val: IntArray | torch.Tensor | None = None,
) -> float:
    r"""Estimate the accuracy of a retrained model on the forget set.

    The accuracy of random features that are fitted to the retained samples shows how much these
    reveal about the forget set. A network may do better. Samples that neither model was trained on
    show by how much:

    .. math::
        \min\Bigl(1, \mathrm{acc}_{\mathrm{rf}}(D_f)\,
        \frac{\mathrm{acc}_{\mathrm{net}}(D_{val})}{\mathrm{acc}_{\mathrm{rf}}(D_{val})}\Bigr) .

    Parameters
    ----------
    data : NetData
        The original network, not changed yet, and its samples.
    rng : numpy.random.RandomState
        Draws the random features.
    X_val : array, tensor or reader of n_validation samples, default=None
        Samples that the net was not trained on.
    codes_val : array or tensor of shape (n_validation,), default=None
        Class indices of these samples.

    Returns
    -------
    float
    """
    model = fit_random_features(data, rng, n_components=_N_SCORE_COMPONENTS)
    codes = data.codes[data.forget].cpu().numpy()
    score = float((model.predict(flat_samples(data, data.forget)) == codes).mean())
    if X_val is None or codes_val is None:
        return score
    nothing, everything = np.arange(0), np.arange(len(codes_val))
    held_out = NetData(data.module, X_val, codes_val, ForgetRequest(nothing, everything))
    # Other classes reveal nothing about the retained ones.
    known = torch.nonzero(data.present()[held_out.codes])[:, 0].cpu()
    if not len(known):
        return score
    known_codes = held_out.codes[known]
    hits = held_out.outputs(known).argmax(dim=1) == known_codes
    predicted = model.predict(flat_samples(held_out, known))
    features_accuracy = float((predicted == known_codes.cpu().numpy()).mean())
    if features_accuracy == 0:
        return score
    return min(1.0, score * hits.double().mean().item() / features_accuracy)
