"""Classifier and regressor: skorch nets that follow scikit-learn's conventions."""

from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import column_or_1d
from skorch.utils import to_tensor
from torch import nn

from ..utils._random import draw_seed
from ..utils._typing import Array, FloatArray, IntArray, RandomState
from ..utils._validation import check_class_labels, check_magnitude
from ._batches import TensorBatches
from ._conventional_net import AUTO, ConventionalNet
from ._device import seeded
from ._input import AnySamples
from ._modules import name_of, uncompiled
from ._outputs import head_parameters, linear_layers, log_probabilities, main_output

_REGRESSION_LOSSES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss)


class NetClassifier(ConventionalNet, skorch.NeuralNetClassifier):
    """A skorch classifier that follows scikit-learn's conventions.

    It accepts every parameter of :class:`skorch.NeuralNetClassifier` [1]_, and data in any form:
    arrays, data frames, tensors, dicts of arrays, and map-style datasets. It differs as follows.
    Labels may be of any type. Without a `module`, a network is chosen for the shape of the data. A
    module instance is copied before it is trained. Arrays are shuffled and sliced without a data
    loader. By default, no validation data are split off and nothing is printed. Training is
    reproducible with `random_state` and leaves torch's global generators unchanged. A loss that is
    not finite raises an error, and so does an interrupt.

    Parameters
    ----------
    module : torch.nn.Module class, instance or "auto", default="auto"
        The network. "auto" means an :class:`MLP` for tabular data and a :class:`SmallCNN` for
        images.
    criterion : torch.nn.Module class, default=torch.nn.CrossEntropyLoss
        Loss function. With the default, the module must return logits. With torch.nn.NLLLoss, it
        must return log-probabilities or, as in skorch, probabilities.
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
    precision : {"full", "bf16"}, default="full"
        Precision of the forward pass in training and prediction. "bf16" uses torch's automatic
        mixed precision with bfloat16; weights and losses stay as they are.
    on_interrupt : {"raise", "keep"}, default="raise"
        What Ctrl-C does during training. "raise" ends in KeyboardInterrupt and leaves the net as it
        was before. "keep" is skorch's behavior: training ends, and the net counts as fitted.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the order of the batches and dropout. Pass an int for
        reproducible results across calls.
    **params
        Any other parameter of skorch, such as ``module__hidden_sizes`` or ``callbacks``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels in the order of the outputs: those of the parameter `classes`, or else those in
        y, sorted. :func:`net_from_module` keeps the order that is given.
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
        precision: str = "full",
        on_interrupt: str = "raise",
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
        self.precision = precision
        self.on_interrupt = on_interrupt
        self.random_state = random_state

    @property
    def classes_(self) -> Array:
        """Class labels in the order of the outputs."""
        known = vars(self).get("classes_inferred_")
        return super().classes_ if known is None else known

    def _encode(self, y: Array, afresh: bool, classes: ArrayLike | None) -> IntArray:
        y = column_or_1d(y, warn=True)
        check_class_labels(y)
        if afresh or not hasattr(self, "classes_inferred_"):
            if classes is None:
                classes = np.unique(y if self.classes is None else self.classes)
            labels = np.asarray(classes)
            if len(labels) < 2:
                raise ValueError(
                    f"y must contain at least two classes, got one class: {labels.tolist()[0]!r}."
                    if len(labels)
                    else "classes must contain at least two labels, got none."
                )
            self.classes_inferred_ = labels
            self.n_outputs_ = len(labels)
        return encode_labels(y, self.classes_inferred_)

    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        y_pred : tensor, tuple of tensors or dict of tensors
            Outputs of the module. Losses of torch get the logits only.
        y_true : tensor
            Class indices.
        *args, **kwargs
            Passed on.

        Returns
        -------
        tensor

        Raises
        ------
        ValueError
            If the outputs do not fit the number of classes.
        """
        if not _is_from_torch(self.criterion_):
            return super().get_loss(y_pred, y_true, *args, **kwargs)
        outputs = main_output(y_pred)
        if hasattr(self, "n_outputs_") and outputs.shape[1:2] != (self.n_outputs_,):
            raise ValueError(
                f"{name_of(self.module_)} returns outputs of shape {tuple(outputs.shape)} for "
                f"{len(y_true)} samples, but there are {self.n_outputs_} classes, which require "
                f"({len(y_true)}, {self.n_outputs_}). List classes that do not occur in y in the "
                "parameter `classes`."
            )
        if isinstance(uncompiled(self.criterion_), nn.NLLLoss):
            outputs = log_probabilities(self, outputs)  # skorch would take the logarithm of them
        return skorch.NeuralNet.get_loss(self, outputs, y_true, *args, **kwargs)

    def _get_predict_nonlinearity(self) -> Any:
        nonlinearity = super()._get_predict_nonlinearity()
        is_nll = isinstance(uncompiled(getattr(self, "criterion_", None)), nn.NLLLoss)
        if self.predict_nonlinearity == "auto" and is_nll:
            return lambda outputs: log_probabilities(self, outputs).exp()
        return nonlinearity

    def predict(self, X: AnySamples) -> Array:
        """Predict the most probable class of each sample.

        Parameters
        ----------
        X : array-like, tensor, dict of arrays, or Dataset
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels, or the indices of the outputs if the net has never seen labels.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        if self._scores_encoded(X):
            return codes
        try:
            return self.classes_[codes]
        except AttributeError:
            return codes


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
    precision : {"full", "bf16"}, default="full"
        Precision of the forward pass in training and prediction. "bf16" uses torch's automatic
        mixed precision with bfloat16; weights and losses stay as they are.
    on_interrupt : {"raise", "keep"}, default="raise"
        What Ctrl-C does during training. "raise" ends in KeyboardInterrupt and leaves the net as it
        was before. "keep" is skorch's behavior: training ends, and the net counts as fitted.
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
        precision: str = "full",
        on_interrupt: str = "raise",
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
        self.precision = precision
        self.on_interrupt = on_interrupt
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _encode(self, y: Array, afresh: bool, classes: ArrayLike | None) -> FloatArray:
        check_magnitude(y, np.float32)
        targets = np.asarray(y, dtype=np.float32)
        ndim = targets.ndim
        targets = targets.reshape(len(targets), -1)
        if afresh or not hasattr(self, "target_ndim_"):
            self.target_ndim_, self.n_outputs_ = ndim, targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} targets, got {targets.shape[1]}.")
        return targets

    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        y_pred : tensor, tuple of tensors or dict of tensors
            Outputs of the module. Losses of torch get the main output only.
        y_true : tensor
            Targets, which losses of torch get in the shape of the outputs.
        *args, **kwargs
            Passed on.

        Returns
        -------
        tensor

        Raises
        ------
        ValueError
            If the number of outputs differs from the number of targets.
        """
        if not _is_from_torch(self.criterion_):
            return super().get_loss(y_pred, y_true, *args, **kwargs)
        outputs, targets = main_output(y_pred), to_tensor(y_true, device=self.device)
        if outputs.shape[:1] != targets.shape[:1] or outputs.numel() != targets.numel():
            raise ValueError(
                f"{name_of(self.module_)} returns outputs of shape {tuple(outputs.shape)} for "
                f"{len(targets)} samples, but y requires {tuple(targets.shape)}: one output for "
                "each target."
            )
        return super().get_loss(outputs, targets.reshape(outputs.shape), *args, **kwargs)

    def predict(self, X: AnySamples) -> FloatArray:
        """Predict the targets of each sample.

        Parameters
        ----------
        X : array-like, tensor, dict of arrays, or Dataset
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions have as many dimensions as y had in `fit`.
        """
        outputs = self.predict_proba(X).astype(np.float64)
        if not hasattr(self, "target_ndim_") or outputs.size != len(outputs) * self.n_outputs_:
            return outputs
        if self.target_ndim_ == 1 and not self._scores_encoded(X):
            return outputs.reshape(-1)
        return outputs.reshape(len(outputs), -1)


