"""How nets of skorch come to keep scikit-learn's conventions."""

import contextlib
import copy

from sklearn.utils.validation import check_is_fitted
from skorch.utils import is_dataset

from ..utils._atomic import atomic_fit
from ..utils._random import draw_seed
from ._device import seeded
from ._input import validate_input
from ._modules import default_module, has_finite_parameters

AUTO = "auto"


class ConventionalNet:
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
        if not (isinstance(self.module, str) and self.module == AUTO):
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
