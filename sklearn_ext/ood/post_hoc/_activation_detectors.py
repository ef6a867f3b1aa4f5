"""Detectors that weigh the logits of a trained classifier against its features."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .._docs import with_common_parts
from ._base import BasePostHocDetector
from ._scores import (
    clipped_logits,
    logit_origin,
    negative_energy,
    principal_dimension,
    residual_basis,
    virtual_logit_score,
)

_SMALLEST_RESIDUAL = 1e-12  # features that fill no more than the principal space have none


@with_common_parts
class ReActOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy after clipping features.

    Unknown inputs often excite single features far beyond what training rows do. Features, the
    input of the head, are clipped from above; minus the energy of the logits that come of it is the
    score.

    Parameters
    ----------
    {estimator}

    clip_quantile : float in (0, 1], default=0.9
        Where to clip: the quantile of all features of all training rows.

    {rows}

    {rejection}

    {learned_held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    clip_value_ : float
        Features are clipped here.

    {facts}

    See Also
    --------
    EnergyOODDetector : Without clipping.

    References
    ----------
    .. [1] Y. Sun, C. Guo, Y. Li, "ReAct: Out-of-distribution Detection With Rectified Activations",
       NeurIPS 2021, arXiv:2111.12797.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import ReActOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ReActOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True
    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "clip_quantile": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(
        self,
        estimator=None,
        *,
        clip_quantile=0.9,
        head=None,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.1,
        random_state=None,
    ):
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.clip_quantile = clip_quantile

    def _learn(self, features, codes, weight, bias):
        self.clip_value_ = float(np.quantile(features.numpy(), self.clip_quantile))

    def _score(self, features, weight, bias):
        return negative_energy(clipped_logits(features, weight, bias, self.clip_value_))


@with_common_parts
class ViMOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by a virtual logit for what no class explains.

    Training features, the input of the head, fill a principal space; the length of what is outside
    of it, scaled to the size of the largest logits, is a logit for "none of the classes". The score
    is the soft maximum of the true logits less this one.

    Parameters
    ----------
    {estimator}

    n_components : int or "auto", default="auto"
        Dimension of the principal space. "auto" is half the number of features; 512 from 768
        features on, and 1,000 from 2,048 on.

    {rows}

    {rejection}

    {learned_held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    origin_ : ndarray of shape (n_penultimate,)
        Where features are measured from: the shortest one whose logits are nearest to zero.

    residual_basis_ : ndarray of shape (n_penultimate, n_penultimate - n_components)
        Orthonormal basis of what is outside of the principal space.

    scale_ : float
        Mean largest logit of the training rows over their mean residual.

    {facts}

    See Also
    --------
    EnergyOODDetector : Without the virtual logit.

    References
    ----------
    .. [1] H. Wang, Z. Li, L. Feng, W. Zhang, "ViM: Out-Of-Distribution with Virtual-logit
       Matching", CVPR 2022, arXiv:2203.10807.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import ViMOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ViMOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True
    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
    }

    def __init__(
        self,
        estimator=None,
        *,
        n_components="auto",
        head=None,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.1,
        random_state=None,
    ):
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.n_components = n_components

    def _learn(self, features, codes, weight, bias):
        n_features = features.shape[1]
        n_components = self.n_components
        if n_components == "auto":
            n_components = principal_dimension(n_features)
        elif n_components >= n_features:
            raise ValueError(
                f"n_components must be below the number of features of the head, {n_features}, "
                f"got {n_components}."
            )
        origin = logit_origin(weight, bias)
        basis = residual_basis(features - origin, n_components)
        residuals = torch.linalg.vector_norm((features - origin) @ basis, dim=1)
        largest = (features @ weight.T + bias).amax(dim=1)
        self.origin_, self.residual_basis_ = origin.numpy(), basis.numpy()
        self.scale_ = float(largest.mean() / residuals.mean().clamp_min(_SMALLEST_RESIDUAL))

    def _score(self, features, weight, bias):
        centred = features - torch.from_numpy(self.origin_)
        residuals = torch.linalg.vector_norm(
            centred @ torch.from_numpy(self.residual_basis_), dim=1
        )
        return virtual_logit_score(features @ weight.T + bias, residuals, self.scale_)
