"""skorch nets that keep scikit-learn's conventions."""

import contextlib
import copy

import numpy as np
import skorch
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from skorch.utils import is_dataset
from torch import nn

from ..utils._atomic import atomic_fit
from ..utils._magnitudes import check_magnitude
from ..utils._random import draw_seed
from ._batches import TensorBatches
from ._input import validate_input
from ._modules import default_module
from ._parameters import has_finite_parameters
from ._seeding import seeded

_AUTO = "auto"


class _ConventionalNet:
    """Validation, private randomness and the default module, for both kinds of nets."""

    def __sklearn_is_fitted__(self):
        return self.initialized_ and hasattr(self, "n_outputs_")

    def _get_param_names(self):
        # skorch's own book-keeping is no parameter that a user could set.
        return [name for name in super()._get_param_names() if not name.startswith("_")]

    def check_data(self, X, y):
        """Let through what `fit` has validated and encoded.

        Parameters
        ----------
        X : ndarray
        y : ndarray
        """

    def initialize_module(self):
        """Build the module or copy a given one, or build the default for the shape of the data."""
        if not (isinstance(self.module, str) and self.module == _AUTO):
            super().initialize_module()
            if self.module_ is self.module:  # skorch would train a parameter of the constructor
                self.module_ = copy.deepcopy(self.module)
            return self
        params = self.get_params_for("module")
        self.module_ = default_module(self.input_shape_, self.n_outputs_, **params)
        return self

    @atomic_fit
    def fit(self, X, y):
        """Train the network anew, or from where it stands if `warm_start` is set.

        Anew means from random weights, or from those of a `module` that is an instance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        self : object
            The fitted net.

        Raises
        ------
        ValueError
            If the data are not finite or do not fit together.
        """
        afresh = not (self.warm_start and self.initialized_)
        return self._train(X, y, afresh=afresh)

    @atomic_fit
    def partial_fit(self, X, y, classes=None):
        """Go on training for `max_epochs` epochs.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            As in `fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            For a classifier's first call: all labels that will come.

        Returns
        -------
        self : object
            The fitted net.
        """
        return self._train(X, y, afresh=not self.initialized_, classes=classes)

    def _train(self, X, y, *, afresh, classes=None):
        X, y = validate_input(self, X, y, reset=afresh)
        y = self._encode(y, afresh, classes)
        undone = contextlib.nullcontext() if afresh else self._undone_if_it_fails()
        with undone, seeded(draw_seed(self.random_state), self.device):
            if afresh:
                self.initialize()
                self._check_outputs(X[:1])
            super().partial_fit(X, y)
            if not has_finite_parameters(self.module_):
                raise ValueError(
                    "Training has led to weights that are not finite: X or y may need scaling, or "
                    f"lr={self.lr} may be too large."
                )
        return self

    @contextlib.contextmanager
    def _undone_if_it_fails(self):
        """Restore what training on changes in place, which `atomic_fit` does not see."""
        names = (*self._modules, *self._criteria, *self._optimizers)
        parts = [getattr(self, f"{name}_") for name in names]
        states = copy.deepcopy([part.state_dict() for part in parts])
        n_epochs = len(self.history_)
        try:
            yield
        except BaseException:
            for part, state in zip(parts, states, strict=True):
                part.load_state_dict(state)
            del self.history_[n_epochs:]
            raise

    def _check_outputs(self, row):
        """Refuse a module whose outputs the criterion could only broadcast, or predict not name."""
        outputs = self.forward(row)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if tuple(outputs.shape) != (1, self.n_outputs_):
            name, shape = type(self.module_).__name__, tuple(outputs.shape)
            raise ValueError(
                f"{name} returns outputs of shape {shape} for one row, but y asks for "
                f"(1, {self.n_outputs_}): one for each class or target."
            )

    def predict_proba(self, X):
        """Return the outputs, through the non-linearity that the criterion implies.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
        """
        if is_dataset(X):  # skorch scores its own, validated rows while it trains
            return super().predict_proba(X)
        check_is_fitted(self)
        return super().predict_proba(validate_input(self, X, reset=False))


class NetClassifier(_ConventionalNet, skorch.NeuralNetClassifier):
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
        module=_AUTO,
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


class NetRegressor(_ConventionalNet, skorch.NeuralNetRegressor):
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
        module=_AUTO,
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
