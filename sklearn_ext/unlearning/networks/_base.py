"""What the unlearners of networks share: the original net, the request, and the predictions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import (
    AnySamples,
    NetSamples,
    class_codes,
    class_labels,
    copied_net,
    device_of,
    fitted_copy,
    has_finite_parameters,
    head_of,
    log_probabilities,
    main_output,
    outputs_and_features,
    validate_input,
)
from ...utils._random import local_random_state
from ...utils._typing import Array, FloatArray, IntArray
from .._forget_request import ForgetRequest
from ..steps import OPTIMIZERS, FineTuneConfig, Record, forward

_EVALUATION_BATCH = 1024
_EVALUATION_BYTES = 2**25  # of the inputs in a batch of the evaluation

# Maps outputs and targets to the mean loss or, with reduction="none", to the losses of samples.
Loss: TypeAlias = Callable[..., torch.Tensor]


def loss_of(net: skorch.NeuralNetClassifier) -> Loss:
    """Return the loss with which a net is trained, as a function like torch's `cross_entropy`.

    The targets are class indices, or probabilities of shape (n, n_classes). By default, the losses
    are reduced as the net reduces them.
    """

    def loss(
        outputs: torch.Tensor, targets: torch.Tensor, *, reduction: str | None = None
    ) -> torch.Tensor:
        criterion = net.criterion_
        own = getattr(criterion, "reduction", None)
        if targets.ndim == 2 and isinstance(criterion, nn.NLLLoss):  # which takes no probabilities
            return cross_entropy(
                log_probabilities(net, main_output(outputs)),
                targets,
                weight=criterion.weight,
                reduction=criterion.reduction if reduction is None else reduction,
            )
        if reduction is None or own is None:
            return net.get_loss(outputs, targets, training=True)
        criterion.reduction = reduction
        try:
            return net.get_loss(outputs, targets, training=True)
        finally:
            criterion.reduction = own

    return loss


class NetData:
    """A trained module and its samples, which move to its device batch by batch.

    Parameters
    ----------
    module : torch.nn.Module
        A trained module.
    X : array, tensor or reader
        The training data of the module: an array or a tensor of shape (n_samples, ...), or a
        reader, whose method ``take`` returns a batch as the module takes it, as the first part of a
        pair.
    codes : array or tensor of int64 of shape (n_samples,)
        Class indices of the samples.
    request : ForgetRequest
        The samples to forget and to retain.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the module and targets to the mean loss of a batch or, with
        ``reduction="none"``, to the losses of its samples.

    Attributes
    ----------
    module : torch.nn.Module
        The module.
    device : torch.device
        The device of the module.
    X : tensor of shape (n_samples, ...) or reader
        The training data, where they were.
    codes : int64 tensor of shape (n_samples,)
        Class indices of the samples, on this device.
    forget, retain : int64 tensors
        Indices of the forget set and of the retained set, on the CPU.
    loss : callable
        The loss, as given.
    n_classes : int
        Number of classes, which is the number of outputs of the module.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import NetData
    >>> request = ForgetRequest.from_user([0], n_samples=3)
    >>> data = NetData(torch.nn.Linear(2, 3), torch.zeros(3, 2), torch.tensor([0, 1, 1]), request)
    >>> data.present()  # class 0 has no retained sample, and class 2 has no sample at all
    tensor([False,  True, False])
    """

    def __init__(
        self,
        module: nn.Module,
        X: Any,
        codes: IntArray | torch.Tensor,
        request: ForgetRequest,
        loss: Loss = cross_entropy,
    ) -> None:
        self.module = module
        self.device = device_of(module)
        is_array = isinstance(X, (np.ndarray, torch.Tensor))
        self.X: Any = torch.as_tensor(X) if is_array else X
        self.codes = torch.as_tensor(codes, device=self.device)
        self.forget = torch.as_tensor(request.forget)
        self.retain = torch.as_tensor(request.retain)
        self.loss = loss
        self._batch_size = self._evaluation_batch_size()
        self.n_classes: int = self.outputs(torch.arange(min(2, len(codes)))).shape[1]

    def present(self) -> torch.Tensor:
        """Return a mask of the classes that have retained samples, of shape (n_classes,)."""
        return torch.bincount(self.codes[self.retain], minlength=self.n_classes) > 0

    def _evaluation_batch_size(self) -> int:
        sample = self.inputs(torch.arange(1))
        parts = sample.values() if isinstance(sample, Mapping) else [sample]
        n_bytes = sum(part.numel() * part.element_size() for part in parts)
        return min(max(_EVALUATION_BYTES // max(n_bytes, 1), 1), _EVALUATION_BATCH)

    def inputs(self, index: torch.Tensor) -> Any:
        """Return samples on the device of the module, in the form that it takes.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.

        Returns
        -------
        tensor of shape (n, ...), or dict of tensors
        """
        if isinstance(self.X, torch.Tensor):
            return self.X[index.to(self.X.device)].to(self.device)
        return self.X.take(index)[0]

    @torch.no_grad()
    def outputs(self, index: torch.Tensor, module: nn.Module | None = None) -> torch.Tensor:
        """Return the outputs of the module, which stays in evaluation mode.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.
        module : torch.nn.Module, default=None
            Another module to use.

        Returns
        -------
        tensor of shape (n, n_classes)
        """
        chosen = (self.module if module is None else module).eval()
        batches = (self.inputs(batch) for batch in index.split(self._batch_size))
        return torch.cat([main_output(forward(chosen, batch)) for batch in batches])

    @torch.no_grad()
    def features(self, index: torch.Tensor, head: str | None = None) -> torch.Tensor:
        """Return the inputs of the last linear layer, in evaluation mode.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.
        head : str, default=None
            Name of the layer; None means the last :class:`torch.nn.Linear`.

        Returns
        -------
        tensor of shape (n, n_features)
        """
        module = self.module.eval()
        layer = head_of(module, head)
        batches = (self.inputs(batch) for batch in index.split(self._batch_size))
        return torch.cat([outputs_and_features(module, batch, layer)[1] for batch in batches])

    def batch_loss(self, index: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of samples with their own classes.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.

        Returns
        -------
        tensor, scalar
        """
        return self.loss(forward(self.module, self.inputs(index)), self.codes[index])

    def sample_losses(self, index: torch.Tensor) -> torch.Tensor:
        """Return the loss of each of some samples with its own class.

        Parameters
        ----------
        index : int64 tensor of shape (n,)
            The samples.

        Returns
        -------
        tensor of shape (n,)

        Raises
        ------
        ValueError
            If the loss has another shape.
        """
        losses = self.loss(
            forward(self.module, self.inputs(index)), self.codes[index], reduction="none"
        )
        if losses.shape != index.shape:
            raise ValueError(
                "The criterion must return one loss per sample with reduction='none', but for "
                f"{len(index)} samples it returned a tensor of shape {tuple(losses.shape)}."
            )
        return losses


