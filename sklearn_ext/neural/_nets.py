"""Classifier and regressor: skorch nets that follow scikit-learn's conventions."""

from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from skorch.utils import is_dataset
from torch import nn

from ..utils._typing import Array, FloatArray, IntArray, RandomState
from ..utils._validation import check_magnitude
from ._batches import TensorBatches
from ._conventional_net import AUTO, ConventionalNet


class NetClassifier(ConventionalNet, skorch.NeuralNetClassifier):
    """A skorch classifier that follows scikit-learn's conventions.

    It accepts every parameter of :class:`skorch.NeuralNetClassifier` [1]_, with these differences:
    labels may be of any type, and X is cast to float32. Without a `module`, a network is chosen for
    the shape of the data. A module instance is copied before it is trained. Batches are shuffled
    and sliced without a data loader. By default, no validation data are split off and nothing is
    printed. Training is reproducible with `random_state` and leaves torch's global generators
    unchanged.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
        The network. "auto" means an :class:`MLP` for tabular data and a :class:`SmallCNN` for
        images.
    criterion : torch.nn.Module class, default=torch.nn.CrossEntropyLoss
        Loss function. With the default, the module must return logits.
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
    lr : float, default=2e-3
        Learning rate.
    max_epochs : int, default=30
        Number of passes over the training data.
    batch_size : int, default=32
        Number of samples in a mini-batch.
    train_split : callable or None, default=None
        Splits off validation data, as in skorch; None trains on all samples.
    iterator_train : callable, default=TensorBatches
        Iterator over the training batches.
    iterator_valid : callable, default=TensorBatches
        Iterator over the batches for validation and prediction.
    iterator_train__shuffle : bool, default=True
        Whether to shuffle the training data in each epoch.
    verbose : int, default=0
        With 1 or more, skorch prints the losses of each epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the order of the batches and dropout. Pass an int for
        reproducible results across calls.
    **params
        Any other parameter of skorch, such as ``module__hidden_sizes`` or ``callbacks``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted class labels.
    module_ : torch.nn.Module
        The trained network.
    n_outputs_ : int
        Number of classes.
    input_shape_ : tuple of int
        Shape of one sample.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    skorch.NeuralNetClassifier : The base class, with all parameters and methods.
    NetRegressor : The counterpart for regression.

    References
    ----------
    .. [1] M. Tietz, T. J. Fan, D. Nouri, B. Bossan and skorch developers, "skorch: A scikit-learn
       compatible neural network library that wraps PyTorch", 2017, https://skorch.readthedocs.io.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> net.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        module: Any = AUTO,
        *,
        criterion: Any = nn.CrossEntropyLoss,
        optimizer: Any = torch.optim.AdamW,
        lr: float = 2e-3,
        max_epochs: int = 30,
        batch_size: int = 32,
        train_split: Any = None,
        iterator_train: Any = TensorBatches,
        iterator_valid: Any = TensorBatches,
        iterator_train__shuffle: bool = True,
        verbose: int = 0,
        random_state: RandomState = None,
        **params: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=train_split,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            iterator_train__shuffle=iterator_train__shuffle,
            verbose=verbose,
            **params,
        )
        self.random_state = random_state

    def _encode(self, y: ArrayLike, afresh: bool, classes: ArrayLike | None) -> IntArray:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if afresh:
            labels = y if classes is None else classes
            self.classes_inferred_ = np.unique(labels)
            if len(self.classes_inferred_) < 2:
                raise ValueError(
                    "y must contain at least two classes, "
                    f"got one class: {self.classes_inferred_[0]!r}."
                )
            self.n_outputs_ = len(self.classes_inferred_)
        return encode_labels(y, self.classes_inferred_)

    def predict(self, X: ArrayLike) -> Array:
        """Predict the most probable class of each sample.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return codes if is_dataset(X) else self.classes_[codes]


class NetRegressor(ConventionalNet, skorch.NeuralNetRegressor):
    """A skorch regressor that follows scikit-learn's conventions.

    It differs from :class:`skorch.NeuralNetRegressor` [1]_ in the same ways in which
    :class:`NetClassifier` differs from its skorch counterpart, and y may have one or two
    dimensions. Targets are not scaled: if they are far from unit scale, wrap the net in
    :class:`sklearn.compose.TransformedTargetRegressor`.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
        The network. "auto" means an :class:`MLP` for tabular data and a :class:`SmallCNN` for
        images.
    criterion : torch.nn.Module class, default=torch.nn.MSELoss
        Loss function.
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
    lr : float, default=2e-3
        Learning rate.
    max_epochs : int, default=30
        Number of passes over the training data.
    batch_size : int, default=32
        Number of samples in a mini-batch.
    train_split : callable or None, default=None
        Splits off validation data, as in skorch; None trains on all samples.
    iterator_train : callable, default=TensorBatches
        Iterator over the training batches.
    iterator_valid : callable, default=TensorBatches
        Iterator over the batches for validation and prediction.
    iterator_train__shuffle : bool, default=True
        Whether to shuffle the training data in each epoch.
    verbose : int, default=0
        With 1 or more, skorch prints the losses of each epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the order of the batches and dropout. Pass an int for
        reproducible results across calls.
    **params
        Any other parameter of skorch, such as ``module__hidden_sizes`` or ``callbacks``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network.
    n_outputs_ : int
        Number of targets.
    target_ndim_ : int
        Number of dimensions of y in `fit`, and of the predictions.
    input_shape_ : tuple of int
        Shape of one sample.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    skorch.NeuralNetRegressor : The base class, with all parameters and methods.
    NetClassifier : The counterpart for classification.

    References
    ----------
    .. [1] M. Tietz, T. J. Fan, D. Nouri, B. Bossan and skorch developers, "skorch: A scikit-learn
       compatible neural network library that wraps PyTorch", 2017, https://skorch.readthedocs.io.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sklearn_ext import NetRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> NetRegressor(random_state=0).fit(scale(X), scale(y)).score(scale(X), scale(y)) > 0.5
    True
    """

    def __init__(
        self,
        module: Any = AUTO,
        *,
        criterion: Any = nn.MSELoss,
        optimizer: Any = torch.optim.AdamW,
        lr: float = 2e-3,
        max_epochs: int = 30,
        batch_size: int = 32,
        train_split: Any = None,
        iterator_train: Any = TensorBatches,
        iterator_valid: Any = TensorBatches,
        iterator_train__shuffle: bool = True,
        verbose: int = 0,
        random_state: RandomState = None,
        **params: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=train_split,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            iterator_train__shuffle=iterator_train__shuffle,
            verbose=verbose,
            **params,
        )
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _encode(self, y: ArrayLike, afresh: bool, classes: ArrayLike | None) -> FloatArray:
        check_magnitude(y, np.float32)
        targets = np.asarray(y, dtype=np.float32)
        ndim = targets.ndim
        targets = targets.reshape(len(targets), -1)
        if afresh:
            self.target_ndim_, self.n_outputs_ = ndim, targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} targets, got {targets.shape[1]}.")
        return targets

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict the targets of each sample.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions have as many dimensions as y had in `fit`.
        """
        outputs = self.predict_proba(X).astype(np.float64)
        return outputs[:, 0] if self.target_ndim_ == 1 and not is_dataset(X) else outputs


def encode_labels(y: ArrayLike, classes: Array) -> IntArray:
    """Return the index of each label in the sorted classes, as int64.

    Raises
    ------
    ValueError
        If a label is not one of the classes.
    """
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y contains labels that are none of the classes {classes}: {unknown}.")
    return np.searchsorted(classes, y).astype(np.int64)
