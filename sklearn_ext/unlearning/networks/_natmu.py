"""The estimator of NatMU, which forgets by training with blended samples."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from ...neural import AnySamples
from ...utils._atomic import atomic_fit
from ...utils.compat import with_callbacks
from ._base import BaseFineTuner, Task
from ._natmu_algorithm import NatMUConfig, natmu


class NatMUUnlearner(BaseFineTuner):
    r"""Natural machine unlearning (NatMU): blend retained content into the samples to forget.

    Every sample to forget is blended with retained samples of other classes, those to which the
    original model gives the largest probabilities. The blends carry the labels of the retained
    samples, which are correct for a part of each blend. The network is then fine-tuned on the
    retained samples and the blends, so that it learns to rely on the retained content and to
    ignore the rest.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    delta : float, default=-0.05
        Added to the weight of the sample to forget at every position; this weight is 0.47 on
        average. With -1 a blend contains only the retained sample, with 1 only the sample to
        forget. Smaller values suit random samples, values around 0 suit whole classes.

    n_hybrids : int or "auto", default="auto"
        Number of blends of each sample to forget, each with a retained sample of a different class.
        "auto" means four, or the number of other classes if that is smaller.

    mask : {"auto", "gradual", "uniform"}, array-like or callable, default="auto"
        Weights of the sample to forget. "gradual" varies across an image, "uniform" is one weight
        for all features, and "auto" is "gradual" for images and "uniform" for tables. An array has
        the shape ``(n_hybrids, *sample_shape)``. A callable takes the number of masks and the shape
        of a sample, and returns such an array. `delta` shifts named masks only.

    reinit_head : bool or "auto", default=False
        Whether the last linear layer starts from new weights. "auto" means True if a class loses
        all its samples. Small networks then need more epochs.

    head : str or None, default=None
        Name of that layer. None means the last :class:`torch.nn.Linear`.

    resample : bool, default=False
        Whether retained samples are drawn again in each epoch.

    augment : callable or None, default=None
        Applied to the retained samples of each batch, a tensor. Blends are never augmented.

    feature_range : "auto", pair of float or None, default="auto"
        Range to which blends are clipped. "auto" means the range of the retained samples;
        with None, blends are not clipped.

    learning_rate : float, default=5e-3
        Initial learning rate, which decays to 0 along half a cosine. Large networks need about
        1e-3. If it is too small, too little is forgotten.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the retained samples. "outputs" are the probabilities of the original network,
        which preserve its predictions for these samples. "labels", as in the paper, train it
        further. "auto" means "outputs" if the loss of the network takes probabilities, and "labels"
        otherwise.

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

    hybrid_index_ : ndarray of shape (n_blends, 3)
        Sample to forget, retained sample (both as indices into X) and mask of each blend.

    masks_ : ndarray of shape (n_masks, \*sample_shape)
        Weights of the sample to forget. Axes along which they are constant may have length one.

    stock_exhausted_ : bool
        Whether some retained samples had to be used more than once.

    n_steps_ : int
        Number of optimizer steps.

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MUSOUnlearner : Changes the labels of the samples to forget, not the samples.

    References
    ----------
    .. [1] Z. He, T. Li, X. Cheng, Z. Huang, X. Huang, "Towards Natural Machine Unlearning",
       arXiv:2405.15495, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import NatMUUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = NatMUUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.2)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseFineTuner._parameter_constraints,
        "delta": [Interval(Real, -1, 1, closed="both")],
        "n_hybrids": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "mask": [StrOptions({"auto", "gradual", "uniform"}), "array-like", callable],
        "reinit_head": ["boolean", StrOptions({"auto"})],
        "head": [str, None],
        "resample": ["boolean"],
        "augment": [callable, None],
        "retained_targets": [StrOptions({"auto", "outputs", "labels"})],
        "feature_range": [StrOptions({"auto"}), list, tuple, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        delta: float = -0.05,
        n_hybrids: int | str = "auto",
        mask: str | ArrayLike | Callable[..., ArrayLike] = "auto",
        reinit_head: bool | str = False,
        head: str | None = None,
        resample: bool = False,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        feature_range: str | tuple[float, float] | None = "auto",
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        retained_targets: str = "auto",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )
        self.delta = delta
        self.n_hybrids = n_hybrids
        self.mask = mask
        self.reinit_head = reinit_head
        self.head = head
        self.resample = resample
        self.augment = augment
        self.feature_range = feature_range
        self.retained_targets = retained_targets

    @classmethod
    def from_paper(cls, estimator: Any = None, **params: Any) -> Self:
        """Return the unlearner with the settings that the authors use for CIFAR.

        This sets four blends with gradual masks per sample to forget, new weights of the last
        layer if a class loses all its samples, five epochs, and a learning rate of 1e-3, as in
        the paper and the code of its authors. Small networks need a larger rate.

        Parameters
        ----------
        estimator : skorch classifier, FrozenEstimator or None, default=None
            The model to unlearn from, a network for images.
        **params
            Other parameters of the class, which take precedence.

        Returns
        -------
        NatMUUnlearner
            The unfitted estimator.
        """
        published: dict[str, Any] = {
            "mask": "gradual",
            "n_hybrids": 4,
            "reinit_head": "auto",
            "max_epochs": 5,
            "learning_rate": 1e-3,
            "retained_targets": "labels",
            "retained_tolerance": None,
        }
        return cls(estimator, **published | params)

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
        result = natmu(
            task.net.module_,
            task.X,
            task.codes,
            task.request,
            self._config(task),
            task.rng,
            loss=task.loss,
            monitor=task.monitor,
        )
        self._finish(task)
        masks = result.masks
        self.masks_ = np.empty((0, *(self.input_shape_ or ()))) if masks is None else masks
        self.hybrid_index_ = result.hybrid_index
        self.stock_exhausted_ = result.stock_exhausted
        self.n_steps_ = int(result.history[-1]["n_steps"]) if result.history else 0
        self.history_ = result.history
        return self

    def _config(self, task: Task) -> NatMUConfig:
        return NatMUConfig(
            training=self._training(task),
            delta=self.delta,
            n_hybrids=self.n_hybrids,
            mask=self.mask,
            reinit_head=self.reinit_head,
            head=self.head,
            resample=self.resample,
            augment=self.augment,
            feature_range=self.feature_range,
            retained_targets=self.retained_targets,
            limit=self._limit(),
        )
