"""What the unlearners of networks share: the request, the original net, and delegation."""

import copy
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ...neural import (
    class_codes,
    class_labels,
    draw_seed,
    fitted_copy,
    has_finite_parameters,
    log_probabilities,
    seeded,
    to_tensor,
    torch_generator,
    validate_input,
)
from ...utils._atomic import atomic_fit
from ...utils._random import local_random_state
from ...utils._rows import check_forget
from ..steps._fine_tuning import OPTIMIZERS, Recipe, finetune
from ..steps._losses import row_losses
from ..steps._progress import Progress

_MAX_EPOCHS = 5
_MAX_ROW_VISITS = 50_000


@dataclass(frozen=True)
class Request:
    """What is to be forgotten, by which net.

    Attributes
    ----------
    net : skorch.NeuralNetClassifier
        Changed in place.
    X : tensor of shape (n, ...)
        The training data on the net's device.
    codes : int64 tensor of shape (n,)
        Labels as outputs of the net.
    forget, retain : int64 tensors
        The rows of X to forget, and the others, on the CPU.
    rng : RandomState
    generator : torch.Generator
    progress : Progress
    """

    net: Any
    X: torch.Tensor
    codes: torch.Tensor
    forget: torch.Tensor
    retain: torch.Tensor
    rng: np.random.RandomState
    generator: torch.Generator
    progress: Progress

    @property
    def module(self):
        """The network itself."""
        return self.net.module_

    @property
    def n_classes(self):
        """Number of classes that the net knows."""
        return len(class_labels(self.net))

    @cached_property
    def present(self):
        """Which classes have retained rows: tensor of shape (n_classes,) of bool."""
        counts = torch.bincount(self.codes[self.retain], minlength=self.n_classes)
        return counts > 0

    def batch_size(self, asked):
        """Return the batch size asked for, or the one of the net."""
        size = self.net.batch_size if asked is None else asked
        return len(self.X) if size == -1 else size  # skorch's name for all rows

    def row_losses(self, outputs, targets):
        """Cross-entropy of each row from the outputs of the module."""
        return row_losses(log_probabilities(self.net, outputs), targets)


class BaseUnlearner(CallbackSupportMixin, ClassifierMixin, BaseEstimator, ABC):
    """A classifier that forgets some of its training rows."""

    _parameter_constraints = {
        "estimator": "no_validation",
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, forget=None):
        """Train on all rows unless that has been done, then forget some of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            The rows that the original model was trained on, or will be.
        y : array-like of shape (n_samples,)
            Their labels.
        forget : array-like of bool of shape (n_samples,), or of int, default=None
            Mask or indices of the rows to forget. None asks for nothing: the original model comes
            back as it is. In cross-validation it has to be a mask, which is sliced with the rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, the data are not finite or of the wrong shape, the
            request is empty, selects all rows or one that is not there, fewer than two classes
            would be left, or steps are so large that weights are no longer finite.
        TypeError
            If `estimator` is no skorch classifier, or `forget` neither a mask nor indices.
        """
        return self._fit(X, y, forget)

    def _fit(self, X, y, forget, **extra):
        data = {"X": X, "y": y, "metadata": None}  # scorers of callbacks know no "forget"
        X, y = validate_input(self, X, y, reset=True)
        forget = check_forget(forget, len(X))
        rng = local_random_state(self.random_state)
        original = fitted_copy(self.estimator, X, y, random_state=rng)
        codes = class_codes(original, y)
        _check_shape(original, X)
        net = copy.deepcopy(original)
        known = {
            "classes_": class_labels(original),
            "forget_idx_": forget,
            "original_estimator_": original,
        }
        progress = Progress(self, net, data, known)
        if len(forget):
            request = _make_request(net, X, codes, forget, rng, progress)
            with seeded(draw_seed(rng), net.device):
                fitted = self._unlearn(request, **extra)
            if not has_finite_parameters(net.module_):
                raise ValueError(
                    f"{type(self).__name__} has led to weights that are not finite: its steps may "
                    "be too large."
                )
            net.module_.eval()
        else:
            progress.begin(0)
            fitted = self._nothing_to_forget(net)
        progress.end()
        vars(self).update(known | {"estimator_": net} | fitted)
        return self

    @abstractmethod
    def _unlearn(self, request):
        """Change the net of a request and return the fitted attributes that this gives."""

    def _nothing_to_forget(self, net):
        """Return the attributes that `_unlearn` returns for a request without rows."""
        return {"history_": []}

    def predict(self, X):
        """Predict classes by the unlearned model.

        Parameters
        ----------
        X : array-like
            Rows as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.estimator_.predict(validate_input(self, X, reset=False))

    def predict_proba(self, X):
        """Predict probabilities of the classes by the unlearned model.

        Parameters
        ----------
        X : array-like
            Rows as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(validate_input(self, X, reset=False))

    def _warn(self, message, category=UserWarning):
        """Warn whoever called `fit`; to be called from `_unlearn` itself."""
        warnings.warn(message, category, stacklevel=8)

    def _report(self, request, record):
        """Print a record if asked to, and return whether a callback wants no more."""
        if self.verbose:
            values = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
            print(f"{type(self).__name__}: {values}")
        return request.progress.step()


class BaseFineTuner(BaseUnlearner):
    """An unlearner that trains on rows, inputs or labels of its own choice."""

    _parameter_constraints = {
        **BaseUnlearner._parameter_constraints,
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
    }

    def __init__(
        self,
        estimator=None,
        *,
        lr=1e-3,
        weight_decay=0.0,
        max_epochs="auto",
        batch_size=None,
        optimizer="adamw",
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.random_state = random_state
        self.verbose = verbose

    def _loss(self, request, outputs, targets):
        return request.row_losses(outputs, targets).mean()

    def _train(self, request, n_rows, batch, after_epoch=None, **options):
        """Train as the parameters say and return the fitted attributes."""

        def finish(record):
            if after_epoch is not None:
                after_epoch(record)
            return self._report(request, record)

        recipe = self._recipe(request, n_rows)
        request.progress.begin(recipe.n_epochs)
        history = finetune(
            request.module,
            n_rows,
            batch,
            lambda outputs, targets: self._loss(request, outputs, targets),
            recipe,
            request.generator,
            after_epoch=finish,
            **options,
        )
        return {"history_": history}

    def _recipe(self, request, n_rows):
        n_epochs = self.max_epochs
        if isinstance(n_epochs, str):
            n_epochs = min(_MAX_EPOCHS, max(1, _MAX_ROW_VISITS // n_rows))
        return Recipe(
            lr=self.lr,
            n_epochs=n_epochs,
            batch_size=request.batch_size(self.batch_size),
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
        )


def _make_request(net, X, codes, forget, rng, progress):
    retained = np.ones(len(X), dtype=bool)
    retained[forget] = False
    if len(np.unique(codes[retained])) < 2:
        raise ValueError("forget leaves rows of fewer than two classes.")
    return Request(
        net=net,
        X=to_tensor(X, net),
        codes=to_tensor(codes, net),
        forget=torch.as_tensor(forget),
        retain=torch.as_tensor(np.flatnonzero(retained)),
        rng=rng,
        generator=torch_generator(draw_seed(rng)),
        progress=progress,
    )


def _check_shape(net, X):
    known = getattr(net, "input_shape_", X.shape[1:])
    if known != X.shape[1:]:
        raise ValueError(
            f"estimator was fitted to rows of shape {known}, but the rows of X have {X.shape[1:]}."
        )
