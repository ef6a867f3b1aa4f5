"""skorch nets that keep scikit-learn's conventions."""

import numpy as np
import skorch
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from skorch.utils import is_dataset
from torch import nn

from ..utils._validation import check_magnitude
from ._batches import TensorBatches
from ._conventional_net import AUTO, ConventionalNet


class NetClassifier(ConventionalNet, skorch.NeuralNetClassifier):
    """A skorch classifier that takes any labels and any dtype, and repeats under a seed.

    Whatever can be passed to :class:`skorch.NeuralNetClassifier` can be passed here. Different
    from it: labels may be of any kind, X is cast to float32, a network that suits the data is built
    when none is given, an instance of a module is copied before it is trained, batches are shuffled
    and cut without a data loader, no rows are held out, nothing is printed, and torch's global
    generators are never changed.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
        "auto" is an :class:`MLP` for rows of features and a :class:`SmallCNN` for images.
    criterion : torch.nn.Module class, default=torch.nn.CrossEntropyLoss
        With the default the module returns logits.
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
    lr : float, default=2e-3
    max_epochs : int, default=30
    batch_size : int, default=32
    train_split : callable or None, default=None
    iterator_train : callable, default=TensorBatches
    iterator_valid : callable, default=TensorBatches
    iterator_train__shuffle : bool, default=True
    verbose : int, default=0
    random_state : int, RandomState instance or None, default=None
    **params
        All else that skorch takes, such as ``module__hidden_sizes`` or ``callbacks``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
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
    skorch.NeuralNetClassifier : The parent, with all parameters and methods.
    NetRegressor : The same for targets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> NetClassifier(random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        module=AUTO,
        *,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        max_epochs=30,
        batch_size=32,
        train_split=None,
        iterator_train=TensorBatches,
        iterator_valid=TensorBatches,
        iterator_train__shuffle=True,
        verbose=0,
        random_state=None,
        **params,
    ):
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

    def _encode(self, y, afresh, classes):
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if afresh:
            labels = y if classes is None else classes
            self.classes_inferred_ = np.unique(labels)
            if len(self.classes_inferred_) < 2:
                raise ValueError(
                    "A classifier needs labels of at least two classes, "
                    f"got one class: {self.classes_inferred_[0]!r}."
                )
            self.n_outputs_ = len(self.classes_inferred_)
        return encode_labels(y, self.classes_inferred_)

    def predict(self, X):
        """Predict the most probable class of each row.

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
    """A skorch regressor that takes targets of one or two dimensions and repeats under a seed.

    Differs from :class:`skorch.NeuralNetRegressor` as :class:`NetClassifier` does from its
    parent. Targets are not scaled: wrap it in
    :class:`sklearn.compose.TransformedTargetRegressor` where they are far from unit scale.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
    criterion : torch.nn.Module class, default=torch.nn.MSELoss
    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
    lr : float, default=2e-3
    max_epochs : int, default=30
    batch_size : int, default=32
    train_split : callable or None, default=None
    iterator_train : callable, default=TensorBatches
    iterator_valid : callable, default=TensorBatches
    iterator_train__shuffle : bool, default=True
    verbose : int, default=0
    random_state : int, RandomState instance or None, default=None
    **params
        All else that skorch takes.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network.
    n_outputs_ : int
    target_ndim_ : int
        Dimensions of y in `fit`, and so of predictions.
    input_shape_ : tuple of int
        Shape of one row of X.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if X has names of columns.

    See Also
    --------
    skorch.NeuralNetRegressor : The parent, with all parameters and methods.
    NetClassifier : The same for labels.

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
        module=AUTO,
        *,
        criterion=nn.MSELoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        max_epochs=30,
        batch_size=32,
        train_split=None,
        iterator_train=TensorBatches,
        iterator_valid=TensorBatches,
        iterator_train__shuffle=True,
        verbose=0,
        random_state=None,
        **params,
    ):
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _encode(self, y, afresh, classes):
        check_magnitude(y, np.float32)
        targets = np.asarray(y, dtype=np.float32)
        ndim = targets.ndim
        targets = targets.reshape(len(targets), -1)
        if afresh:
            self.target_ndim_, self.n_outputs_ = ndim, targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} outputs, got {targets.shape[1]}.")
        return targets

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of as many dimensions as the targets had in `fit`.
        """
        outputs = self.predict_proba(X).astype(np.float64)
        return outputs[:, 0] if self.target_ndim_ == 1 and not is_dataset(X) else outputs


def encode_labels(y, classes: np.ndarray) -> np.ndarray:
    """Return the positions of labels in the sorted classes as int64.

    Raises
    ------
    ValueError
        If a label is none of the classes.
    """
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y holds labels that are none of the classes {classes}: {unknown}.")
    return np.searchsorted(classes, y).astype(np.int64)
