"""The training step of OrthLoss as a skorch net that can be used alone."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import column_or_1d
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from ...neural import (
    AnySamples,
    CosineDecay,
    NetClassifier,
    checked_head,
    copied_module,
    head_of,
    head_parameters,
    infer_with_features,
    loader_params,
    loss_of_outputs,
    minibatches,
    module_inputs,
    n_minibatches,
    read_batches,
    targets_in,
    torch_generator,
)
from ...utils._typing import Array, IntArray, RandomState
from .._detector import is_outlier
from ._separation_losses import fine_tuning_loss

OUTLIER = -1  # class index of an outlier, next to the indices 0, 1, ... of the classes
# Parameters that a net keeps when its training continues with outliers.
_KEPT = ("criterion", "dataset", "iterator_valid", "predict_nonlinearity", "precision")
_USUAL_LOSSES = (NetClassifier.get_loss, skorch.NeuralNetClassifier.get_loss)


class OutlierBatches:
    """Iterator for skorch nets: an epoch over the inliers, with outliers added to each batch.

    Each pass adds the next outliers in a random order that begins anew when all have been used. The
    number of steps is therefore that of plain training, no matter how many outliers there are.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Outliers have the class index -1.
    batch_size : int, default=128
        Number of inliers in a batch.
    outlier_ratio : float, default=1.0
        Number of outliers per inlier in a batch; at least one outlier is added.
    shuffle : bool, default=True
        Whether to shuffle the inliers in each epoch.
    **loader
        Any other parameter of :class:`torch.utils.data.DataLoader`, as for
        :class:`~sklearn_ext.neural.TensorBatches`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 128,
        outlier_ratio: float = 1.0,
        shuffle: bool = True,
        **loader: Any,
    ) -> None:
        is_outlier = torch.as_tensor(targets_in(dataset) == OUTLIER)
        self.inliers, self.outliers = torch.nonzero(~is_outlier)[:, 0], is_outlier.nonzero()[:, 0]
        self.dataset = dataset
        self.batch_size = batch_size
        self.outlier_ratio = outlier_ratio
        self.shuffle = shuffle
        self.loader = loader
        # With a separate generator, the outliers cannot change the order of the inliers.
        self.generator = torch_generator(torch.initial_seed())
        self.waiting = self.outliers[:0]

    def __len__(self) -> int:
        return n_minibatches(len(self.inliers), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        yield from read_batches(self.dataset, self._indices(), self.loader)

    def _indices(self) -> Iterator[Tensor]:
        n = len(self.inliers)
        if self.shuffle:
            batches = minibatches(n, self.batch_size, None)
        else:
            batches = iter(torch.arange(n).split(self.batch_size))
        for batch in batches:
            chosen = self.inliers[batch]
            if len(self.outliers):
                n_outliers = max(1, round(self.outlier_ratio * len(batch)))
                chosen = torch.cat([chosen, self._next_outliers(n_outliers)])
            yield chosen

    def _next_outliers(self, n_outliers: int) -> Tensor:
        while len(self.waiting) < n_outliers:
            order = torch.randperm(len(self.outliers), generator=self.generator)
            self.waiting = torch.cat([self.waiting, self.outliers[order]])
        taken, self.waiting = self.waiting[:n_outliers], self.waiting[n_outliers:]
        return taken


class SeparationNet(NetClassifier):
    r"""A skorch classifier that turns the features of known outliers away from all classes.

    Samples labeled `outlier_label` are outliers. Each step passes a mini-batch of inliers and the
    next outliers through the network in one forward pass and minimizes

    .. math::
        J = L_{CE} + \lambda L_{OE} + \alpha L_{Clu} + \beta L_{Sep} .

    The terms are the loss of the inliers (by default, their cross-entropy), the cross-entropy of
    the outliers with the uniform distribution, the negative cosine of the inliers' features with
    the row of the head for their class, and the absolute cosine of the outliers' features with all
    rows of the head. Features are the input of the head, which is a linear layer.

    :class:`OrthLossOODDetector` trains this net and adds a score and a threshold.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
        "auto" suits the shape of the data. :meth:`from_net` starts from a fitted net.

    oe_weight : float, default=0.5
        :math:`\lambda`.

    sep_weight : float, default=1.0
        :math:`\beta`.

    clu_weight : float, default=1.0
        :math:`\alpha`.

    sep_reduction : {"mean", "sum"}, default="mean"
        Reduction over classes in :math:`L_{Sep}`.

    energy_margins : (float, float) or None, default=None
        If given, :math:`L_{OE}` becomes squared hinge losses that push the energies of inliers
        below the first margin and those of outliers above the second. The margins are in units of
        the logits of this network, and `oe_weight` should be about 0.1.

    stage2_start : int or float in [0, 1), default=0
        First epoch that uses the feature terms, or the fraction of `max_epochs` that precedes it.

    outlier_ratio : float, default=1.0
        Number of outliers per inlier in a step.

    outlier_label : int or str, default=-1
        Label of the outliers. It is not part of ``classes_``.

    head : str or None, default=None
        Name of the linear layer whose inputs are the features. By default, it is the last one that
        returns the logits.

    optimizer : torch.optim.Optimizer class, default=torch.optim.SGD
        With the default, the momentum is 0.9 (Nesterov) and the weight decay 5e-4.

    lr : float, default=0.05
        Initial learning rate. The callback ``learning_rate`` lowers it along half a cosine.

    max_epochs : int, default=20
        Number of epochs. An epoch is one pass over the inliers.

    batch_size : int, default=64
        Number of inliers in a step.

    inlier_loss : callable or None, default=None
        Loss of the inliers, called with the outputs of the module and the class indices; it
        replaces the cross-entropy. None means the criterion, with its class weights and label
        smoothing.

    iterator_train : callable, default=OutlierBatches
        Yields the batches. Outliers among them have the class index -1. Callables other than
        OutlierBatches and its subclasses do not get `outlier_ratio`.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights and the order of the samples.

    **params
        Everything else that :class:`NetClassifier` and skorch accept.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, without `outlier_label`.
    module_ : torch.nn.Module
        The trained network.
    n_outputs_ : int
        Number of outputs of the network.
    input_shape_ : tuple of int
        Shape of one sample.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of str
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    OrthLossOODDetector : The detector around this net.

    References
    ----------
    .. [1] Y. Wu, R. Yu, X. Cheng, Z. He, X. Huang, "Pursuing Feature Separation based on Neural
       Collapse for Out-of-Distribution Detection", ICLR 2025, arXiv:2405.17816.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext.ood import SeparationNet
    >>> X, y = load_digits(return_X_y=True)
    >>> y = np.where(y >= 8, -1, y)  # digits 8 and 9 belong to no class
    >>> net = SeparationNet(random_state=0).fit(X / 16, y)
    >>> net.classes_
    array([0, 1, 2, 3, 4, 5, 6, 7])
    """

    def __init__(
        self,
        module: str | type[nn.Module] | nn.Module | Callable[..., nn.Module] = "auto",
        *,
        oe_weight: float = 0.5,
        sep_weight: float = 1.0,
        clu_weight: float = 1.0,
        sep_reduction: str = "mean",
        energy_margins: tuple[float, float] | None = None,
        stage2_start: float = 0,
        outlier_ratio: float = 1.0,
        outlier_label: Any = -1,
        head: str | None = None,
        optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        lr: float = 0.05,
        max_epochs: int = 20,
        batch_size: int = 64,
        inlier_loss: Callable[[Any, Tensor], Tensor] | None = None,
        iterator_train: Callable[..., Any] = OutlierBatches,
        random_state: RandomState = None,
        **params: Any,
    ) -> None:
        if optimizer is torch.optim.SGD:
            params = {
                "optimizer__momentum": 0.9,
                "optimizer__nesterov": True,
                "optimizer__weight_decay": 5e-4,
                **params,
            }
        super().__init__(
            module,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            iterator_train=iterator_train,
            random_state=random_state,
            **params,
        )
        self.oe_weight = oe_weight
        self.sep_weight = sep_weight
        self.clu_weight = clu_weight
        self.sep_reduction = sep_reduction
        self.energy_margins = energy_margins
        self.stage2_start = stage2_start
        self.outlier_ratio = outlier_ratio
        self.outlier_label = outlier_label
        self.head = head
        self.inlier_loss = inlier_loss

    @classmethod
    def from_net(cls, net: skorch.NeuralNetClassifier, **params: Any) -> Self:
        """Create a net that continues from the weights of a fitted net.

        Parameters
        ----------
        net : skorch.NeuralNetClassifier
            The fitted net. It is not changed.
        **params
            Parameters of the new net. By default, it has the module, the loss, the groups of
            parameters, the data sets and the precision of `net`.

        Returns
        -------
        SeparationNet
            Its calls of `fit` start from the weights of `net`, and frozen parameters stay as they
            are. The classes must be the same.
        """
        kept = {name: getattr(net, name) for name in _KEPT if hasattr(net, name)}
        for part in ("criterion", "dataset", "iterator_valid"):
            kept |= {f"{part}__{key}": v for key, v in net.get_params_for(part).items()}
        for key, value in loader_params(net, "iterator_train").items():
            kept[f"iterator_train__{key}"] = value
        groups = net.get_params_for("optimizer").get("param_groups")
        if groups is not None:
            kept["optimizer__param_groups"] = groups
        if type(net).get_loss not in _USUAL_LOSSES:
            kept["inlier_loss"] = functools.partial(loss_of_outputs, net)
        return cls(copied_module(net.module_), **{**kept, **params})

    @contextlib.contextmanager
    def training_loop(
        self, X: AnySamples, y: ArrayLike | None, *, classes: ArrayLike | None = None
    ) -> Iterator[Callable[[], Self]]:
        """Prepare a training from the initial weights, and provide its loop as a function.

        Entering the context validates the samples and initializes the net. The function that it
        provides trains the net. Leaving the context checks the weights. Unlike `fit`, this method
        accepts classes without samples, and does not restore the net after an error.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like of shape (n_samples,)
            As in `fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            All class labels, without `outlier_label`. None takes them from y.

        Yields
        ------
        callable
            Call it once, without arguments, to train for `max_epochs` epochs.

        Raises
        ------
        ValueError
            If X contains NaN or infinity, all samples are outliers, or training diverges.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_ext.ood import SeparationNet
        >>> rng = np.random.RandomState(0)
        >>> X, y = rng.randn(60, 4), np.arange(60) % 3 - 1
        >>> net = SeparationNet(max_epochs=2, random_state=0)
        >>> with net.training_loop(X, y, classes=[0, 1, 2]) as train:
        ...     _ = train()
        >>> net.predict_proba(X).shape
        (60, 3)
        """
        # A plain method would add a frame between the function that trains the net and its steps.
        with self.prepare_training(X, y, afresh=True, classes=classes) as (inputs, codes):
            yield functools.partial(self.fit_loop, inputs, codes)

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [*super()._default_callbacks, ("learning_rate", CosineDecay())]

    def _encode(self, y: ArrayLike, afresh: bool, classes: ArrayLike | None) -> IntArray:
        given: Array = column_or_1d(y, warn=True)
        outlying = is_outlier(given, self.outlier_label)
        if outlying.all():
            raise ValueError(
                f"All samples are labeled outlier_label={self.outlier_label!r}, "
                "so no classes are left."
            )
        labels = given[~outlying]
        if labels.dtype == object:  # labels and an outlier label of another type
            labels = np.array(labels.tolist())
        codes = np.full(len(given), OUTLIER, dtype=np.int64)
        codes[~outlying] = super()._encode(labels, afresh, classes)
        return codes

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the arguments of a component; `outlier_ratio` is one of `iterator_train`.

        Parameters
        ----------
        prefix : str
            Name of the component, such as "iterator_train".

        Returns
        -------
        dict of str to object
        """
        params = super().get_params_for(prefix)
        iterator = self.iterator_train
        if (
            prefix == "iterator_train"
            and isinstance(iterator, type)
            and issubclass(iterator, OutlierBatches)
        ):
            params["outlier_ratio"] = self.outlier_ratio
        return params

    def on_train_begin(
        self, net: skorch.NeuralNet, X: Any = None, y: Any = None, **kwargs: Any
    ) -> None:
        """Store the epoch at which this training begins.

        Parameters
        ----------
        net : SeparationNet
        X, y : array-like
        **kwargs
            Passed on.
        """
        self._first_epoch = len(self.history)
        self._head = checked_head(self, X, self.head).name
        super().on_train_begin(net, X=X, y=y, **kwargs)

    def _in_stage_two(self) -> bool:
        start = self.stage2_start
        if isinstance(start, float):
            start = round(start * self.max_epochs)
        return len(self.history) - 1 - self._first_epoch >= start

    def train_step_single(self, batch: tuple[Tensor, Tensor], **fit_params: Any) -> dict[str, Any]:
        """Compute the objective on a batch and its gradient.

        Parameters
        ----------
        batch : pair of tensors
            Samples and class indices. Outliers have the class index -1.
        **fit_params
            Must be empty, because the module gets the samples only.

        Returns
        -------
        dict
            ``loss`` and ``y_pred``.

        Raises
        ------
        TypeError
            If there are any `fit_params`.
        """
        if fit_params:
            raise TypeError(f"{type(self).__name__}.fit takes X and y only, got {[*fit_params]}.")
        self._set_training(True)
        X, codes = (to_tensor(part, device=self.device) for part in unpack_data(batch))
        head = head_of(self.module_, self._head)
        outputs, features = infer_with_features(self, module_inputs(self, X), head)
        # Outputs for a negative log-likelihood are (log-)probabilities.
        is_nll = isinstance(self.criterion_, nn.NLLLoss)
        logits = head(features) if is_nll else outputs
        inside = codes != OUTLIER
        own_loss = self.get_loss if self.inlier_loss is None else self.inlier_loss
        stage_two = self._in_stage_two()
        loss = fine_tuning_loss(
            logits[inside],
            features[inside],
            codes[inside],
            logits[~inside],
            features[~inside],
            _weight_of(head).to(features),
            oe_weight=self.oe_weight,
            sep_weight=self.sep_weight if stage_two else 0.0,
            clu_weight=self.clu_weight if stage_two else 0.0,
            reduction=self.sep_reduction,
            energy_margins=self.energy_margins,
            cross_entropy=lambda _, codes: own_loss(outputs[inside], codes),
        )
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def get_split_datasets(
        self, X: Any, y: Any = None, **fit_params: Any
    ) -> tuple[Dataset, Dataset | None]:
        """Return the data sets for training and validation, the latter without outliers.

        Parameters
        ----------
        X : ndarray of shape (n, ...)
        y : ndarray of shape (n,)
            Class indices. Outliers have the class index -1.
        **fit_params
            Passed on.

        Returns
        -------
        dataset_train : torch.utils.data.Dataset
        dataset_valid : torch.utils.data.Dataset or None
        """
        dataset_train, dataset_valid = super().get_split_datasets(X, y, **fit_params)
        if dataset_valid is not None:
            inliers = np.flatnonzero(targets_in(dataset_valid) != OUTLIER).tolist()
            dataset_valid = Subset(dataset_valid, inliers)
        return dataset_train, dataset_valid


def _weight_of(head: nn.Module) -> Tensor:
    """Return the weight of a linear layer, including the update of an adapter."""
    if isinstance(head, nn.Linear):
        return head.weight
    weight, _ = head_parameters(head)
    return weight