class FitMonitor:
    """Report a fit to scikit-learn's callbacks, and print it if the estimator is verbose.

    Parameters
    ----------
    estimator : BaseUnlearner
        The estimator that is being fitted.
    net : skorch.NeuralNetClassifier
        The net that is changed; callbacks that need a fitted estimator get a copy of it.
    original : skorch.NeuralNetClassifier
        The original net.
    request : ForgetRequest
        The samples to forget and to retain.
    data : dict
        X, y and metadata of `fit`.
    """

    def __init__(
        self,
        estimator: "BaseUnlearner",
        net: skorch.NeuralNetClassifier,
        original: skorch.NeuralNetClassifier,
        request: ForgetRequest,
        data: dict[str, Any],
    ) -> None:
        self._estimator = estimator
        self._net = net
        self._original = original
        self._request = request
        self._data = data
        self._context: Any = None

    def begin(self, n_steps: int) -> None:
        """Announce the number of epochs or iterations."""
        self._context = self._estimator._init_callback_context(max_subtasks=n_steps)
        self._context.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def step(self, record: Record) -> bool:
        """Report an epoch or iteration, and return whether a callback asks to stop."""
        if self._estimator.verbose:
            values = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
            print(f"{type(self._estimator).__name__}: {values}")
        step = self._context.subcontext("step")
        step.call_on_fit_task_begin(estimator=self._estimator)
        return self._end(step)

    def end(self) -> None:
        """Report the end of the fit."""
        self._end(self._context)

    def _end(self, context: Any) -> bool:
        return context.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=self._fitted_attributes,
            **self._data,
        )

    def _fitted_attributes(self) -> dict[str, Any]:
        net = copied_net(self._net)
        net.module_.eval()
        return {
            "estimator_": net,
            "original_estimator_": self._original,
            "classes_": class_labels(self._original),
            "forget_idx_": self._request.forget,
        }


