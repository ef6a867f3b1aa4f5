"""The training step of OrthLoss as a net that can be used alone."""

import copy

import numpy as np
import torch
from sklearn.utils.validation import column_or_1d
from skorch.dataset import unpack_data
from skorch.utils import data_from_dataset, to_numpy, to_tensor
from torch.utils.data import Subset

from ...neural import CosineDecay, NetClassifier, head_of, outputs_and_features
from .._detector import is_outlier
from ._outlier_batches import OUTLIER, OutlierBatches
from ._separation_losses import fine_tuning_loss


class SeparationNet(NetClassifier):
    r"""A skorch classifier that turns the features of known outliers away from all classes.

    Rows labelled `outlier_label` are outliers. Each step takes a mini-batch of the classes' rows
    and the next outliers through the network in one forward pass and minimises

    .. math::
        J = L_{CE} + \lambda L_{OE} + \alpha L_{Clu} + \beta L_{Sep} ,

    the cross-entropy of the classes' rows, the cross-entropy of the outliers with the uniform law,
    minus the cosine of features with the head's row of their class, and the absolute cosine of the
    features of outliers with all rows. Features are the input of the head, a linear layer.

    :class:`OrthLossOODDetector` trains one and adds the score and the threshold.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
        "auto" suits the shape of the data. :meth:`from_net` begins with a fitted net.

    oe_weight : float, default=0.5
        :math:`\lambda`.

    sep_weight : float, default=1.0
        :math:`\beta`.

    clu_weight : float, default=1.0
        :math:`\alpha`.

    sep_reduction : {"mean", "sum"}, default="mean"
        Over classes, in :math:`L_{Sep}`.

    energy_margins : (float, float) or None, default=None
        If given, :math:`L_{OE}` becomes squared hinges that push energies of inliers below the
        first number and those of outliers above the second. They are in units of the logits of
        this network, and `oe_weight` should be about 0.1.

    stage2_start : int or float in [0, 1), default=0
        First epoch with the terms on features, or the share of `max_epochs` before it.

    outlier_ratio : float, default=1.0
        Outliers of a batch over its rows of the classes.

    outlier_label : int or str, default=-1
        Label of outliers. It is not among ``classes_``.

    head : str or None, default=None
        Name of the linear layer whose input are the features; None is the last one.

    optimizer : torch.optim.Optimizer class, default=torch.optim.SGD
        With the default the momentum is 0.9, Nesterov's, and the weight decay 5e-4.

    lr : float, default=0.05
        First learning rate; the callback ``learning_rate`` lowers it along half a cosine.

    max_epochs : int, default=20

    batch_size : int, default=64
        Rows of the classes in a step.

    iterator_train : callable, default=OutlierBatches
        What yields batches, outliers with code -1 among them.

    random_state : int, RandomState instance or None, default=None

    **params
        All else that :class:`NetClassifier` and skorch take.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels without `outlier_label`.
    module_ : torch.nn.Module
        The trained network.
    n_outputs_ : int
    input_shape_ : tuple of int
        Shape of one row of X.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X has names of columns.

    See Also
    --------
    OrthLossOODDetector : The detector around it.

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
    >>> y = np.where(y >= 8, -1, y)  # eights and nines are no class
    >>> net = SeparationNet(random_state=0).fit(X / 16, y)
    >>> net.classes_
    array([0, 1, 2, 3, 4, 5, 6, 7])
    """

    def __init__(
        self,
        module="auto",
        *,
        oe_weight=0.5,
        sep_weight=1.0,
        clu_weight=1.0,
        sep_reduction="mean",
        energy_margins=None,
        stage2_start=0,
        outlier_ratio=1.0,
        outlier_label=-1,
        head=None,
        optimizer=torch.optim.SGD,
        lr=0.05,
        max_epochs=20,
        batch_size=64,
        iterator_train=OutlierBatches,
        random_state=None,
        **params,
    ):
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

    @classmethod
    def from_net(cls, net, **params):
        """Make a net that goes on from the weights of a fitted one.

        Parameters
        ----------
        net : skorch.NeuralNetClassifier
            It is not changed.
        **params
            Parameters of the new net but those of its module and criterion. The latter says whether
            the module returns logits or probabilities; training takes the head's logits always.

        Returns
        -------
        SeparationNet
            The next call of `fit` begins with the weights of `net`; its classes must be the same.
        """
        kept = {"module": net.module, "criterion": net.criterion}
        for part in tuple(kept):
            kept |= {f"{part}__{key}": v for key, v in net.get_params_for(part).items()}
        new = cls(**kept, **params)
        new._first_weights = copy.deepcopy(net.module_.state_dict())
        return new

    def initialize_module(self):
        """Build the module, with the weights of :meth:`from_net` the first time."""
        super().initialize_module()
        if (weights := vars(self).pop("_first_weights", None)) is not None:
            self.module_.load_state_dict(weights)
        return self

    @property
    def _default_callbacks(self):
        return [*super()._default_callbacks, ("learning_rate", CosineDecay())]

    def _encode(self, y, afresh, classes):
        y = column_or_1d(y, warn=True)
        outlying = is_outlier(y, self.outlier_label)
        if outlying.all():
            raise ValueError(
                f"All rows are labelled outlier_label={self.outlier_label!r}, no classes are left."
            )
        labels = y[~outlying]
        if labels.dtype == object:  # they stood beside a mark of another type
            labels = np.array(labels.tolist())
        codes = np.full(len(y), OUTLIER, dtype=np.int64)
        codes[~outlying] = super()._encode(labels, afresh, classes)
        return codes

    def get_iterator(self, dataset, training=False):
        """Return the batches of a data set; in training they bring outliers.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
        training : bool, default=False

        Returns
        -------
        iterable of pairs of tensors
        """
        iterator = super().get_iterator(dataset, training=training)
        if isinstance(iterator, OutlierBatches):
            iterator.outlier_ratio = self.outlier_ratio
        return iterator

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Remember the epoch at which this training begins.

        Parameters
        ----------
        net : SeparationNet
        X, y : array-like
        **kwargs
            Passed on.
        """
        self._first_epoch = len(self.history)
        super().on_train_begin(net, X=X, y=y, **kwargs)

    def _in_stage_two(self):
        start = self.stage2_start
        if isinstance(start, float):
            start = round(start * self.max_epochs)
        return len(self.history) - 1 - self._first_epoch >= start

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and its gradient.

        Parameters
        ----------
        batch : pair of tensors
            Rows and codes; outliers have code -1.
        **fit_params
            Not used.

        Returns
        -------
        dict
            ``loss`` and ``y_pred``.
        """
        self._set_training(True)
        X, codes = (to_tensor(part, device=self.device) for part in unpack_data(batch))
        head = head_of(self.module_, self.head)
        outputs, features = outputs_and_features(self.module_, X, head)
        logits = head(features)
        inside = codes != OUTLIER
        stage_two = self._in_stage_two()
        loss = fine_tuning_loss(
            logits[inside],
            features[inside],
            codes[inside],
            logits[~inside],
            features[~inside],
            head.weight,
            oe_weight=self.oe_weight,
            sep_weight=self.sep_weight if stage_two else 0.0,
            clu_weight=self.clu_weight if stage_two else 0.0,
            reduction=self.sep_reduction,
            energy_margins=self.energy_margins,
        )
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the data sets for training and validation, the latter without outliers.

        Parameters
        ----------
        X : ndarray of shape (n, ...)
        y : ndarray of shape (n,)
            Codes; outliers have code -1.
        **fit_params
            Passed on.

        Returns
        -------
        dataset_train : torch.utils.data.Dataset
        dataset_valid : torch.utils.data.Dataset or None
        """
        dataset_train, dataset_valid = super().get_split_datasets(X, y, **fit_params)
        if dataset_valid is not None:
            codes = to_numpy(data_from_dataset(dataset_valid)[1])
            dataset_valid = Subset(dataset_valid, np.flatnonzero(codes != OUTLIER))
        return dataset_train, dataset_valid
