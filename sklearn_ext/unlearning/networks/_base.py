"""Base classes of the unlearners for networks: the request, the original net, and predictions."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn.parameter import is_lazy

from ...neural import (
    AnySamples,
    NetClassifier,
    NetSamples,
    class_codes,
    class_labels,
    copied_module,
    copied_net,
    default_module,
    device_of,
    fitted_copy,
    has_finite_parameters,
    seeded,
    uncompiled,
    validate_input,
)
from ...utils._estimators import one_line
from ...utils._random import draw_seed, local_random_state
from ...utils._typing import Array, FloatArray, IntArray
from ...utils.compat import CallbackSupportMixin
from .._forget_request import ForgetRequest
from ..steps import OPTIMIZERS, FineTuneConfig, Record, forward
from ._net_data import Loss, loss_of
from ._trust_region import RetainedLimit


def check_given_together(X_val: AnySamples, y_val: ArrayLike | None) -> None:
    """Raise ValueError if samples are given without labels, or labels without samples."""
    if (X_val is None) != (y_val is None):
        missing = "X_val" if X_val is None else "y_val"
        raise ValueError(f"X_val and y_val must be given together, but {missing} is None.")


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
            print(f"[{type(self._estimator).__name__}] {values}")
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


def untrained_module(
    net: skorch.NeuralNetClassifier, seed: int, inputs: Any = None
) -> nn.Module | None:
    """Return the module of a net as it was before training, with new random weights if it has any.

    Lazy layers learn their sizes from `inputs`, a batch on the device of the net.

    A module with pretrained weights has these weights. None is returned if the module cannot be
    built again, or if a net was put around a trained module, whose earlier weights are unknown.
    """
    params = net.get_params_for("module")
    with seeded(seed, net.device):
        if isinstance(net.module, nn.Module):
            module = copied_module(net.module)
        elif net.module == "auto":
            module = default_module(net.input_shape_, net.n_outputs_, **params)
        else:
            module = net.initialized_instance(net.module, params)
        if any(map(is_lazy, module.parameters())):
            with torch.no_grad():
                forward(module.to(device_of(net.module_)).eval(), inputs)
    now = dict(uncompiled(net.module_).named_parameters())
    before = dict(uncompiled(module).named_parameters())
    if now.keys() != before.keys() or any(now[k].shape != before[k].shape for k in now):
        return None
    if all(torch.equal(before[name].cpu(), weight.cpu()) for name, weight in now.items()):
        return None
    return module.to(device_of(net.module_))


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

    @property
    def initial(self) -> nn.Module | None:
        """The module before it was trained, if it can be built again."""
        inputs, _ = self.X.take(torch.arange(min(2, len(self.X))))
        return untrained_module(self.original, draw_seed(self.rng), inputs)

    def batch_size(self, requested: int | None) -> int:
        """Return the batch size, which is that of the net if None is requested."""
        size = self.net.batch_size if requested is None else requested
        return len(self.X) if size == -1 else size  # in skorch, -1 means all samples


class BaseUnlearner(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """A classifier that can forget some of its training samples."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": "no_validation",
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "retained_tolerance": [Interval(Real, 0, 1, closed="both"), None],
        "on_retained_loss": [StrOptions({"warn", "raise"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    estimator: Any
    retained_tolerance: float | None
    on_retained_loss: str
    random_state: Any
    verbose: Any
    input_shape_: tuple[int, ...] | None

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return one line with the parameters that differ from their defaults.

        Parameters
        ----------
        N_CHAR_MAX : int, default=700
            Maximum number of characters.
        """
        return one_line(self, N_CHAR_MAX)

    def _begin(self, X: AnySamples, y: ArrayLike | None, forget: ArrayLike | None) -> Task:
        """Validate the data and the request, and fit or copy the original net."""
        data = {"X": X, "y": y, "metadata": None}  # scorers of callbacks do not accept "forget"
        X, y = validate_input(self, X, y, reset=True, any_form=True)
        request = ForgetRequest.from_user(forget, len(y))
        if not request.is_empty and len(np.unique(y[request.retain])) < 2:
            raise ValueError(
                "forget must leave samples of at least two classes, but all retained samples have "
                f"the label {y[request.retain].tolist()[0]!r}."
            )
        rng = local_random_state(self.random_state)
        original = fitted_copy(self.estimator, X, y, random_state=rng)
        if isinstance(original, NetClassifier) and not hasattr(original, "classes_"):
            original.classes_inferred_ = np.unique(y)  # of a net that was initialized or loaded
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

    def _held_out(
        self, task: Task, X_val: AnySamples, y_val: ArrayLike | None
    ) -> tuple[NetSamples | None, IntArray | None]:
        """Validate samples that the original net was not trained on."""
        if X_val is None or y_val is None:
            return None, None
        X_val = validate_input(self, X_val, reset=False, any_form=True)
        codes = class_codes(task.net, y_val)
        samples = NetSamples(task.net, X_val, codes)
        check_consistent_length(samples, codes)
        return samples, codes

    def _limit(self) -> RetainedLimit:
        return RetainedLimit(self.retained_tolerance, self.on_retained_loss)

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
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.retained_tolerance = retained_tolerance
        self.on_retained_loss = on_retained_loss
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