@dataclass(frozen=True)
class Task:
    """A validated call of `fit`.

    Attributes
    ----------
    net : skorch.NeuralNetClassifier
        A copy of the original net, to be changed in place.
    original : skorch.NeuralNetClassifier
        The original net.
    X : NetSamples
        Reader of the samples.
    codes : ndarray of int64
        Class indices of the samples.
    request : ForgetRequest
        The samples to forget and to retain.
    rng : numpy.random.RandomState
        Source of all random draws.
    monitor : FitMonitor
        Follows the training.
    """

    net: skorch.NeuralNetClassifier
    original: skorch.NeuralNetClassifier
    X: NetSamples
    codes: IntArray
    request: ForgetRequest
    rng: np.random.RandomState
    monitor: FitMonitor

    @property
    def loss(self) -> Loss:
        """The loss with which the net was trained."""
        return loss_of(self.net)

    def batch_size(self, requested: int | None) -> int:
        """Return a batch size, where None means that of the net."""
        size = self.net.batch_size if requested is None else requested
        return len(self.X) if size == -1 else size  # in skorch, -1 means all samples


class BaseUnlearner(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """A classifier that can forget some of its training samples."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": "no_validation",
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    estimator: Any
    random_state: Any
    verbose: Any
    input_shape_: tuple[int, ...] | None

    def _begin(self, X: AnySamples, y: ArrayLike | None, forget: ArrayLike | None) -> Task:
        """Validate the data and the request, and fit or copy the original net."""
        data = {"X": X, "y": y, "metadata": None}  # scorers of callbacks do not accept "forget"
        X, y = validate_input(self, X, y, reset=True, any_form=True)
        request = ForgetRequest.from_user(forget, len(y))
        if not request.is_empty and len(np.unique(y[request.retain])) < 2:
            raise ValueError(
                "At least two classes must remain after forgetting, but the retained samples have "
                "only one."
            )
        rng = local_random_state(self.random_state)
        original = fitted_copy(self.estimator, X, y, random_state=rng)
        codes = class_codes(original, y)
        known_shape = getattr(original, "input_shape_", None)
        if None not in (known_shape, self.input_shape_) and known_shape != self.input_shape_:
            raise ValueError(
                f"estimator was fitted to samples of shape {known_shape}, but the samples in X "
                f"have shape {self.input_shape_}."
            )
        net = copied_net(original)
        monitor = FitMonitor(self, net, original, request, data)
        if request.is_empty:
            monitor.begin(0)
        samples = NetSamples(net, X, codes, training=True)
        return Task(net, original, samples, codes, request, rng, monitor)

    def _finish(self, task: Task) -> None:
        """Check the unlearned net, and set the fitted attributes that all unlearners have."""
        module = task.net.module_
        if not has_finite_parameters(module):
            raise ValueError(
                f"{type(self).__name__} has produced weights that are not finite. Its steps may be "
                "too large; try a smaller learning_rate."
            )
        module.eval()
        task.monitor.end()
        self.estimator_ = task.net
        self.original_estimator_ = task.original
        self.classes_ = class_labels(task.original)
        self.forget_idx_ = task.request.forget

    def predict(self, X: AnySamples) -> Array:
        """Predict classes with the unlearned model.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays or Dataset
            Samples of the same shape as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            The predicted class labels.
        """
        check_is_fitted(self)
        return self.estimator_.predict(validate_input(self, X, reset=False, any_form=True))

    def predict_proba(self, X: AnySamples) -> FloatArray:
        """Predict class probabilities with the unlearned model.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), tensor, dict of arrays or Dataset
            Samples of the same shape as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of `classes_`.
        """
        check_is_fitted(self)
        X = validate_input(self, X, reset=False, any_form=True)
        return self.estimator_.predict_proba(X)


class BaseFineTuner(BaseUnlearner):
    """An unlearner that fine-tunes the net on samples, inputs or labels of its own choice."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseUnlearner._parameter_constraints,
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.random_state = random_state
        self.verbose = verbose

    def _training(self, task: Task) -> FineTuneConfig:
        """Return the settings of the training."""
        return FineTuneConfig(
            learning_rate=self.learning_rate,
            max_epochs=self.max_epochs,
            batch_size=task.batch_size(self.batch_size),
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
        )