def net_from_module(
    module: nn.Module,
    *,
    classes: ArrayLike | None = None,
    criterion: Any = None,
    **params: Any,
) -> NetClassifier | NetRegressor:
    """Return a fitted net around a trained module, without training it.

    The net can predict at once. You can pass it wherever a fitted net is accepted: to detectors,
    unlearners and soups.

    Parameters
    ----------
    module : torch.nn.Module
        A trained network, such as a model of torchvision or of Hugging Face's transformers. It is
        copied. If it takes several inputs, pass X as a dict of their names to arrays.
    classes : array-like of shape (n_classes,) or None, default=None
        Labels of the outputs in their order, which `partial_fit` keeps; `fit` sorts the labels and
        trains anew. None means 0, 1, ..., one for each output of the last linear layer.
    criterion : torch.nn.Module class or None, default=None
        Loss for further training; None means the cross-entropy of logits. A loss for regression,
        such as torch.nn.MSELoss, gives a :class:`NetRegressor`.
    **params
        Further parameters of the net, such as ``lr`` or ``device``.

    Returns
    -------
    NetClassifier or NetRegressor

    Raises
    ------
    TypeError
        If `module` is not an instance of torch.nn.Module, or cannot be copied.
    ValueError
        If the number of outputs is unknown, or `classes` are given for regression.

    See Also
    --------
    NetClassifier.load_params : Loads stored weights into an initialized net.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MSPOODDetector
    >>> from sklearn_ext.neural import net_from_module
    >>> X, y = load_digits(return_X_y=True)
    >>> module = torch.nn.Sequential(torch.nn.Linear(64, 10))  # trained elsewhere
    >>> net = net_from_module(module)
    >>> net.predict_proba(X).shape
    (1797, 10)
    >>> MSPOODDetector(net).fit(X).score_samples(X).shape
    (1797,)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an instance of torch.nn.Module, got {module!r}.")
    if criterion in _REGRESSION_LOSSES:
        if classes is not None:
            raise ValueError(f"classes must be None with criterion={criterion.__name__}.")
        regressor = NetRegressor(module, criterion=criterion, **params)
        with seeded(draw_seed(regressor.random_state)):
            return regressor.initialize()
    if classes is None:
        layers = list(linear_layers(module).values())
        if not layers:
            raise ValueError(
                f"{name_of(module)} has no linear layer from which to infer the number of outputs; "
                "pass classes."
            )
        labels = np.arange(head_parameters(layers[-1])[0].shape[0])
    else:
        labels = np.asarray(classes)
    criterion = nn.CrossEntropyLoss if criterion is None else criterion
    net = NetClassifier(module, criterion=criterion, classes=labels, **params)
    if len(labels) < 2 or len(np.unique(labels)) < len(labels):
        raise ValueError(f"classes must be at least two distinct labels, got {labels}.")
    net.classes_inferred_, net.n_outputs_ = labels, len(labels)
    with seeded(draw_seed(net.random_state)):
        return net.initialize()


def encode_labels(y: ArrayLike, classes: Array, *, name: str = "y") -> IntArray:
    """Return the index of each label in the classes, which may be in any order, as int64.

    Raises
    ------
    ValueError
        If a label is not one of the classes.
    """
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"{name} contains labels that are not among the classes {classes.tolist()}: "
            f"{unknown.tolist()}."
        )
    order = np.argsort(classes, kind="stable")
    return order[np.searchsorted(classes, y, sorter=order)].astype(np.int64)


def _is_from_torch(criterion: Any) -> bool:
    """Return whether a criterion is one of torch's losses, or inherits from one."""
    return isinstance(uncompiled(criterion), nn.modules.loss._Loss)
