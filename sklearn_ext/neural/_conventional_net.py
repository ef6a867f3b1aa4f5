"""Make skorch nets follow scikit-learn's conventions."""

import contextlib
import copy
from abc import abstractmethod
from collections.abc import Iterator
from typing import Self

import skorch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from skorch.utils import is_dataset
from torch import nn

from ..utils._atomic import atomic_fit
from ..utils._random import draw_seed
from ..utils._typing import Array, FloatArray
from ._device import seeded
from ._input import validate_input
from ._modules import default_module, has_finite_parameters

AUTO = "auto"


class ConventionalNet(skorch.NeuralNet):
    """Base class of the two nets: validation, seeding and the default module."""

    module_: nn.Module

    @abstractmethod
    def _encode(self, y: ArrayLike, afresh: bool, classes: ArrayLike | None) -> Array:
        """Encode y for the criterion; if `afresh`, set the attributes of the encoding first."""

    def __sklearn_is_fitted__(self) -> bool:
        return self.initialized_ and hasattr(self, "n_outputs_")

    def _get_param_names(self) -> list[str]:
        # skorch's private attributes are not parameters that a user can set.
        return [name for name in super()._get_param_names() if not name.startswith("_")]

    def check_data(self, X: Array, y: Array) -> None:
        """Accept the data without a further check, because `fit` has validated them.

        Parameters
        ----------
        X : ndarray
        y : ndarray
        """

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
                self.module_ = copy.deepcopy(self.module)
            return self
        params = self.get_params_for("module")
        self.module_ = default_module(self.input_shape_, self.n_outputs_, **params)
        return self

    @atomic_fit
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the network from its initial weights.

        The initial weights are random, or those of `module` if it is an instance. With
        `warm_start`, a fitted net continues from its current weights instead.

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
            If X or y contains NaN or infinity, or if their shapes do not match.
        """
        afresh = not (self.warm_start and self.initialized_)
        with self.prepare_training(X, y, afresh=afresh) as (X, y):
            super().partial_fit(X, y)
        return self

    @atomic_fit
    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Continue training for `max_epochs` epochs.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            As in `fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that can occur, for the first call of a classifier.

        Returns
        -------
        self : object
            The fitted net.
        """
        afresh = not self.initialized_
        with self.prepare_training(X, y, afresh=afresh, classes=classes) as (X, y):
            super().partial_fit(X, y)
        return self

    @contextlib.contextmanager
    def prepare_training(
        self, X: ArrayLike, y: ArrayLike, *, afresh: bool, classes: ArrayLike | None = None
    ) -> Iterator[tuple[FloatArray, Array]]:
        """Validate the data, and seed and initialize the net, for training in a ``with`` block.

        `fit` and `partial_fit` run skorch's training loop inside this context. Use it to run your
        own training loop. At the end of the block, the weights are checked.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        y : array-like
            As in `fit`.
        afresh : bool
            Whether to initialize the net. Otherwise, training continues, and an error restores the
            previous weights.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that can occur, for the first training of a classifier.

        Yields
        ------
        X : ndarray of float32
            The validated samples.
        y : ndarray
            The targets in the form that the criterion takes.

        Raises
        ------
        ValueError
            If the data are invalid, or if the weights are not finite at the end.
        """
        X, y = validate_input(self, X, y, reset=afresh)
        y = self._encode(y, afresh, classes)
        restored_on_error = contextlib.nullcontext() if afresh else self._restored_on_error()
        with restored_on_error, seeded(draw_seed(self.random_state), self.device):
            if afresh:
                self.initialize()
                self._check_outputs(X[:1])
            with self._training_context():
                yield X, y
            if not has_finite_parameters(self.module_):
                raise ValueError(
                    "Training produced weights that are not finite. X or y may need scaling, or "
                    f"lr={self.lr} may be too large."
                )

    def _training_context(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for skorch's training loop; subclasses may override it."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        """Restore what continued training changes in place, which `atomic_fit` cannot restore."""
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

    def _check_outputs(self, sample: Array) -> None:
        """Reject outputs whose shape the criterion would broadcast or `predict` could not map."""
        outputs = self.forward(sample)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if tuple(outputs.shape) != (1, self.n_outputs_):
            name, shape = type(self.module_).__name__, tuple(outputs.shape)
            raise ValueError(
                f"{name} returns outputs of shape {shape} for one sample, but y requires "
                f"(1, {self.n_outputs_}): one output for each class or target."
            )

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Return the outputs after the nonlinearity that the criterion implies.

        Parameters
        ----------
        X : array-like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
        """
        if is_dataset(X):  # skorch scores its validated training data during fit
            return super().predict_proba(X)
        check_is_fitted(self)
        return super().predict_proba(validate_input(self, X, reset=False))
