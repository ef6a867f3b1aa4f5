"""Make skorch nets follow scikit-learn's conventions."""

import contextlib
import copy
import dis
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from skorch.callbacks import EarlyStopping
from skorch.history import History
from skorch.utils import is_dataset, to_tensor
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from ..utils._atomic import atomic_fit
from ..utils._random import draw_seed
from ..utils._typing import Array, FloatArray
from ..utils._warnings import warn_caller
from ..utils.compat import CallbackSupportMixin, FitTasks, with_callbacks
from ._batches import NetSamples
from ._device import PRECISIONS, mixed_precision, resolve_device, seeded
from ._input import (
    AnySamples,
    LabeledDataset,
    module_inputs,
    n_samples_of,
    select_samples,
    takes_integers,
    targets_in,
    validate_input,
)
from ._modules import copied_module, default_module, has_finite_parameters
from ._outputs import in_single_precision, main_output

AUTO = "auto"
ON_INTERRUPT = ("raise", "keep")
# Attributes that exist during training only. Copies of the net that a callback makes lack them.
_TRANSIENT = (
    *("is_training_", "fit_loop", "_after_epoch"),
    *("_callback_fit_ctx", "_parent_callback_ctx", "_skl_callbacks_to_teardown"),
)


class ConventionalNet(CallbackSupportMixin, skorch.NeuralNet):
    """Base class of the two nets: validation, seeding, the default module, and errors.

    Everything else is skorch's. Data in any form go through skorch's `dataset` and iterators.
    """

    module_: nn.Module
    history_: Any
    on_interrupt: str
    precision: str

    @abstractmethod
    def _encode(self, y: Array, afresh: bool, classes: ArrayLike | None) -> Array:
        """Encode y for the criterion; if `afresh`, set the attributes of the encoding first."""

    def _get_param_names(self) -> list[str]:
        # skorch's private attributes are not parameters that a user can set.
        names = super()._get_param_names()
        return [name for name in names if not name.startswith("_") and name not in _TRANSIENT]

    def check_data(self, X: AnySamples, y: Array | None = None) -> None:
        """Accept the data without a further check, because `fit` has validated them.

        Parameters
        ----------
        X : object
        y : ndarray or None, default=None
        """

    def initialize(self) -> Self:
        """Initialize all components; see :meth:`skorch.NeuralNet.initialize`.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If `device` is not available, another parameter is invalid, or the module is chosen by
            the shape of the data, which `fit` has not seen yet.
        """
        if self.device is not None:
            resolve_device(self.device)
        for name, allowed in (("on_interrupt", ON_INTERRUPT), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}.")
        if hasattr(self, "integer_input_"):
            del self.integer_input_
        return super().initialize()

    def initialize_module(self) -> Self:
        """Build the module, copy the given instance, or choose a default for the data's shape.

        Returns
        -------
        self : object
        """
        if not (isinstance(self.module, str) and self.module == AUTO):
            super().initialize_module()
            # skorch uses an instance as it is, so training would change the constructor's argument.
            if self.module_ is self.module:
                self.module_ = copied_module(self.module)
            return self
        if getattr(self, "input_shape_", None) is None:
            raise ValueError(
                'module="auto" chooses a network for samples that are single arrays, and their '
                "shape is known in fit only. Pass a module."
            )
        params = self.get_params_for("module")
        self.module_ = default_module(self.input_shape_, self.n_outputs_, **params)
        return self

    def initialize_history(self) -> Self:
        """Start a new history; the old one stays as it is for a net that is restored.

        Returns
        -------
        self : object
        """
        self.history_ = History() if self.history_ is None else copy.copy(self.history_)
        self.history_.clear()
        return self

    @atomic_fit
    @with_callbacks
    def fit(self, X: AnySamples, y: ArrayLike | None = None, **fit_params: Any) -> Self:
        """Train the network from its initial weights.

        The initial weights are random, or those of `module` if it is an instance. With
        `warm_start`, a fitted net continues from its current weights instead.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), tensor, dict of arrays, or Dataset
            Arrays of integers reach a module that takes integers as int64. All other arrays are
            cast to float32; the pixels of uint8 images keep their values from 0 to 255.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            May be None only if X is a dataset that contains the targets, which is then read once
            more.
        **fit_params
            Passed to `train_split` and to the module, as in skorch.

        Returns
        -------
        self : object
            The fitted net.

        Raises
        ------
        TypeError
            If X is a data loader or an iterable-style dataset.
        ValueError
            If X or y contains NaN or infinity, if their shapes do not match, or if a loss or a
            weight is not finite.
        """
        afresh = not (self.warm_start and self.initialized_)
        self._train("fit", X, y, afresh, None, fit_params)
        return self

    @atomic_fit
    @with_callbacks
    def partial_fit(
        self,
        X: AnySamples,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Continue training for `max_epochs` epochs.

        Parameters
        ----------
        X : array-like, tensor, dict of arrays, or Dataset
            As in `fit`.
        y : array-like, default=None
            As in `fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that can occur, for the first call of a classifier.
        **fit_params
            As in `fit`.

        Returns
        -------
        self : object
            The fitted net.
        """
        afresh = not self.initialized_
        classes = None if classes is None else np.unique(classes)
        self._train("partial_fit", X, y, afresh, classes, fit_params)
        return self

    def _train(
        self,
        method: str,
        X: AnySamples,
        y: ArrayLike | None,
        afresh: bool,
        classes: ArrayLike | None,
        fit_params: dict[str, Any],
    ) -> None:
        """Run skorch's loop, and report each epoch to scikit-learn's callbacks."""
        epochs = fit_params.get("epochs")
        tasks = FitTasks(self, self.max_epochs if epochs is None else epochs, X, y)
        self._after_epoch = lambda: tasks("epoch", dict)
        try:
            with self.prepare_training(X, y, afresh=afresh, classes=classes) as (X, y):
                self.fit_loop(X, y, _routing_method=method, **fit_params)
        finally:
            del self._after_epoch
        tasks.end()

    def notify(self, method_name: str, **data: Any) -> None:
        """Notify the callbacks of skorch and, at the end of an epoch, those of scikit-learn.

        Parameters
        ----------
        method_name : str
        **data
            Passed on.

        Raises
        ------
        StopTraining
            If a callback of scikit-learn asks to stop; skorch's loop then ends without an error.
        """
        super().notify(method_name, **data)
        if method_name == "on_epoch_end" and hasattr(self, "_after_epoch") and self._after_epoch():
            raise StopTraining

    @contextlib.contextmanager
    def prepare_training(
        self,
        X: AnySamples,
        y: ArrayLike | None,
        *,
        afresh: bool,
        classes: ArrayLike | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        """Validate the data, and seed and initialize the net, for training in a ``with`` block.

        `fit` and `partial_fit` run skorch's `fit_loop` inside this context. Use it to run your own
        training loop. The callbacks are notified when training begins and ends, and at the end the
        weights are checked. An interrupt leaves the block as KeyboardInterrupt, unless the callback
        EarlyStopping or ``on_interrupt="keep"`` asks for skorch's behavior, which ends training
        without an error.

        Parameters
        ----------
        X : array-like, tensor, dict of arrays, or Dataset
            As in `fit`.
        y : array-like or None
            As in `fit`.
        afresh : bool
            Whether to initialize the net. Otherwise, training continues, and an error restores the
            previous weights.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that can occur, in the order of the outputs, for the first training of a
            classifier.

        Yields
        ------
        X : ndarray, tensor, dict or Dataset
            The validated samples.
        y : ndarray or None
            The targets in the form that the criterion takes; None if X contains them in that form.

        Raises
        ------
        ValueError
            If the data are invalid, or if the weights are not finite at the end.
        """
        self.check_training_readiness()
        reset = afresh or not hasattr(self, "input_shape_")
        X, targets = validate_input(self, X, y, reset=reset, any_form=True)
        encoded = self._encode(targets, afresh, classes)
        # With None, skorch takes the targets inside the dataset, which are encoded already.
        given = None if y is None and _are_equal(encoded, targets) else encoded
        restored_on_error = contextlib.nullcontext() if afresh else self._restored_on_error()
        with restored_on_error, seeded(draw_seed(self.random_state), self.device):
            if afresh:
                self.initialize()
                self._materialize(X)
            if isinstance(X, np.ndarray) and X.dtype != np.float32:
                X = X if takes_integers(self, X) else X.astype(np.float32)
            # skorch's scoring callbacks compare predictions for its datasets with encoded targets.
            self.is_training_ = True
            try:
                self.notify("on_train_begin", X=X, y=given)
                with self._training_context():
                    yield X, given
            except KeyboardInterrupt as interrupt:
                if self.on_interrupt == "raise" and not _is_request_of_a_callback(interrupt):
                    raise
            finally:
                del self.is_training_
            self.notify("on_train_end", X=X, y=given)
            if not has_finite_parameters(self.module_):
                raise ValueError(
                    "Training produced weights that are not finite. X or y may need scaling, or "
                    f"lr={self.lr} may be too large."
                )

    @torch.no_grad()
    def _materialize(self, X: AnySamples) -> None:
        """Let lazy layers learn their sizes from two samples, so that all weights exist."""
        if any(map(is_lazy, self.module_.parameters())):
            self._set_training(False)
            first = select_samples(X, np.arange(min(2, n_samples_of(X))))
            inputs, _ = NetSamples(self, first).take(torch.arange(n_samples_of(first)))
            self.infer(inputs)

    def _training_context(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for skorch's training loop; subclasses may override it."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        """Restore what continued training changes in place, which `atomic_fit` cannot restore."""
        names = (*self._modules, *self._criteria, *self._optimizers)
        parts = [getattr(self, f"{name}_") for name in names]
        parts = [part for part in parts if hasattr(part, "state_dict")]
        states = copy.deepcopy([part.state_dict() for part in parts])
        n_epochs = len(self.history_)
        try:
            yield
        except BaseException:
            for part, state in zip(parts, states, strict=True):
                part.load_state_dict(state)
            del self.history_[n_epochs:]
            raise

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Stop at the first loss that is not finite.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
        **kwargs
            The loss of the batch, and what skorch passes on.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        super().on_batch_end(net, training=training, **kwargs)
        loss = kwargs["loss"].item()
        if not math.isfinite(loss):
            raise ValueError(
                f"The {'training' if training else 'validation'} loss is {loss} in epoch "
                f"{len(self.history)} at lr={self.lr}. X or y may need scaling, or the learning "
                "rate may be too large."
            )

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Pass a batch through the module, in the type and precision that it computes in.

        Parameters
        ----------
        x : tensor, or dict of tensors
        **fit_params
            Passed to the module.

        Returns
        -------
        object
            The outputs of the module. Those in half precision are cast to float32.
        """
        x = module_inputs(self, to_tensor(x, device=self.device))
        with mixed_precision(self.precision, self.device):
            outputs = super().infer(x, **fit_params)
        return in_single_precision(outputs)

    def evaluation_step(self, batch: Any, training: bool = False) -> Any:
        """Compute the outputs for prediction; of a dict of outputs, only the logits are kept.

        Parameters
        ----------
        batch : pair
            Samples and targets.
        training : bool, default=False

        Returns
        -------
        tensor or tuple of tensors
        """
        outputs = super().evaluation_step(batch, training=training)
        return main_output(outputs) if isinstance(outputs, Mapping) else outputs

    def get_dataset(self, X: AnySamples, y: Array | None = None) -> Dataset:
        """Return the data as a dataset, whose own targets are replaced by y if it is given.

        Parameters
        ----------
        X : object
        y : ndarray or None, default=None

        Returns
        -------
        torch.utils.data.Dataset
        """
        dataset = super().get_dataset(X, y)
        return LabeledDataset(dataset, y) if is_dataset(X) and y is not None else dataset

    def set_params(self, **params: Any) -> Self:
        """Set parameters; see :meth:`skorch.NeuralNet.set_params`.

        Parameters
        ----------
        **params
            Values by name. A parameter of the module discards the weights of a trained net, with a
            warning.

        Returns
        -------
        self : object
        """
        before = getattr(self, "module_", None)
        was_trained = self.initialized_ and self.history_ is not None and len(self.history_) > 0
        super().set_params(**params)
        if was_trained and getattr(self, "module_", None) is not before:
            names = ", ".join(sorted(name for name in params if "__" in name))
            warn_caller(
                f"set_params({names}) has rebuilt the module, so its trained weights are lost. "
                "Call fit before you predict."
            )
        return self

    def predict_proba(self, X: AnySamples) -> FloatArray:
        """Return the outputs after the nonlinearity that the criterion implies.

        Parameters
        ----------
        X : array-like, tensor, dict of arrays, or Dataset
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
        """
        self.check_is_fitted()
        # skorch scores its validated datasets during fit.
        if not (is_dataset(X) and self._scores_encoded(X)):
            X = validate_input(self, X, reset=False, any_form=True)
        return super().predict_proba(X)

    def _scores_encoded(self, X: AnySamples) -> bool:
        """Return whether X is a dataset of skorch's training loop, whose targets are encoded."""
        return is_dataset(X) and hasattr(self, "is_training_")

    def score(
        self, X: AnySamples, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the accuracy of a classifier or the coefficient of determination of a regressor.

        Parameters
        ----------
        X : array-like, tensor, dict of arrays, or Dataset
            As in `fit`.
        y : array-like, default=None
            As in `fit`.
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        float
        """
        if y is None and is_dataset(X):
            y = targets_in(X)
        return super().score(X, y, sample_weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return copied_net(self, memo)

    def __copy__(self) -> Self:
        return copied_net(self)  # skorch would pickle the net

    def __getstate__(self) -> dict[str, Any]:
        # skorch stores the parts that it initializes as bytes. Module instances that the user has
        # passed are stored in the same way, because skops does not accept tensors.
        given = [n for n in ("module", "criterion") if isinstance(vars(self).get(n), nn.Module)]
        prefixes = self.cuda_dependent_attributes_
        stored = object.__new__(type(self))
        stored.__dict__.update(vars(self), cuda_dependent_attributes_=[*prefixes, *given])
        state = super(ConventionalNet, stored).__getstate__()
        state["cuda_dependent_attributes_"] = prefixes
        for name in _TRANSIENT:
            state.pop(name, None)
        return state


def _are_equal(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and np.array_equal(first, second)


def copied_net(net: Any, memo: dict[int, Any] | None = None) -> Any:
    """Return a copy of a skorch net that shares no state with it, without pickling anything.

    skorch pickles a net to copy it, which fails for modules with lambdas or local classes.

    Parameters
    ----------
    net : skorch.NeuralNet
    memo : dict or None, default=None
        Copies that have already been made, as for :func:`copy.deepcopy`.

    Returns
    -------
    skorch.NeuralNet
        Its optimizer works on the parameters of its own module.
    """
    memo = {} if memo is None else memo
    copied = object.__new__(type(net))
    memo[id(net)] = copied
    state = {name: value for name, value in vars(net).items() if name not in _TRANSIENT}
    for callback in state.get("_skl_callbacks", []):
        memo[id(callback)] = callback  # shared, as by scikit-learn's clone
    # Modules come first, because only `copied_module` can copy a compiled one.
    for value in state.values():
        if isinstance(value, nn.Module) and id(value) not in memo:
            memo[id(value)] = copied_module(value, memo)
    vars(copied).update(copy.deepcopy(state, memo))
    return copied


class StopTraining(KeyboardInterrupt):
    """Raised by a callback to end the training loop of a net without an error."""


class _Interrupt(BaseException):
    """A KeyboardInterrupt in the form of an exception that skorch does not catch."""


@contextlib.contextmanager
def interrupts_raised(net: skorch.NeuralNet) -> Iterator[None]:
    """Let Ctrl-C end the training of a net in a ``with`` block with a KeyboardInterrupt.

    By itself, skorch ends its training loop and treats the net as fitted. It does the same at the
    request of its callback EarlyStopping, and this block does not change that. The nets of this
    package need no such block.

    Parameters
    ----------
    net : skorch.NeuralNet
        In the block, its method `fit_loop` is replaced.
    """
    loop = net.fit_loop

    def fit_loop(*args: Any, **kwargs: Any) -> Any:
        try:
            return loop(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            if _is_request_of_a_callback(interrupt):
                raise
            raise _Interrupt from interrupt

    vars(net)["fit_loop"] = fit_loop
    try:
        yield
    except _Interrupt as interrupt:
        raise KeyboardInterrupt from interrupt.__cause__
    finally:
        del vars(net)["fit_loop"]


def _is_request_of_a_callback(interrupt: KeyboardInterrupt) -> bool:
    """Return whether a callback has raised it: StopTraining, or skorch's EarlyStopping."""
    if isinstance(interrupt, StopTraining):
        return True
    traceback: TracebackType | None = interrupt.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    code = traceback.tb_frame.f_code
    return (
        code is EarlyStopping.on_epoch_end.__code__
        and code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    )
