"""Selective synaptic dampening: shrink the weights that matter most for the forget set."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval

from ....neural import AnySamples
from ....utils._atomic import atomic_fit
from ....utils.compat import with_callbacks
from ...steps import Record, squared_batch_gradients
from .._base import BaseUnlearner, Task
from .._net_data import NetData
from .._trust_region import TrustRegion


@torch.no_grad()
def dampen(
    weights: Mapping[str, torch.Tensor],
    forget_importance: Mapping[str, torch.Tensor],
    importance: Mapping[str, torch.Tensor],
    selection: float,
    dampening: float,
) -> int:
    r"""Shrink weights in place, and return how many were shrunk (SSD, algorithm 1 [1]_).

    .. math::
        \theta_p \leftarrow \min\Bigl(1, \frac{\lambda F_{D,p}}{F_{f,p}}\Bigr) \theta_p
        \quad\text{where}\quad F_{f,p} > \alpha F_{D,p} .

    Parameters
    ----------
    weights : mapping of str to tensor
        The weights by name.
    forget_importance : mapping of str to tensor
        Mean squared gradients :math:`F_f` on the forget set.
    importance : mapping of str to tensor
        Mean squared gradients :math:`F_D` on all samples.
    selection : float
        The factor :math:`\alpha`.
    dampening : float
        The factor :math:`\lambda`.

    Returns
    -------
    int

    References
    ----------
    .. [1] J. Foster, S. Schoepf, A. Brintrup, "Fast Machine Unlearning Without Retraining Through
       Selective Synaptic Dampening", AAAI, 2024. arXiv:2308.07707.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.unlearning.networks import dampen
    >>> weights = {"w": torch.tensor([1.0, 1.0])}
    >>> importance = {"w": torch.tensor([0.1, 0.1])}
    >>> dampen(weights, {"w": torch.tensor([2.0, 0.2])}, importance, selection=10, dampening=1)
    1
    >>> weights["w"]
    tensor([0.0500, 1.0000])
    """
    n_selected = 0
    for name, weight in weights.items():
        selected = forget_importance[name] > selection * importance[name]
        # The divisor may be zero for other weights, which `where` leaves unchanged.
        factor = (dampening * importance[name] / forget_importance[name]).clamp_max(1.0)
        weight.copy_(torch.where(selected, factor * weight, weight))
        n_selected += int(selected.sum())
    return n_selected


class SSDUnlearner(BaseUnlearner):
    """Selective synaptic dampening (SSD): shrink weights that matter for the forget set.

    The importance of a weight is its mean squared gradient. Weights that are many times more
    important for the samples to forget than for all samples shrink in proportion. Nothing is
    trained, so the method is fast, and nothing is repaired. If a change costs too much accuracy on
    the retained samples, only a part of it is made; see `retained_tolerance`.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    selection_weighting : float, default=10
        A weight is selected if its importance for the samples to forget is more than this multiple
        of its importance for all samples.

    dampening_constant : float, default=1
        Selected weights are multiplied by this multiple of the inverse ratio, but by at most 1.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    n_dampened_ : int
        Number of weights that were shrunk.

    history_ : list of dict
        One record, with the accuracies "FA" on samples to forget and "RA" on retained samples, and
        the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SalUnUnlearner : Trains the weights that matter for the forget set.

    References
    ----------
    .. [1] J. Foster, S. Schoepf, A. Brintrup, "Fast Machine Unlearning Without Retraining Through
       Selective Synaptic Dampening", AAAI, 2024. arXiv:2308.07707.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import SSDUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SSDUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool(model.score(X[y != 3] / 16, y[y != 3]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseUnlearner._parameter_constraints,
        "selection_weighting": [Interval(Real, 0, None, closed="neither")],
        "dampening_constant": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        selection_weighting: float = 10.0,
        dampening_constant: float = 1.0,
        batch_size: int | None = None,
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.selection_weighting = selection_weighting
        self.dampening_constant = dampening_constant
        self.batch_size = batch_size
        self.retained_tolerance = retained_tolerance
        self.on_retained_loss = on_retained_loss
        self.random_state = random_state
        self.verbose = verbose

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: AnySamples, y: ArrayLike | None = None, *, forget: ArrayLike | None = None
    ) -> Self:
        """Fit the original model unless it is fitted already, then forget some of its samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Training data of the original model, including the samples to forget. A tensor, a dict
            of arrays or a map-style :class:`torch.utils.data.Dataset` is read batch by batch.
        y : array-like of shape (n_samples,) or None, default=None
            Class labels of the samples. With None, X must be a dataset that contains them.
        forget : array-like of bool of shape (n_samples,), or of int, default=None
            Mask or indices of the samples to forget. With None, nothing is forgotten, and
            `estimator_` is a copy of the original model. In cross-validation, pass a mask: it is
            split together with the samples.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y is not finite or has the wrong shape, `forget`
            selects no sample, all samples, a sample twice or one that does not exist, `forget` is a
            mask of the wrong length, fewer than two classes would be left, or the training produces
            weights that are not finite.
        TypeError
            If `estimator` is not a skorch classifier, or `forget` is neither a mask nor indices.
        """
        task = self._begin(X, y, forget)
        self.n_dampened_ = 0
        self.history_: list[Record] = []
        if not task.request.is_empty:
            self._dampen(task)
        self._finish(task)
        return self

    def _dampen(self, task: Task) -> None:
        data = NetData(task.net.module_, task.X, task.codes, task.request, task.loss)
        region = TrustRegion(data, self._limit(), task.rng)
        size = task.batch_size(self.batch_size)
        weights = {name: w for name, w in data.module.named_parameters() if w.requires_grad}
        order = torch.as_tensor(task.rng.permutation(len(data.codes)))
        task.monitor.begin(1)
        of_forget, of_all = (
            squared_batch_gradients(data.batch_loss, weights, index.split(size))
            for index in (data.forget, order)
        )
        self.n_dampened_ = dampen(
            weights, of_forget, of_all, self.selection_weighting, self.dampening_constant
        )
        loss = data.batch_loss(data.forget[:size]).item()
        self.history_ = [{"epoch": 1, "loss": loss, **region.check()}]
        task.monitor.step(self.history_[0])
        region.close()
